"""Arrays as this distribution uses them: pages by their numbers, and marks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from transship.memory.ramblock import RAMBlock

Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Numbers of pages or positions of bytes; ``.data`` is what kernels take."""

Marks: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
"""One truth value for each page."""


def find_holes(block: RAMBlock, pages: Numbers) -> Marks:
    """Which of some ascending pages are known to be zero without being read."""
    first, end = int(pages[0]), int(pages[-1]) + 1
    return np.frombuffer(block.find_holes(first, end - first), np.bool_)[pages - first]
