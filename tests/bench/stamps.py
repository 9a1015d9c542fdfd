"""What the guest of :mod:`bench.load` has stamped, and whether memory can be its, a little later.

A guest that runs on at its destination is not what it was; but what it writes is known. Beyond the
firmware's memory nothing changes but the stamps, and each round of them follows the last one: a
page that was not sent again when it should have been keeps an old one, and stands out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bench.images import WORDS, Words, differing_pages, mapped
from bench.load import FIRST_BYTE, STAMP_OFFSET
from bench.workloads import PAGE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.workloads import Workload

FIRMWARE_BYTES: Final = 1 << 20
"""Below this the firmware writes while a guest runs, and the guest keeps its code."""

_STAMP_WORD: Final = STAMP_OFFSET // 8
_STAMP_BITS: Final = np.uint64(0xFFFF_FFFF)


def last_stamp(path: Path, work: Workload) -> int:
    """What the last page of the working set says; it changes whenever a round is complete."""
    with path.open("rb") as file:
        file.seek(FIRST_BYTE + work.working_set_bytes - PAGE + STAMP_OFFSET)
        return int.from_bytes(file.read(4), "little")


def is_later(before: Path, after: Path, work: Workload) -> bool:
    """Whether the same guest can have made one memory of the other by running on.

    Args:
        before: The memory, at the end of the first round or later.
        after: The other one.
        work: What the guest does.
    """
    first, count = FIRST_BYTE // PAGE, work.working_set_bytes // PAGE
    changed = differing_pages(before, after, work.ram_bytes)
    is_beyond = (changed >= FIRMWARE_BYTES // PAGE) & (
        (changed < first) | (changed >= first + count)
    )
    if is_beyond.any():
        return False
    part = slice(first * WORDS, (first + count) * WORDS)
    with mapped(before, work.ram_bytes) as one, mapped(after, work.ram_bytes) as other:
        then, now = one[part].reshape(-1, WORDS), other[part].reshape(-1, WORDS)
        old_stamps, stamps = (pages[:, _STAMP_WORD] & _STAMP_BITS for pages in (then, now))
        rest = then ^ now
    rest[:, _STAMP_WORD] &= ~_STAMP_BITS
    return not rest.any() and is_round(stamps) and bool((old_stamps <= stamps).all())


def is_round(stamps: NDArray[Words]) -> bool:
    """Whether stamps are those of one round up to some page, and of the one before after it."""
    steps = np.diff(stamps.astype(np.int64))
    return bool((steps <= 0).all() and steps.sum() >= -1)
