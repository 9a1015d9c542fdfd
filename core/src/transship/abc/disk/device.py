"""Bytes at places: what holds the bytes of a disk, whatever it is. Nothing here knows of guests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.buffers import Buffer

_ZEROES: Final = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of a device that is all of one kind.

    Args:
        offset: Where it begins, in bytes.
        length: How many bytes, at least 1.
        is_allocated: Whether the device itself has the bytes; what it takes from a base that
            both sides share it has not.
        reads_as_zero: Whether all bytes are known to be zero.
    """

    offset: int
    length: int
    is_allocated: bool = True
    reads_as_zero: bool = False

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.length


class BlockDevice(ABC):
    """Bytes at places. What an author of a kind of disk implements.

    All methods block, are called in worker threads, and by several at once. What the device does
    not do is an ``OSError``; a range that is not within its size is a ``ValueError``.

    Attributes:
        kind: What it is, in a word.
        is_read_only: Whether nothing can be written.
    """

    kind: str = "device"
    is_read_only: bool = False

    @property
    def address(self) -> str:
        """Where its bytes are, for people."""
        return repr(self)

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """How many bytes it has."""

    @property
    def max_size_bytes(self) -> int:
        """Up to where it may be written; more than the size only if a write beyond it grows it."""
        return self.size_bytes

    @abstractmethod
    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill the whole of ``target``, which is borrowed for the call."""

    @abstractmethod
    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data``, which is borrowed for the call."""

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeroes, with less room than zeroes take where that can be done."""
        end = offset + length
        while offset < end:
            step = min(end - offset, len(_ZEROES))
            self.write(offset, memoryview(_ZEROES)[:step])
            offset += step

    def discard(self, offset: int, length: int) -> None:
        """Take a hint that nobody needs a range any more; what it reads as is left open."""
        self.check_range(offset, length, self.max_size_bytes)

    @abstractmethod
    def flush(self) -> None:
        """Make sure that what was written before survives a power cut."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What a range consists of, in order and without gaps."""
        self.check_range(offset, length, self.size_bytes)
        if length:
            yield Extent(offset, length)

    def check_range(self, offset: int, length: int, limit: int) -> None:
        """Refuse a range that reaches beyond a limit: for those who implement a device.

        Raises:
            ValueError: It does.
        """
        if offset < 0 or length < 0 or offset + length > limit:
            raise ValueError(
                f"{offset} to {offset + length} is not within {self.address}, {limit} bytes"
            )

    def acquire(self) -> None:
        """Be the only one who writes, and forget what was known of sizes and metadata; idempotent.

        Raises:
            LocalError: Somebody else has it; says who or what, as far as that can be known.
        """

    def release(self) -> None:
        """Flush, and let somebody else acquire it; idempotent. After a failure it is still had."""
        self.flush()

    def interrupt(self) -> None:
        """Let calls that wait for somebody else end now, with an ``OSError``; does not block.

        A device that was interrupted may be acquired again. One that waits for nobody does nothing.
        """

    def close(self) -> None:
        """Release it for good, when no call is under way; idempotent."""
