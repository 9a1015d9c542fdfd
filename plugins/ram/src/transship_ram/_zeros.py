"""Which pages are zero: some are known to be without being read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transship.memory.arrays import Marks, Numbers
    from transship.memory.kernels import Kernels
    from transship.memory.ramblock import RAMBlock


def find_holes(block: RAMBlock, pages: Numbers) -> Marks:
    """Which of some ascending pages are known to be zero without being read."""
    if block.is_plain:
        return np.zeros(len(pages), np.bool_)
    first, end = int(pages[0]), int(pages[-1]) + 1
    return np.frombuffer(block.find_holes(first, end - first), np.bool_)[pages - first]


def find_zeros(kernels: Kernels, block: RAMBlock, pages: Numbers) -> Marks:
    """Which of some ascending pages are zero, at least one; of holes that is not read."""
    zeros = find_holes(block, pages)
    present = pages[~zeros] if zeros.any() else pages
    if len(present):
        with block.view as view:
            found = kernels.find_zero_pages(view, block.page_size, present.data)
        zeros[~zeros] = np.frombuffer(found, np.bool_)
    return zeros
