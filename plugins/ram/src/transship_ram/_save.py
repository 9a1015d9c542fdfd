"""The source's side: what of guest RAM goes into which record."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from transship.abc import (
    Capability,
    ChannelWork,
    DirtyLog,
    FileWork,
    Guest,
    LiveCounters,
    Pending,
    RemoteWork,
    Segments,
    Settings,
)
from transship.errors import LocalError
from transship.memory import kernels
from transship.memory.bitmap import DirtyBitmap
from transship.wire.constants import EOS_WORD
from transship.wire.limits import MIB
from transship_ram._buffers import RecordBuffers
from transship_ram._changes import ChangePacker
from transship_ram._counts import SentCounts
from transship_ram._mapped_out import MappedWriter
from transship_ram._multifd import file_threads, rules_of
from transship_ram._pack import Packer
from transship_ram._packets_out import PacketMaker
from transship_ram._records import change_record_bytes, full_record_bytes
from transship_ram._remote import WORK_BYTES, remote_work
from transship_ram._scan import Batch, Scan
from transship_ram._spread import Spreader
from transship_ram._table import blocks_in_order, encode_entry, encode_table, encode_total
from transship_ram._zeros import find_zeros

if TYPE_CHECKING:
    from transship.memory.ramblock import RAMBlock

_SCANNED_BYTES: Final = 16 * MIB
"""Guest memory looked at for one buffer at most, however little comes out: a guest full of zeros
keeps the engine waiting for a few milliseconds, not for seconds."""

_MOST_BATCH_PAGES: Final = 4096
"""Pages looked at in one batch, where none takes much room."""

_PART_SCANNED_BYTES: Final = 1024 * MIB
"""The same for one record: of a guest whose dirty pages have not changed nothing comes out, and
the receiver is to hear of its source at least every second or two."""


class RAMSaver:
    """Sends the RAM of one guest, in passes.

    Args:
        guest: Whose RAM; nothing of it is touched before :meth:`begin`.
        settings: Of the migration.
    """

    def __init__(self, guest: Guest, settings: Settings) -> None:
        self._guest = guest
        self._settings = settings
        self._blocks: list[RAMBlock] = []
        self._readable: list[RAMBlock] = []
        self._sent: list[tuple[RAMBlock, DirtyBitmap]] = []
        self._scan = Scan(())
        self._log: DirtyLog | None = None
        self._counts = SentCounts()
        self._buffers: RecordBuffers | None = None
        self._packer: Packer | None = None
        self._changes: ChangePacker | None = None
        self._maker: PacketMaker | None = None
        self._spreader: Spreader | None = None
        self._mapped: MappedWriter | None = None
        self._writes_remotely = False
        self._remote_bytes = 0
        self._kernels = kernels.current()
        self._is_last = False
        self._most_batch_pages = 0
        self._transferred_bytes = 0
        self._dirtied_pages = 0
        self._syncs = 0

    def begin(self, channels: int) -> Segments:
        """Yield the block table; from now on every page is to be sent, and writes are logged.

        But for blocks that the destination has already.

        Args:
            channels: Over how many extra channels pages go; 0 for none.
        """
        self._blocks = blocks_in_order(self._guest)
        bitmaps = [DirtyBitmap(0 if block.is_lent else block.pages) for block in self._blocks]
        self._sent = [
            (block, bitmap)
            for block, bitmap in zip(self._blocks, bitmaps, strict=True)
            if not block.is_lent
        ]
        self._start_log()
        for _, bitmap in self._sent:
            bitmap.mark_all()
        self._scan = Scan(bitmaps)
        if self._settings.has(Capability.MAPPED_RAM):
            yield from self._begin_mapped()
            return True
        if self._sent or channels:
            self._make_packers()
        if channels:
            self._make_spreader(channels)
        yield encode_table(self._blocks)
        if self._spreader is not None:
            yield from self._spreader.begin()
        yield from self._end_record()
        return True

    def remote_memory(self) -> dict[str, memoryview]:
        """See :meth:`transship_ram._section.RAMSection.remote_memory`."""
        if self._spreader is not None or self._mapped is not None or self._changes is not None:
            return {}
        return {block.idstr: block.view for block in self._readable if not block.is_lent}

    def write_remotely(self) -> None:
        """Write what can be written remotely, from now on."""
        self._writes_remotely = True

    def _begin_mapped(self) -> Segments:
        """Yield a table that leaves room for all memory between its entries."""
        threads = file_threads(self._settings)
        self._mapped = MappedWriter(self._readable, self._scan, self._counts, threads)
        yield encode_total(self._blocks)
        for number, block in enumerate(self._blocks):
            yield encode_entry(block)
            yield self._mapped.header(number)
        yield from self._end_record()
        return True

    def _start_log(self) -> None:
        """Log writes from now on, and find out where pages are to be read meanwhile."""
        self._syncs = 1
        self._readable = list(self._blocks)
        if not self._sent:
            return
        log = self._guest.dirty_log()
        log.start()
        self._log = log  # only now is it ours to stop
        self._readable = [block if block.is_lent else log.readable(block) for block in self._blocks]

    def iterate(self, budget_bytes: int) -> Segments:
        """Yield dirty pages until the budget is spent; one at least, if there is one.

        Much memory of which nothing had to be sent ends it as well.
        """
        yield from self._pages(max(budget_bytes, 1), _PART_SCANNED_BYTES)
        self._transferred_bytes += len(EOS_WORD)
        yield from self._end_record()
        return not self._scan.dirty_pages

    def pending(self, exact: bool) -> Pending:
        """What is still dirty; the position of the scan stays, also when more becomes dirty."""
        if exact:
            self._sync()
        return Pending(must_precopy=self._scan.dirty_pages * self._guest.page_size)

    def complete(self) -> Segments:
        """Yield everything that is dirty now that the guest stands still."""
        self._sync()
        self._is_last = True
        yield from self._pages(math.inf, math.inf)
        if self._spreader is not None:
            yield from self._spreader.end()
        if self._mapped is not None:
            yield self._mapped.bitmaps()
        if self._writes_remotely:
            yield RemoteWork(flush=True)
        yield from self._end_record()
        self.end_logging()
        return True

    def end_logging(self) -> None:
        """Stop the dirty log, and let go of the cache; idempotent, also before :meth:`begin`."""
        self._changes = self._spreader = None
        self._readable = []
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None
        if self._log is not None:
            self._log.stop()
            self._log = None

    def statistics(self) -> dict[str, int]:
        """See :meth:`transship_ram._section.RAMSection.statistics`."""
        page_size, counts = self._guest.page_size, self._counts
        normal, duplicate = counts.normal, counts.duplicate
        if self._maker is not None:
            normal, duplicate = normal + self._maker.normal, duplicate + self._maker.duplicate
        statistics = {
            "total": sum(block.used_length for block in self._blocks),
            "remaining": self._scan.dirty_pages * page_size,
            "transferred": self._sent_bytes,
            "normal": normal,
            "normal_bytes": normal * page_size,
            "duplicate": duplicate,
            "handled_pages": self._handled_pages,
            "dirty_sync_count": self._syncs,
            "dirtied_pages": self._dirtied_pages,
            "page_size": page_size,
        }
        if len(self._sent) < len(self._blocks):
            sent_bytes = sum(block.used_length for block, _ in self._sent)
            statistics["shared_bytes"] = statistics["total"] - sent_bytes
        if self._writes_remotely:
            statistics["remote_bytes"] = self._remote_bytes
        if self._settings.has(Capability.XBZRLE):
            statistics |= counts.of_xbzrle(page_size)
        if self._maker is not None:
            statistics["multifd_bytes"] = self._maker.sent_bytes
        return statistics

    def live_counters(self) -> LiveCounters:
        """See :meth:`transship_ram._section.RAMSection.live_counters`."""
        page_size = self._guest.page_size
        return LiveCounters(
            sent_bytes=self._sent_bytes,
            handled_pages=self._handled_pages,
            dirtied_pages=self._dirtied_pages,
            remaining_bytes=self._scan.dirty_pages * page_size,
            page_size=page_size,
            dirty_syncs=self._syncs,
        )

    @property
    def _sent_bytes(self) -> int:
        return self._transferred_bytes + (self._maker.sent_bytes if self._maker else 0)

    @property
    def _handled_pages(self) -> int:
        handled = self._counts.handled
        return handled + (self._maker.normal + self._maker.duplicate if self._maker else 0)

    def _end_record(self) -> Segments:
        if self._spreader is not None:
            yield from self._spreader.end_record()
        yield EOS_WORD
        return True

    def _make_packers(self) -> None:
        page_size = self._guest.page_size
        if not self._settings.has(Capability.XBZRLE):
            buffers = RecordBuffers(page_size, full_record_bytes(page_size))
        else:
            buffers = RecordBuffers(page_size, change_record_bytes(page_size))
            self._changes = ChangePacker(
                page_size, self._readable, buffers, self._counts, self._settings
            )
        self._buffers = buffers
        self._packer = Packer(page_size, buffers, self._counts)

    def _make_spreader(self, channels: int) -> None:
        assert self._packer is not None
        assert self._buffers is not None
        rules = rules_of(self._guest.machine)
        self._maker = PacketMaker(
            self._guest.page_size, channels, self._settings, finds_zeros=not rules.zeros_in_stream
        )
        self._spreader = Spreader(
            self._readable, self._scan, self._maker, self._packer, self._buffers, rules
        )

    def _sync(self) -> None:
        self._syncs += 1
        if self._sent:
            if self._log is None:
                raise LocalError("the dirty log of a section that is not being sent", section="ram")
            for block, bitmap in self._sent:
                self._dirtied_pages += self._log.sync(block, bitmap)
        self._scan.recount()

    def _pages(self, budget_bytes: float, most_scanned_bytes: float) -> Segments:
        """Yield dirty pages, in scan order, until a limit is reached or all is clean."""
        if self._writes_remotely:
            yield from self._remote_pages(budget_bytes, most_scanned_bytes)
            return True
        if self._mapped is not None:
            while budget_bytes > 0 and (work := self._mapped.pages(budget_bytes)) is not None:
                self._transferred_bytes += work.size_bytes
                budget_bytes -= max(work.size_bytes, self._guest.page_size)
                yield work
            return True
        if self._spreader is not None:
            for segment in self._spreader.pages(budget_bytes, most_scanned_bytes):
                if not isinstance(segment, ChannelWork | FileWork | RemoteWork):
                    self._transferred_bytes += len(segment)
                yield segment
            return True
        while budget_bytes > 0 and most_scanned_bytes > 0 and self._scan.dirty_pages:
            dirty_pages = self._scan.dirty_pages
            buffer = self._next_buffer(budget_bytes)
            self._transferred_bytes += len(buffer)
            budget_bytes -= len(buffer)
            most_scanned_bytes -= (dirty_pages - self._scan.dirty_pages) * self._guest.page_size
            yield buffer
        return True

    def _remote_pages(self, budget_bytes: float, most_scanned_bytes: float) -> Segments:
        """Yield dirty pages as memory to be written remotely; zero ones go in the stream."""
        page_size = self._guest.page_size
        packer, buffers = self._packer, self._buffers
        assert packer is not None
        assert buffers is not None
        while budget_bytes > 0 and most_scanned_bytes > 0:
            most_bytes = int(min(max(budget_bytes, page_size), WORK_BYTES))
            batch = self._scan.next_batch(min(most_bytes // page_size, buffers.batch_pages))
            if batch is None:
                break
            most_scanned_bytes -= len(batch.pages) * page_size
            block = self._readable[batch.block]
            zeros = find_zeros(self._kernels, block, batch.pages)
            if zeros.any():
                packer.pack_zeros(block, batch.pages[zeros])
                buffer = buffers.flush()
                self._transferred_bytes += len(buffer)
                budget_bytes -= len(buffer)
                yield buffer
            full = batch.pages[~zeros]
            if len(full):
                work = remote_work(block, full)
                self._counts.normal += len(full)
                self._transferred_bytes += work.size_bytes
                self._remote_bytes += work.size_bytes
                budget_bytes -= work.size_bytes
                yield work
        return True

    def _next_buffer(self, budget_bytes: float) -> memoryview:
        """Pack what fits a buffer, the budget and the bound on scanning; one page at least."""
        buffers = self._buffers
        assert buffers is not None
        scanned_bytes = 0
        while scanned_bytes < _SCANNED_BYTES and buffers.used_bytes < budget_bytes:
            batch = self._scan.next_batch(self._batch_pages(buffers, scanned_bytes))
            if batch is None:
                break
            packed = self._pack(batch, budget_bytes - buffers.used_bytes)
            self._most_batch_pages = 0
            if packed < len(batch.pages):
                self._scan.give_back(batch, packed)
            elif 2 * buffers.room_pages >= buffers.batch_pages:
                self._most_batch_pages = min(2 * len(batch.pages), _MOST_BATCH_PAGES)
            scanned_bytes += len(batch.pages) * self._guest.page_size
        return buffers.flush()

    def _batch_pages(self, buffers: RecordBuffers, scanned_bytes: int) -> int:
        """How many pages to look at next: as many as fit, or more while they turn out to be zero.

        What a page has changed by is packed at most so many at a time as fit.
        """
        if self._changes is not None or not buffers.room_pages:
            return buffers.room_pages
        unscanned_pages = (_SCANNED_BYTES - scanned_bytes) // self._guest.page_size
        return max(buffers.room_pages, min(self._most_batch_pages, unscanned_pages))

    def _pack(self, batch: Batch, budget_bytes: float) -> int:
        """Record pages of a batch; returns how many. What goes in the first pass is not cached."""
        block = self._readable[batch.block]
        if self._changes is not None and self._scan.laps:
            return self._changes.pack(
                block, batch.pages, budget_bytes, now=self._syncs, is_last=self._is_last
            )
        assert self._packer is not None
        return self._packer.pack(block, batch.pages, budget_bytes)
