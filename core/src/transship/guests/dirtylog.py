"""A dirty log of explicit marks: for a machine that knows itself what it writes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from transship.abc.guest import DirtyLog
from transship.errors import LocalError
from transship.memory.bitmap import DirtyBitmap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.memory.ramblock import RAMBlock


class MarkedDirtyLog(DirtyLog):
    """Logs what the embedder marks, from any thread.

    Write first, then mark: a mark that comes before its write may be taken, and the page be
    read, in between, and then the write is lost. While nothing is logged a mark costs only the
    call, so it may stay in the code for ever.

    Args:
        blocks: The guest's RAM blocks; their used lengths stay the same while it logs.
    """

    name = "marked"

    def __init__(self, blocks: Iterable[RAMBlock]) -> None:
        self._blocks = tuple(blocks)
        self._lock = threading.Lock()
        self._marked: dict[RAMBlock, DirtyBitmap] | None = None

    @property
    def is_logging(self) -> bool:
        """Whether marks are kept at the moment."""
        return self._marked is not None

    def mark(self, block: RAMBlock, first: int, count: int = 1) -> None:
        """Note that pages have been written.

        Args:
            block: One of the guest's.
            first: Index of the first page.
            count: How many.

        Raises:
            IndexError: The block has no such pages (noticed while it logs).
            KeyError: It is another guest's (noticed while it logs).
        """
        if self._marked is None:
            return
        with self._lock:
            if self._marked is not None:
                self._marked[block].mark(first, count)

    def start(self) -> None:
        """Begin to keep marks, none at first.

        Raises:
            LocalError: It logs already, for another migration.
        """
        with self._lock:
            if self._marked is not None:
                raise LocalError(
                    "the dirty log is in use",
                    expected="one migration of a guest at a time",
                    found="another one that has begun",
                )
            self._marked = {block: DirtyBitmap(block.pages) for block in self._blocks}

    def sync(self, block: RAMBlock, bitmap: DirtyBitmap) -> int:
        """Move the marks of a block into ``bitmap``; returns how many pages are new there.

        Raises:
            LocalError: It does not log.
        """
        with self._lock:
            if self._marked is None:
                raise LocalError("the dirty log was asked for marks that it does not keep")
            marked = self._marked[block]
            if marked.is_clean:
                return 0
            taken = marked.take()
        return bitmap.merge(taken)

    def stop(self) -> None:
        """Keep no more marks, and forget those that were kept; idempotent."""
        with self._lock:
            self._marked = None
