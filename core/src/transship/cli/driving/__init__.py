"""Drives a migration over QMP, of a QEMU or of a guest that we host."""
