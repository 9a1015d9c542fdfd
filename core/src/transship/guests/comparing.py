"""A dirty log that compares memory with a copy of it: for where nobody notices who writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.errors import LocalError
from transship.guests.dirtylog import MarkedDirtyLog
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transship.memory.bitmap import DirtyBitmap

_COMPARED_BYTES: Final = 256 << 10
"""Compared at once: stays in a core's own cache between being copied and being compared."""


class ComparingDirtyLog(MarkedDirtyLog):
    """Finds out what was written by comparing, and lets the copy be sent.

    Works everywhere, and sees everything, whoever writes however. The price: as much memory again
    as the guest has written so far, and for each :meth:`sync` the time of reading all of both, the
    last one while the guest stands still.

    A page that changes and changes back between two comparisons looks unchanged. So what is sent
    must never be what it was in between: sections read the copy (:meth:`readable`), which changes
    in :meth:`sync` alone.

    Args:
        blocks: The guest's RAM blocks; they stay as they are while it logs.
    """

    name = "comparing"

    def __init__(self, blocks: Iterable[RAMBlock]) -> None:
        super().__init__(blocks)
        self._copies: dict[RAMBlock, RAMBlock] = {}
        self._are_read: set[RAMBlock] = set()

    def start(self) -> None:
        """Copy all memory; takes a second or two a GiB.

        Raises:
            LocalError: It logs already, for another migration; or there is no memory for the copy.
        """
        super().start()
        try:
            for block in self._blocks:
                self._copies[block] = copy = _empty_copy(block)
                for _ in _update(copy, block):
                    pass
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise LocalError(
                    "there is no memory for a copy of the guest's RAM",
                    expected=f"{sum(block.used_length for block in self._blocks)} bytes",
                    found=error.strerror or str(error),
                ) from error
            raise

    def readable(self, block: RAMBlock) -> RAMBlock:
        """The copy of a block, as it was when it was last compared.

        Raises:
            KeyError: It does not log, or not this block.
        """
        copy = self._copies[block]
        self._are_read.add(block)
        return copy

    def sync(self, block: RAMBlock, bitmap: DirtyBitmap) -> int:
        """Mark what has changed since the last time; returns how much is new in ``bitmap``.

        Raises:
            LocalError: It does not log; or whoever asks reads the pages from where the guest
                writes them, so that they cannot be what this compares with.
        """
        fresh = super().sync(block, bitmap)
        if block not in self._are_read:
            raise LocalError(
                "a dirty log that compares was asked by who does not read its copy",
                section=block.idstr,
                expected="pages that are read from DirtyLog.readable()",
                found="pages that change while they are sent",
            )
        for page in _update(self._copies[block], block):
            fresh += not bitmap.is_dirty(page)
            bitmap.mark(page)
        return fresh

    def stop(self) -> None:
        """Forget the copy, which goes with the last who reads it; idempotent."""
        super().stop()
        self._copies = {}
        self._are_read = set()


def _empty_copy(block: RAMBlock) -> RAMBlock:
    """Where a page of zeros needs no memory until it is something else."""
    return RAMBlock.allocate(
        block.idstr,
        block.used_length,
        backing="anonymous",
        huge_pages=False,
        page_size=block.page_size,
    )


def _update(copy: RAMBlock, block: RAMBlock) -> Iterator[int]:
    """Let the copy be as the block is, and yield the pages that were not alike."""
    size = block.page_size
    step = max(_COMPARED_BYTES // size, 1) * size
    with copy.view as old, block.view as live:
        for start in range(0, block.used_length, step):
            # What is compared must be what is copied, and the guest writes on.
            now = bytearray(live[start : start + step])
            if now == old[start : start + step]:
                continue
            for at in range(0, len(now), size):
                page = now[at : at + size]
                where = slice(start + at, start + at + size)
                if page != old[where]:
                    old[where] = page
                    yield (start + at) // size
