"""Runs out of arrays of pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transship.memory.runs import PageRun

if TYPE_CHECKING:
    from transship.memory.arrays import Numbers


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
