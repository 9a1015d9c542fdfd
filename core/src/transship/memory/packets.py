"""Packets of multifd between a descriptor and guest memory, without Python.

The one kind of kernel that does input and output: an implementation of
:class:`~transship.memory.kernels.Kernels` may have it besides. The descriptor is its owner's.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from transship.memory import kernels

if TYPE_CHECKING:
    from transship.buffers import Buffer


@runtime_checkable
class PacketKernel(Protocol):
    """What a compiled implementation may have besides; without it packets are taken one by one."""

    def receive_packets(
        self,
        descriptor: int,
        packet: Buffer,
        like: Buffer,
        page_size: int,
        memory: Buffer,
        touched: Buffer,
        most_ns: int,
    ) -> tuple[int, int, int, int]:
        """Receive packets with pages (:mod:`transship.wire.multifd`), to where the pages belong.

        Ends at the first that is not like the one given, or lists anything but pages of
        ``memory``: it is in ``packet`` then, whole, and nothing else of it has been taken.

        Args:
            descriptor: Of a socket that blocks.
            packet: Filled with each packet, but for its data.
            like: A packet whose format, flags and block's name all others must have.
            page_size: Bytes of a page.
            memory: Of that block; costs nothing to be written.
            touched: One byte a page, 0 where it is known to be zero; 1 where bytes may have come.
            most_ns: No more are taken when so many nanoseconds have passed.

        Returns:
            How it ended (:class:`PacketsOutcome`), how many pages had data, how many were zero, and
            how many bytes came.

        Raises:
            OSError: The socket broke, or its time-out has passed.
        """

    def send_packets(
        self,
        descriptor: int,
        packet: Buffer,
        number: int,
        page_size: int,
        memory: Buffer,
        pages: Buffer,
        zeros: Buffer,
        finds_zeros: bool,
    ) -> tuple[int, int]:
        """Send pages in packets, from where they are.

        Args:
            descriptor: Of a socket that blocks.
            packet: One as long as each, with the format, the flags, the room and the block's name
                that all shall have; the rest of it is filled in.
            number: Of the first packet; they count on.
            page_size: Bytes of a page.
            memory: Of that block; may change meanwhile.
            pages: Numbers of the pages.
            zeros: One byte for each: 1 for a page that is known to be zero, and is not read.
            finds_zeros: Whether the other pages that are zero are sent as such.

        Returns:
            How many pages had data, and how many bytes went.

        Raises:
            OSError: The socket broke, or its time-out has passed.
            ValueError: A page is not in the memory.
        """


class PacketsOutcome(IntEnum):
    """How :meth:`PacketKernel.receive_packets` ended."""

    GO_ON = 0
    """There may be more like it."""
    OTHER = 1
    """The packet at hand is another."""
    END = 2
    """The channel has ended, between two packets."""
    BROKEN_OFF = 3
    """The channel has ended inside of one."""


def packet_kernel() -> PacketKernel | None:
    """The fastest implementation's :class:`PacketKernel`, if it has one."""
    fastest: object = kernels.current()
    return fastest if isinstance(fastest, PacketKernel) else None
