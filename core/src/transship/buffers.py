"""What counts as a run of bytes here."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview
"""Anything contiguous that can be sent or parsed; a borrowed one is never kept after the call."""
