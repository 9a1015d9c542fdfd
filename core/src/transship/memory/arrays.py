"""Arrays of pages, for those who have numpy: kernels and sections."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Numbers of pages or positions of bytes; ``.data`` is what kernels take."""

Marks: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
"""One truth value for each page."""


def last_of_each(pages: Numbers) -> Marks:
    """Marks for each page whether it does not come again later: the last copy wins."""
    if bool((pages[1:] > pages[:-1]).all()):
        return np.ones(len(pages), np.bool_)
    marks: Marks = np.zeros(len(pages), np.bool_)
    _, places = np.unique(pages[::-1], return_index=True)
    marks[len(pages) - 1 - places] = True
    return marks
