"""The source's side: what of guest RAM goes into which record."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from transship.abc import DirtyLog, Guest, Pending, Segments
from transship.errors import LocalError
from transship.memory.bitmap import DirtyBitmap
from transship.wire.constants import EOS_WORD
from transship.wire.limits import MIB
from transship_ram._pack import Packer
from transship_ram._scan import Scan
from transship_ram._table import blocks_in_order, encode_table

if TYPE_CHECKING:
    from transship.memory.ramblock import RAMBlock

_SCANNED_BYTES: Final = 16 * MIB
"""Guest memory looked at for one buffer at most, however little comes out: a guest full of zeros
keeps the engine waiting for a few milliseconds, not for seconds."""


class RAMSaver:
    """Sends the RAM of one guest, in rounds.

    Args:
        guest: Whose RAM; nothing of it is touched before :meth:`begin`.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._blocks: list[RAMBlock] = []
        self._bitmaps: list[DirtyBitmap] = []
        self._scan = Scan(())
        self._log: DirtyLog | None = None
        self._packer: Packer | None = None
        self._transferred_bytes = 0
        self._dirtied_pages = 0
        self._syncs = 0

    def begin(self) -> Segments:
        """Yield the block table; from now on every page is to be sent, and writes are logged."""
        self._blocks = blocks_in_order(self._guest)
        log = self._guest.dirty_log()
        log.start()
        self._log = log  # only now is it ours to stop
        self._syncs = 1
        self._bitmaps = [DirtyBitmap(block.pages) for block in self._blocks]
        for bitmap in self._bitmaps:
            bitmap.mark_all()
        self._scan = Scan(self._bitmaps)
        self._packer = Packer(self._guest.page_size)
        yield encode_table(self._blocks)
        yield EOS_WORD
        return True

    def iterate(self, budget_bytes: int) -> Segments:
        """Yield dirty pages until the budget is spent; one at least, if there is one."""
        yield from self._pages(max(budget_bytes, 1))
        self._transferred_bytes += len(EOS_WORD)
        yield EOS_WORD
        return not self._scan.dirty_pages

    def pending(self, exact: bool) -> Pending:
        """What is still dirty; the position of the scan stays, also when more becomes dirty."""
        if exact:
            self._sync()
        return Pending(must_precopy=self._scan.dirty_pages * self._guest.page_size)

    def complete(self) -> Segments:
        """Yield everything that is dirty now that the guest stands still."""
        self._sync()
        yield from self._pages(math.inf)
        yield EOS_WORD
        self.end_logging()
        return True

    def end_logging(self) -> None:
        """Stop the dirty log; idempotent, also before :meth:`begin`."""
        if self._log is not None:
            self._log.stop()
            self._log = None

    def statistics(self) -> dict[str, int]:
        """See :meth:`transship_ram._section.RAMSection.statistics`."""
        packer = self._packer
        normal_pages = packer.normal_pages if packer else 0
        return {
            "total": sum(block.used_length for block in self._blocks),
            "remaining": self._scan.dirty_pages * self._guest.page_size,
            "transferred": self._transferred_bytes,
            "normal": normal_pages,
            "normal_bytes": normal_pages * self._guest.page_size,
            "duplicate": packer.duplicate_pages if packer else 0,
            "dirty_sync_count": self._syncs,
            "dirtied_pages": self._dirtied_pages,
            "page_size": self._guest.page_size,
        }

    def _sync(self) -> None:
        if self._log is None:
            raise LocalError("the dirty log of a section that is not being sent", section="ram")
        self._syncs += 1
        for block, bitmap in zip(self._blocks, self._bitmaps, strict=True):
            self._dirtied_pages += self._log.sync(block, bitmap)
        self._scan.recount()

    def _pages(self, budget_bytes: float) -> Segments:
        """Yield buffers of records, in scan order, until the budget is spent or all is clean."""
        while budget_bytes > 0 and self._scan.dirty_pages:
            buffer = self._next_buffer(budget_bytes)
            self._transferred_bytes += len(buffer)
            budget_bytes -= len(buffer)
            yield buffer
        return True

    def _next_buffer(self, budget_bytes: float) -> memoryview:
        """Pack what fits a buffer, the budget and the bound on scanning; one page at least."""
        packer = self._packer
        assert packer is not None
        scanned_bytes = 0
        while scanned_bytes < _SCANNED_BYTES and packer.used_bytes < budget_bytes:
            batch = self._scan.next_batch(packer.room_pages)
            if batch is None:
                break
            left_bytes = budget_bytes - packer.used_bytes
            packed = packer.pack(self._blocks[batch.block], batch.pages, left_bytes)
            if packed < len(batch.pages):
                self._scan.give_back(batch, packed)
            scanned_bytes += len(batch.pages) * self._guest.page_size
        return packer.flush()
