"""The human monitor's words: lines as people type them, and text with QEMU's labels."""
