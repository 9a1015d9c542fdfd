"""Packets of multifd to pages: received straight into guest RAM, nothing believed unchecked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from transship.abc import NO_DESCRIPTOR, FromDescriptor
from transship.abc.settings import NO_COMPRESSION
from transship.errors import StreamError
from transship.memory.packets import PacketsOutcome, packet_kernel
from transship.wire.multifd import (
    HEADER_BYTES,
    METHOD_BITS,
    QEMU_METHODS,
    SYNC,
    PacketHeader,
    packet_bytes,
    packet_capacity,
    parse_packet_header,
)
from transship.wire.reader import RENDEZVOUS
from transship_ram._target import PageCounts

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from transship.abc import ChannelParsing, Compression
    from transship.memory.arrays import Numbers
    from transship.memory.packets import PacketKernel
    from transship.wire.reader import Rendezvous
    from transship_ram._target import LoadedBlock


class _Packet(NamedTuple):
    """A packet that has been checked.

    Args:
        header: Its header.
        block: Whose pages it lists; None if it lists none.
        normal: Numbers of the pages that have data.
        zero: Numbers of the pages that are zero.
    """

    header: PacketHeader
    block: LoadedBlock | None
    normal: Numbers
    zero: Numbers

    @property
    def is_sync(self) -> bool:
        return bool(self.header.flags & SYNC)


_AT_ONCE_NS: Final = 50_000_000
"""How long packets are taken before others hear how much has come."""


class PacketReceiver:
    """Takes many packets at once: those that list pages of one block, uncompressed.

    Args:
        kernel: Does it.
        packet: Filled with each; holds one of the block when :meth:`receive` is called.
        page_size: Bytes of a target page.
        counts: Kept up to date.

    Attributes:
        outcome: How the last call ended.
    """

    def __init__(
        self, kernel: PacketKernel, packet: memoryview, page_size: int, counts: PageCounts
    ) -> None:
        self.outcome = PacketsOutcome.GO_ON
        self._kernel = kernel
        self._packet = packet
        self._page_size = page_size
        self._counts = counts

    def receive(self, descriptor: int, block: LoadedBlock) -> int:
        """Take packets for a moment. Returns how many bytes came.

        Raises:
            OSError: The descriptor broke, or its time-out has passed.
        """
        outcome, normal, zero, received = block.receive_packets(
            self._kernel, descriptor, self._packet, bytes(self._packet), _AT_ONCE_NS
        )
        self.outcome = PacketsOutcome(outcome)
        self._counts.normal += normal
        self._counts.duplicate += zero
        return received


class PacketLoader:
    """Loads what comes over one extra channel.

    Args:
        page_size: Bytes of a target page.
        blocks: By their names; empty until the stream has brought the table.
        compression: The method that this side was told, if any.

    Attributes:
        counts: What has come.
    """

    def __init__(
        self,
        page_size: int,
        blocks: Mapping[str, LoadedBlock],
        compression: Compression | None,
    ) -> None:
        self.counts = PageCounts()
        self._page_size = page_size
        self._capacity = packet_capacity(page_size)
        self._blocks = blocks
        self._packet = memoryview(bytearray(packet_bytes(page_size)))
        kernel = packet_kernel()
        self._bulk: PacketReceiver | None = None
        if kernel is not None and compression is None:
            self._bulk = PacketReceiver(kernel, self._packet, page_size, self.counts)
        self._compression = compression
        self._decompressor = compression.decompressor() if compression else None
        self._room = memoryview(bytearray())
        if compression is not None:
            most = self._capacity * page_size + compression.most_growth_bytes
            self._room = memoryview(bytearray(most))

    def load(self) -> ChannelParsing:
        """Parse the channel, behind its initial packet, to its end.

        Raises:
            StreamError: A packet is faulty; nothing was written outside of the blocks.
            LocalError: There is no room for what arrives.
        """
        packet_size = len(self._packet)
        count = yield (self._packet,)
        while count:
            self._check_whole(count, packet_size)
            packet = self._checked()
            if packet.block is not None and len(packet.zero):
                packet.block.clear(packet.zero)
            self.counts.normal += len(packet.normal)
            self.counts.duplicate += len(packet.zero)
            if packet.block is None or not len(packet.normal):
                if packet.is_sync:
                    yield RENDEZVOUS
                count = yield (self._packet,)
            elif packet.is_sync or self._decompressor is not None:
                yield from self._data(packet.block, packet)
                if packet.is_sync:
                    yield RENDEZVOUS
                count = yield (self._packet,)
            elif self._bulk is not None and packet.block.is_plain:
                yield from self._data(packet.block, packet)
                count = yield from self._take_alike(self._bulk, packet.block)
            else:
                # Behind the data comes the next packet, or the end: one call for both.
                data_bytes = len(packet.normal) * self._page_size
                with packet.block.reserved_pages(packet.normal) as targets:
                    count = yield (*targets, self._packet)
                self._check_whole(count, data_bytes)
                count -= data_bytes

    def _take_alike(
        self, bulk: PacketReceiver, block: LoadedBlock
    ) -> Generator[Sequence[memoryview] | FromDescriptor | Rendezvous, int, int]:
        """Take packets like the last one; how much there is of the first that is another."""
        while True:
            came = yield FromDescriptor(lambda descriptor: bulk.receive(descriptor, block))
            if came == NO_DESCRIPTOR:
                self._bulk = None
                return (yield (self._packet,))
            match bulk.outcome:
                case PacketsOutcome.OTHER:
                    return len(self._packet)
                case PacketsOutcome.END:
                    return 0
                case PacketsOutcome.BROKEN_OFF:
                    self._check_whole(0, len(self._packet))

    def _data(self, block: LoadedBlock, packet: _Packet) -> ChannelParsing:
        """Receive the data of a packet to where they belong."""
        with block.reserved_pages(packet.normal) as targets:
            if self._decompressor is None:
                count = yield targets
                self._check_whole(count, len(packet.normal) * self._page_size)
                return
            data = self._room[: packet.header.data_bytes]
            count = yield (data,)
            self._check_whole(count, len(data))
            try:
                self._decompressor.decompress(data, targets)
            except ValueError as error:
                raise StreamError(
                    "malformed compressed pages",
                    expected=f"{len(packet.normal) * self._page_size} bytes of pages",
                    found=str(error),
                ) from error

    def _checked(self) -> _Packet:
        header = parse_packet_header(self._packet[:HEADER_BYTES])
        normal, zero = header.normal_pages, header.zero_pages
        if not normal and not zero:
            return _Packet(header, None, _NONE, _NONE)
        if header.capacity > self._capacity or normal + zero > header.capacity:
            raise StreamError(
                "a packet lists more pages than it has room for",
                expected=f"at most {self._capacity}",
                found=f"{normal} and {zero} zero ones, of {header.capacity}",
            )
        block = self._block(header.idstr)
        pages = self._pages(block, normal + zero)
        if normal:
            self._check_method(header)
        return _Packet(header, block, pages[:normal], pages[normal:])

    def _pages(self, block: LoadedBlock, count: int) -> Numbers:
        """The numbers of the pages that the packet lists, all of them in the block."""
        offsets = np.frombuffer(self._packet, ">u8", count, HEADER_BYTES).astype(np.uint64)
        pages, rest = np.divmod(offsets, np.uint64(self._page_size))
        if pages.max() >= block.page_count or rest.any():
            wrong = (pages >= block.page_count) | (rest != 0)
            raise StreamError(
                f"a page that is not in RAM block {block.idstr!r}",
                expected=f"multiples of {self._page_size} below {block.used_length:#x}",
                found=f"{int(offsets[wrong][0]):#x}",
            )
        return pages.astype(np.int64)

    def _block(self, name: bytes) -> LoadedBlock:
        block = self._blocks.get(name.decode(errors="backslashreplace"))
        if block is None:
            raise StreamError(
                "pages of a RAM block that the table does not list",
                expected=f"one of the table's {len(self._blocks)} names",
                found=repr(name),
            )
        if block.is_borrowed:
            raise StreamError(
                "pages of a RAM block whose memory was handed over",
                expected="no page of it",
                found=f"some of {block.idstr!r}",
            )
        return block

    def _check_method(self, header: PacketHeader) -> None:
        expected = self._compression.wire_flag if self._compression else 0
        if header.flags & METHOD_BITS != expected:
            found = header.flags & METHOD_BITS
            name = self._compression.name if self._compression else NO_COMPRESSION
            raise StreamError(
                "the source compresses in another way than the destination was told",
                expected=f"method {name} ({expected:#x})",
                found=f"method {_method_name(found)} ({found:#x})",
                hint="set multifd-compression to the same on both sides",
            )
        if self._compression and header.data_bytes > len(self._room):
            raise StreamError(
                "compressed pages longer than any",
                expected=f"at most {len(self._room)} bytes",
                found=f"{header.data_bytes} bytes",
            )

    @staticmethod
    def _check_whole(count: int, wanted: int) -> None:
        if count < wanted:
            raise StreamError(
                "the channel ends early",
                expected=f"{wanted - count} more bytes",
                found="the end",
            )


_NONE = np.zeros(0, np.int64)


def _method_name(flag: int) -> str:
    names = (name for name, known in QEMU_METHODS.items() if known == flag)
    return next(names, "that nobody here knows") if flag else NO_COMPRESSION
