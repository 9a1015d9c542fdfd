"""Pages to packets of multifd, made in the threads of the channels."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

from transship.abc import ChannelWork
from transship.memory import kernels
from transship.memory.packets import packet_kernel
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
from transship_ram._zeros import find_holes, find_zeros

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transship.abc import Compressor, Settings
    from transship.buffers import Buffer
    from transship.memory.arrays import Numbers
    from transship.memory.packets import PacketKernel
    from transship.memory.ramblock import RAMBlock

_FIRST_WORK_BYTES: Final = 4 * MIB
_MOST_WORK_BYTES: Final = 32 * MIB
"""Guest memory that a channel is given at once: little at first, as it may be a slow one."""

_BATCH_BYTES: Final = 4 * MIB
"""Guest memory in packets that leave in one system call, where no kernel sends them: eight."""

_MOST_RUNS: Final = 64
"""Pages that lie in more runs than this in a packet are gathered first, which costs less than a
system call with so many pieces."""


@dataclass(slots=True)
class _Lane:
    """What one channel keeps from packet to packet; touched by its thread alone.

    Args:
        compressor: Its own.
        packet: Filled by the kernel, if there is one.
        room: Where scattered pages are gathered.
        normal: Pages sent in full.
        duplicate: Pages sent as zero.
        sent_bytes: All that went over it.
    """

    compressor: Compressor | None
    packet: bytearray
    room: bytearray = field(default_factory=bytearray)
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
        self._packet_kernel = None if compression else packet_kernel()
        self._work_bytes = _FIRST_WORK_BYTES
        self._lanes = [
            _Lane(
                compression.compressor(settings.parameters) if compression else None,
                bytearray(self._packet_bytes),
            )
            for _ in range(channels)
        ]

    def work_pages(self, budget_bytes: float) -> int:
        """How many pages the next piece of work should have, if so much is to be sent in all.

        No channel is to have more than its share of a slice: what a slow one has been given is
        still to be sent when the guest stands still.
        """
        share = budget_bytes / len(self._lanes) / self._page_size
        return int(min(max(share, self._capacity), self._work_bytes // self._page_size))

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
        if handled * self._page_size < _FIRST_WORK_BYTES:
            return pages * self._page_size
        return max(pages * self.sent_bytes // handled, 1)

    def work(self, block: RAMBlock, pages: Numbers) -> ChannelWork:
        """Let a channel send pages of a block, as they are by then.

        Args:
            block: Where they are.
            pages: Their numbers, ascending, at least one.
        """

        def make(number: int) -> Iterator[Sequence[Buffer]]:
            for start in range(0, len(pages), batch):
                yield self._pages(self._lanes[number], block, pages[start : start + batch])

        def send(number: int, descriptor: int) -> int:
            assert kernel is not None
            return self._send(kernel, self._lanes[number], descriptor, block, pages)

        kernel, batch = self._packet_kernel, _BATCH_BYTES // self._page_size
        self._work_bytes = min(2 * self._work_bytes, _MOST_WORK_BYTES)
        size_bytes = len(pages) * self._page_size
        return ChannelWork(make, size_bytes, send=None if kernel is None else send)

    def sync(self) -> ChannelWork:
        """Let every channel wait for the stream, when it has sent what it was given before."""

        def make(number: int) -> Iterator[Sequence[Buffer]]:
            header = PacketHeader(SYNC, 0, 0, 0, next(self._numbers), 0, b"")
            packet = header.pack().ljust(self._packet_bytes, b"\0")
            self._lanes[number].sent_bytes += len(packet)
            yield (packet,)

        return ChannelWork(make, self._packet_bytes, on_every_channel=True)

    def _send(
        self, kernel: PacketKernel, lane: _Lane, descriptor: int, block: RAMBlock, pages: Numbers
    ) -> int:
        """The same as to send :meth:`_pages`, without Python's doing for each packet."""
        zeros = find_holes(block, pages) if self._finds_zeros else np.zeros(len(pages), np.bool_)
        header = PacketHeader(0, self._capacity, 0, 0, 0, 0, block.idstr.encode())
        lane.packet[:HEADER_BYTES] = header.pack()
        numbers = [next(self._numbers) for _ in range(0, len(pages), self._capacity)]
        with block.view as view:
            normal, sent_bytes = kernel.send_packets(
                descriptor,
                lane.packet,
                numbers[0],
                self._page_size,
                view,
                pages.data,
                zeros.view(np.uint8).data,
                self._finds_zeros,
            )
        lane.normal += normal
        lane.duplicate += len(pages) - normal
        lane.sent_bytes += sent_bytes
        return sent_bytes

    def _pages(self, lane: _Lane, block: RAMBlock, pages: Numbers) -> Sequence[Buffer]:
        filled = len(pages)
        if self._finds_zeros:
            zeros = find_zeros(self._kernels, block, pages)
            if zeros.any():
                pages = np.concatenate((pages[~zeros], pages[zeros]))
                filled -= int(np.count_nonzero(zeros))
        lane.normal += filled
        lane.duplicate += len(pages) - filled
        packets = self._packets(pages)
        pieces = self._pieces(lane, block, pages[:filled])
        idstr = block.idstr.encode()
        segments: list[Buffer] = []
        for number, packet in enumerate(packets):
            start = number * self._capacity
            listed = min(self._capacity, len(pages) - start)
            normal = max(min(filled - start, listed), 0)
            data: Sequence[Buffer] = pieces[number] if normal else ()
            if normal and lane.compressor is not None:
                data = (bytes(lane.compressor.compress(data)),)
            size = sum(map(len, data))
            packet[:HEADER_BYTES] = PacketHeader(
                self._method,
                self._capacity,
                normal,
                size,
                next(self._numbers),
                listed - normal,
                idstr,
            ).pack()
            segments += [packet, *data]
            lane.sent_bytes += self._packet_bytes + size
        return segments

    def _packets(self, pages: Numbers) -> list[memoryview]:
        """As many packets as the pages need, their offsets filled in."""
        count = -(-len(pages) // self._capacity)
        packets = np.zeros((count, self._packet_bytes), np.uint8)
        offsets = packets[:, HEADER_BYTES:].view(">i8")
        full = len(pages) // self._capacity * self._capacity
        wire = pages * self._page_size
        offsets[: full // self._capacity] = wire[:full].reshape(-1, self._capacity)
        if full < len(pages):
            offsets[-1, : len(pages) - full] = wire[full:]
        return [packet.data for packet in packets]

    def _pieces(self, lane: _Lane, block: RAMBlock, pages: Numbers) -> list[list[memoryview]]:
        """For each packet where its pages' bytes are: in guest RAM, or gathered from it."""
        size = self._page_size
        pieces: list[list[memoryview]] = []
        runs = iter(runs_of(pages, self._capacity))
        with block.view as view:
            for start in range(0, len(pages), self._capacity):
                count = min(self._capacity, len(pages) - start)
                piece = []
                while count:
                    run = next(runs)
                    piece.append(view[run.first * size : run.end * size])
                    count -= run.count
                if len(piece) > _MOST_RUNS:
                    lane.room = lane.room or bytearray(_BATCH_BYTES)
                    place = memoryview(lane.room)[start * size :]
                    piece = [_gathered(view, pages[start : start + self._capacity], size, place)]
                pieces.append(piece)
        return pieces


def _gathered(view: memoryview, pages: Numbers, size: int, room: memoryview) -> memoryview:
    """Copies of pages, one after another at the start of ``room``."""
    target = room[: len(pages) * size]
    rows = np.frombuffer(target, np.uint8).reshape(-1, size)
    np.take(np.frombuffer(view, np.uint8).reshape(-1, size), pages, axis=0, out=rows, mode="clip")
    return target
