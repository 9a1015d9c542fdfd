"""Arrays as this distribution uses them: pages by their numbers, and marks for them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from transship.memory.runs import PageRun

Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Numbers of pages or positions of bytes; ``.data`` is what kernels take."""

Marks: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
"""One truth value for each page."""


def runs_of(pages: Numbers, part: int = 0) -> list[PageRun]:
    """Neighbours in ``pages`` that are neighbours in memory, together.

    Args:
        pages: Numbers.
        part: If given, a run ends also after every so many pages.
    """
    count = len(pages)
    if not count:
        return []
    if not part and int(pages[-1]) - int(pages[0]) == count - 1 and is_run(pages):
        return [PageRun(int(pages[0]), count)]
    breaks = pages[1:] - pages[:-1] != 1
    if part:
        breaks[part - 1 :: part] = True
    ends = (np.flatnonzero(breaks) + 1).tolist()
    starts = [0, *ends]
    ends.append(count)
    firsts = pages[starts].tolist()
    return [
        PageRun(first, end - start) for first, start, end in zip(firsts, starts, ends, strict=True)
    ]


def is_run(pages: Numbers) -> bool:
    """Whether these are consecutive numbers."""
    return bool((pages[1:] - pages[:-1] == 1).all())
