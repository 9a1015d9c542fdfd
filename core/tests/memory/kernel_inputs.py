"""What tests give to kernels: pages, and numbers of pages."""

from __future__ import annotations

import random
from array import array

PAGE = 4096
FULL, ZERO = 0x28, 0x22
"""Flags in the records of a page in full, and of one that is zero."""
FULL_BYTES, ZERO_BYTES = 8 + PAGE, 9
"""What such records take."""


def numbers(*values: int) -> memoryview:
    return memoryview(array("q", values))


def patterned(pages: int) -> bytes:
    """Pages that all differ, every third of them zero."""
    source = random.Random(pages)
    return b"".join(
        bytes(PAGE) if page % 3 == 1 else source.randbytes(PAGE) for page in range(pages)
    )
