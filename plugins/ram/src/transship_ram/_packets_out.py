"""Pages to packets of multifd, made in the threads of the channels."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

from transship.abc import ChannelWork
from transship.memory import kernels
from transship.wire.limits import MIB
from transship.wire.multifd import (
    HEADER_BYTES,
    INITIAL_BYTES,
    SYNC,
    PacketHeader,
    packet_bytes,
    packet_capacity,
)
from transship_ram._arrays import runs_of
from transship_ram._zeros import find_zeros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Compressor, Settings
    from transship.buffers import Buffer
    from transship.memory.ramblock import RAMBlock
    from transship_ram._arrays import Numbers

WORK_BYTES: Final = 2 * MIB
"""Guest memory that a channel is given at once: four packets, which leave in one system call."""

_MOST_RUNS: Final = 64
"""Pages that lie in more runs than this in a packet are gathered first, which costs less than a
system call with so many pieces."""


@dataclass(slots=True)
class _Lane:
    """What one channel keeps from packet to packet; touched by its thread alone.

    Args:
        compressor: Its own.
        room: Where scattered pages are gathered.
        normal: Pages sent in full.
        duplicate: Pages sent as zero.
        sent_bytes: All that went over it.
    """

    compressor: Compressor | None
    room: bytearray = field(default_factory=lambda: bytearray(WORK_BYTES))
    normal: int = 0
    duplicate: int = 0
    sent_bytes: int = INITIAL_BYTES


class PacketMaker:
    """Makes work for extra channels out of pages.

    Args:
        page_size: Bytes of a target page.
        channels: How many channels there are.
        settings: Of the migration.
        finds_zeros: Whether pages that are zero are sent as such, and not in full.
    """

    def __init__(
        self, page_size: int, channels: int, settings: Settings, *, finds_zeros: bool
    ) -> None:
        self._page_size = page_size
        self._capacity = packet_capacity(page_size)
        self._packet_bytes = packet_bytes(page_size)
        self._finds_zeros = finds_zeros
        self._numbers = count()
        self._kernels = kernels.current()
        compression = settings.compression
        self._method = compression.wire_flag if compression else 0
        self._lanes = [
            _Lane(compression.compressor(settings.parameters) if compression else None)
            for _ in range(channels)
        ]

    @property
    def work_pages(self) -> int:
        """How many pages are worth a piece of work."""
        return WORK_BYTES // self._page_size

    @property
    def normal(self) -> int:
        """Pages sent in full so far."""
        return sum(lane.normal for lane in self._lanes)

    @property
    def duplicate(self) -> int:
        """Pages sent as zero so far."""
        return sum(lane.duplicate for lane in self._lanes)

    @property
    def sent_bytes(self) -> int:
        """What went over the channels so far, initial packets included."""
        return sum(lane.sent_bytes for lane in self._lanes)

    def expected_bytes(self, pages: int) -> int:
        """How many bytes work for so many pages will be, going by what it was so far."""
        handled = self.normal + self.duplicate
        if handled < self.work_pages:
            return pages * self._page_size
        return max(pages * self.sent_bytes // handled, 1)

    def work(self, block: RAMBlock, pages: Numbers) -> ChannelWork:
        """Let a channel send pages of a block, as they are by then.

        Args:
            block: Where they are.
            pages: Their numbers, ascending, at least one.
        """

        def make(number: int) -> Sequence[Buffer]:
            return self._pages(self._lanes[number], block, pages)

        return ChannelWork(make, len(pages) * self._page_size)

    def sync(self) -> ChannelWork:
        """Let every channel wait for the stream, when it has sent what it was given before."""

        def make(number: int) -> Sequence[Buffer]:
            header = PacketHeader(SYNC, 0, 0, 0, next(self._numbers), 0, b"")
            packet = header.pack().ljust(self._packet_bytes, b"\0")
            self._lanes[number].sent_bytes += len(packet)
            return (packet,)

        return ChannelWork(make, self._packet_bytes, on_every_channel=True)

    def _pages(self, lane: _Lane, block: RAMBlock, pages: Numbers) -> Sequence[Buffer]:
        normal, zero = pages, pages[:0]
        if self._finds_zeros:
            zeros = find_zeros(self._kernels, block, pages)
            normal, zero = pages[~zeros], pages[zeros]
        lane.normal += len(normal)
        lane.duplicate += len(zero)
        ordered = np.concatenate((normal, zero))
        segments: list[Buffer] = []
        for start in range(0, len(ordered), self._capacity):
            listed = ordered[start : start + self._capacity]
            filled = listed[: max(len(normal) - start, 0)]
            data = self._data(lane, block, filled, start)
            size = sum(map(len, data))
            segments.append(self._header(block.idstr, listed, len(filled), size))
            segments += data
            lane.sent_bytes += self._packet_bytes + size
        return segments

    def _header(self, idstr: str, pages: Numbers, filled: int, data_bytes: int) -> bytearray:
        header = PacketHeader(
            self._method,
            self._capacity,
            filled,
            data_bytes,
            next(self._numbers),
            len(pages) - filled,
            idstr.encode(),
        )
        packet = bytearray(self._packet_bytes)
        packet[:HEADER_BYTES] = header.pack()
        offsets = np.frombuffer(packet, ">i8", len(pages), HEADER_BYTES)
        offsets[:] = pages * self._page_size
        return packet

    def _data(self, lane: _Lane, block: RAMBlock, pages: Numbers, place: int) -> Sequence[Buffer]:
        """The pages' bytes: where they are, or gathered at that place, or compressed."""
        runs = runs_of(pages)
        with block.view as view:
            if len(runs) > _MOST_RUNS:
                start, size = place * self._page_size, len(pages) * self._page_size
                gathered = memoryview(lane.room)[start : start + size]
                rows = np.frombuffer(view, np.uint8).reshape(-1, self._page_size)
                target = np.frombuffer(gathered, np.uint8).reshape(-1, self._page_size)
                np.take(rows, pages, axis=0, out=target, mode="clip")
                views = [gathered]
            else:
                views = [
                    view[run.first * self._page_size : run.end * self._page_size] for run in runs
                ]
        if lane.compressor is None or not views:
            return views
        return (bytes(lane.compressor.compress(views)),)
