"""Pages over extra channels: which go there, and where channels and stream wait for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.memory import kernels
from transship.wire.constants import PageFlag
from transship_ram._zeros import find_zeros

if TYPE_CHECKING:
    from collections.abc import Generator

    from transship.abc import ChannelWork, FileWork, RemoteWork, Segments
    from transship.buffers import Buffer
    from transship.memory.arrays import Numbers
    from transship.memory.ramblock import RAMBlock
    from transship_ram._buffers import RecordBuffers
    from transship_ram._multifd import Rules
    from transship_ram._pack import Packer
    from transship_ram._packets_out import PacketMaker
    from transship_ram._scan import Scan

FLUSH_WORD: Final = int(PageFlag.MULTIFD_FLUSH).to_bytes(8, "big")


class Spreader:
    """Yields work for the extra channels, and what has to be said in the stream meanwhile.

    A page is sent at most once a lap of the scan. When a lap has ended all channels wait for the
    stream, so that of two copies of a page the later one stays.

    Args:
        blocks: In table order.
        scan: Says which pages come next.
        maker: Makes the packets.
        packer: Records zero pages, where the rules want them in the stream.
        buffers: What the packer fills.
        rules: Of the machine type.
    """

    def __init__(
        self,
        blocks: list[RAMBlock],
        scan: Scan,
        maker: PacketMaker,
        packer: Packer,
        buffers: RecordBuffers,
        rules: Rules,
    ) -> None:
        self._blocks = blocks
        self._scan = scan
        self._maker = maker
        self._packer = packer
        self._buffers = buffers
        self._rules = rules
        self._lap = 0
        self._kernels = kernels.current()

    def begin(self) -> Segments:
        """Let the channels wait for the table of blocks."""
        yield from self._meet()
        return True

    def pages(self, budget_bytes: float, most_scanned_bytes: float) -> Segments:
        """Yield work for dirty pages, until a limit is reached or all is clean."""
        page_size = self._blocks[0].page_size
        left_bytes = budget_bytes
        while left_bytes > 0 and most_scanned_bytes > 0:
            batch = self._scan.next_batch(self._maker.work_pages(budget_bytes))
            if batch is None:
                break
            if self._scan.laps != self._lap:
                self._lap = self._scan.laps
                yield from self._meet()
            most_scanned_bytes -= len(batch.pages) * page_size
            block, pages = self._blocks[batch.block], batch.pages
            if self._rules.zeros_in_stream:
                pages = yield from self._without_zeros(block, pages)
            if len(pages):
                left_bytes -= self._maker.expected_bytes(len(pages))
                yield self._maker.work(block, pages)
        yield from self._recorded()
        return True

    def end_record(self) -> Segments:
        """Yield what comes before the end word of every record."""
        if self._rules.syncs_each_record:
            yield self._maker.sync()
        return True

    def end(self) -> Segments:
        """Let the stream wait for everything that the channels were given."""
        yield from self._meet()
        return True

    def _meet(self) -> Segments:
        """Let channels and stream wait for each other, if the record's end does not do it."""
        yield from self._recorded()
        if not self._rules.syncs_each_record:
            yield self._maker.sync()
            yield FLUSH_WORD
        return True

    def _without_zeros(
        self, block: RAMBlock, pages: Numbers
    ) -> Generator[Buffer | ChannelWork | FileWork | RemoteWork, None, Numbers]:
        """Record those pages that are zero in the stream; returns the others."""
        zeros = find_zeros(self._kernels, block, pages)
        if zeros.any():
            if self._buffers.room_pages < len(pages):
                yield from self._recorded()
            self._packer.pack_zeros(block, pages[zeros])
        return pages[~zeros]

    def _recorded(self) -> Segments:
        if self._buffers.used_bytes:
            yield self._buffers.flush()
        return True
