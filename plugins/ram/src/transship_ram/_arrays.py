"""Arrays as this distribution uses them: pages by their numbers, and marks for them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from transship.memory.runs import PageRun

Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Numbers of pages or positions of bytes; ``.data`` is what kernels take."""

Marks: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
"""One truth value for each page."""


def runs_of(pages: Numbers) -> list[PageRun]:
    """Neighbours in ``pages`` that are neighbours in memory, together."""
    if not len(pages):
        return []
    breaks = np.flatnonzero(pages[1:] - pages[:-1] != 1) + 1
    starts = [0, *breaks.tolist()]
    ends = [*starts[1:], len(pages)]
    firsts = pages[starts].tolist()
    return [
        PageRun(first, end - start) for first, start, end in zip(firsts, starts, ends, strict=True)
    ]
