"""A compression method of multifd: what its author implements.

A method knows neither packets nor channels. Each channel has a compressor on the source and a
decompressor on the destination for the whole migration, so a method may carry what it has learnt
from one packet to the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc.settings import Parameters
    from transship.buffers import Buffer


class Compressor(ABC):
    """Compresses what goes over one channel; used by one thread at a time."""

    @abstractmethod
    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        """Compress the pages of one packet, so that they can be had without the next packet.

        Args:
            pages: Runs of whole pages, in order; borrowed. They may be guest memory: copied first
                if the method breaks where bytes change under it.

        Returns:
            At least one byte; the caller's until it asks for the next.
        """


class Decompressor(ABC):
    """Decompresses what came over one channel; used by one thread at a time."""

    @abstractmethod
    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        """Fill ``targets``, in order, from the data of one packet.

        Args:
            data: Untrusted bytes.
            targets: Where whole pages belong; never is anything written beyond them, nor memory
                used that grows with what ``data`` claims.

        Raises:
            ValueError: The data are malformed, or are not exactly that many bytes.
        """


class Compression(ABC):
    """A method of compression.

    Attributes:
        name: As operators call it, ``zstd``; not ``none``, which is what they say for no method.
        wire_flag: What marks its packets, the same on both sides: two to five of the bits 1 to 5
            (:data:`METHOD_BITS` in :mod:`transship.wire.multifd`). A bit alone is for the method
            that QEMU has given it to (:data:`QEMU_METHODS`, there too).
        most_growth_bytes: By how much data may be longer than the pages they stand for, at most
            the length of a packet's pages (512 KiB); what is longer is refused before it is read.
    """

    name: str
    wire_flag: int
    most_growth_bytes: int

    @abstractmethod
    def compressor(self, parameters: Parameters) -> Compressor:
        """A new one for a channel, with the level that the operator has set."""

    @abstractmethod
    def decompressor(self) -> Decompressor:
        """A new one for a channel."""
