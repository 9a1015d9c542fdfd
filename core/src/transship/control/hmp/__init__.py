"""The human monitor (HMP): lines as people type them, and text with QEMU's labels."""
