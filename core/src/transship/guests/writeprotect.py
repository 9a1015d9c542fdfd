"""A dirty log kept by the kernel: for memory that native code writes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transship.guests.dirtylog import MarkedDirtyLog
from transship.memory.protection import WriteProtection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.memory.bitmap import DirtyBitmap
    from transship.memory.ramblock import RAMBlock


@dataclass(frozen=True, slots=True)
class MappingElsewhere:
    """Where another process has mapped the memory of a block, to write to it.

    Args:
        block: The block; its memory is shared with that process.
        address: Of its first byte, in that process.
        protection: Of that process' memory; borrowed.
    """

    block: RAMBlock
    address: int
    protection: WriteProtection


class WriteProtectDirtyLog(MarkedDirtyLog):
    """Logs what is written through the blocks' own mappings, and what the embedder marks.

    The kernel notices a page's first write after each :meth:`sync`, which costs the writer about a
    microsecond. What it cannot notice has to be marked, after it has happened: writes to the file
    that holds the memory (``pwrite``), what punches holes into it
    (:meth:`~transship.memory.ramblock.RAMBlock.discard`), and writes of other processes, forked
    ones among them, unless their mappings are named here.

    Args:
        blocks: The guest's RAM blocks; they stay as they are while it logs.
        elsewhere: Mappings of them in other processes.
    """

    name = "write-protect"

    def __init__(
        self, blocks: Iterable[RAMBlock], elsewhere: Iterable[MappingElsewhere] = ()
    ) -> None:
        super().__init__(blocks)
        self._elsewhere = tuple(elsewhere)
        self._own: WriteProtection | None = None
        self._mappings: tuple[MappingElsewhere, ...] = ()

    def start(self) -> None:
        """Protect all memory.

        Takes some 20 ms a GiB, much less where its pages are huge, and a little longer where an
        earlier log has just been stopped.

        Raises:
            LocalError: It logs already, for another migration; or the kernel refuses.
        """
        super().start()
        try:
            self._protect()
        except BaseException:
            self.stop()
            raise

    def _protect(self) -> None:
        _wait_for_releases()
        self._own = own = WriteProtection.of_this_process()
        here = [MappingElsewhere(block, block.address, own) for block in self._blocks]
        self._mappings = (*here, *self._elsewhere)
        for mapping in self._mappings:
            mapping.protection.track(mapping.address, mapping.block.used_length)

    def sync(self, block: RAMBlock, bitmap: DirtyBitmap) -> int:
        """Move what was marked and what was written into ``bitmap``; returns how much is new there.

        Raises:
            LocalError: It does not log, or the kernel does not tell any more: a process that had
                the memory has gone, or the memory is another.
        """
        fresh = super().sync(block, bitmap)
        for mapping in self._mappings:
            if mapping.block is block:
                fresh += mapping.protection.take(
                    mapping.address, block.used_length, block.page_size, bitmap.marks
                )
        return fresh

    def stop(self) -> None:
        """Protect nothing any more, and forget what was logged; idempotent.

        The protection is taken away in the background, in about the time that it took to set up:
        the guest does not wait for it.
        """
        super().stop()
        own, self._own = self._own, None
        mappings, self._mappings = self._mappings, ()
        if own is not None:
            _release(own, mappings)


_releasing: set[threading.Thread] = set()


def _release(own: WriteProtection, mappings: tuple[MappingElsewhere, ...]) -> None:
    def release() -> None:
        for mapping in mappings:
            mapping.protection.untrack(mapping.address, mapping.block.used_length)
        own.close()
        _releasing.discard(thread)

    thread = threading.Thread(target=release, name="write-protection-release", daemon=True)
    _releasing.add(thread)
    thread.start()


def _wait_for_releases() -> None:
    """What is still being released could lie where new memory has been mapped meanwhile."""
    for thread in tuple(_releasing):
        thread.join()
