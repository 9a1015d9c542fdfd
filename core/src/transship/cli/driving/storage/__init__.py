"""Copies a machine's disks beside its migration: mirror jobs on the source, NBD between the two."""
