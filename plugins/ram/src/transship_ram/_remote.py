"""The source's side of memory that is written remotely: which runs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from transship.abc import RemoteRun, RemoteWork
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from transship.memory.arrays import Numbers
    from transship.memory.ramblock import RAMBlock

WORK_BYTES: Final = 16 * MIB
"""Guest memory looked at for one piece of work."""

_MOST_GAP_BYTES: Final = 32 * 1024
"""What lies between two dirty pages that are no further apart is written with them: an operation
costs as much as some sixteen pages."""

_RUN_BYTES: Final = 4 * MIB


def remote_work(block: RAMBlock, pages: Numbers) -> RemoteWork:
    """Write pages of a block.

    Args:
        block: Where they are.
        pages: Their numbers, ascending, at least one.
    """
    size = block.page_size
    breaks = np.flatnonzero(np.diff(pages) > _MOST_GAP_BYTES // size) + 1
    firsts = pages[np.concatenate(([0], breaks))]
    ends = pages[np.concatenate((breaks - 1, [len(pages) - 1]))] + 1
    step = _RUN_BYTES // size
    return RemoteWork(
        [
            RemoteRun(block.idstr, start * size, (min(start + step, end) - start) * size)
            for first, end in zip(firsts.tolist(), ends.tolist(), strict=True)
            for start in range(first, end, step)
        ]
    )
