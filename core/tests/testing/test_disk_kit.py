"""Every check of block devices fails on one that breaks its rule, and passes on a good one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

import pytest

from transship.abc import BlockDevice, Extent
from transship.testing import BLOCK_DEVICE_CHECKS, check_block_device, disk_checks as checks
from transship.testing.disk_checks import LEAST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transship.buffers import Buffer
    from transship.testing import OpenDevice


class Drum(BlockDevice):
    """A good device: bytes in memory, that outlive it."""

    def __init__(self, data: bytearray) -> None:
        self.data = data
        self.is_closed = False

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.look(offset, len(target))
        target[:] = self.data[offset : offset + len(target)]

    def write(self, offset: int, data: Buffer) -> None:
        self.look(offset, len(data))
        self.data[offset : offset + len(data)] = data

    def write_zeroes(self, offset: int, length: int) -> None:
        self.write(offset, bytes(self.look(offset, length)))

    def discard(self, offset: int, length: int) -> None:
        self.write_zeroes(offset, length)

    def flush(self) -> None:
        self.look(0, 0)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        self.look(offset, length)
        yield from super().extents(offset, length)

    def acquire(self) -> None:
        self.look(0, 0)

    def release(self) -> None:
        self.look(0, 0)

    def close(self) -> None:
        self.is_closed = True

    def look(self, offset: int, length: int) -> int:
        if self.is_closed:
            raise OSError(9, "it is closed")
        if not 0 <= offset <= offset + length <= self.size_bytes:
            raise ValueError(f"{length} bytes at {offset}")
        return length


class HasNoWholeSectors(Drum):
    @property
    def size_bytes(self) -> int:
        return len(self.data) - 1


class ForgetsTheLastByteOfAWrite(Drum):
    def write(self, offset: int, data: Buffer) -> None:
        super().write(offset, memoryview(data)[:-1])


class ForgetsTheLastByteOfAll(Drum):
    def write(self, offset: int, data: Buffer) -> None:
        if offset + len(data) == self.size_bytes:
            data = memoryview(data)[:-1]
        super().write(offset, data)


class WantsBytes(Drum):
    def write(self, offset: int, data: Buffer) -> None:
        super().write(offset, data + b"")  # type: ignore[operator]


class ZeroesWholeSectors(Drum):
    def write_zeroes(self, offset: int, length: int) -> None:
        end = min(self.size_bytes, -(-(offset + length) // 512) * 512)
        super().write_zeroes(offset, end - offset)


class DiscardsWholeSectors(Drum):
    def discard(self, offset: int, length: int) -> None:
        start = offset // 512 * 512
        super().write_zeroes(start, offset + length - start)


class SaysThatAllIsZero(Drum):
    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        for extent in super().extents(offset, length):
            yield Extent(extent.offset, extent.length, reads_as_zero=True)


class LeavesGaps(Drum):
    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        if length > 512:
            yield Extent(offset, 256)
        yield Extent(offset + length - 256, 256)


class ReadsShort(Drum):
    def read_into(self, offset: int, target: memoryview) -> None:
        if 0 <= offset <= self.size_bytes < offset + len(target):
            target = target[: self.size_bytes - offset]
        super().read_into(offset, target)


class ReadsBeforeItWrites(Drum):
    """Writes whole blocks, as a disk has them, and does not mind who writes beside it."""

    def write(self, offset: int, data: Buffer) -> None:
        start = offset // 4096 * 4096
        end = min(self.size_bytes, -(-(offset + len(data)) // 4096) * 4096)
        self.look(offset, len(data))
        block = bytearray(self.data[start:end])
        time.sleep(0)
        block[offset - start : offset - start + len(data)] = data
        self.data[start:end] = block


class KeepsNothing(Drum):
    def close(self) -> None:
        if not self.is_closed:
            self.data[:] = bytes(len(self.data))
        super().close()


class IsReleasedOnce(Drum):
    is_released = False

    def acquire(self) -> None:
        super().acquire()
        self.is_released = False

    def release(self) -> None:
        if self.is_released:
            raise OSError(22, "nobody has it")
        self.is_released = True


class WorksWhenClosed(Drum):
    def close(self) -> None:
        pass


class HoldsWhatItWrites(Drum):
    held: ClassVar[list[memoryview]] = []

    def write(self, offset: int, data: Buffer) -> None:
        super().write(offset, data)
        self.held.append(memoryview(data))


BROKEN: list[tuple[type[Drum], Callable[[OpenDevice], None]]] = [
    (HasNoWholeSectors, checks.check_says_its_size),
    (ForgetsTheLastByteOfAWrite, checks.check_reads_what_was_written),
    (ForgetsTheLastByteOfAll, checks.check_reaches_its_end),
    (WantsBytes, checks.check_accepts_every_buffer),
    (ZeroesWholeSectors, checks.check_zeroes_a_range),
    (DiscardsWholeSectors, checks.check_discards_no_more_than_said),
    (SaysThatAllIsZero, checks.check_tells_what_it_consists_of),
    (LeavesGaps, checks.check_tells_what_it_consists_of),
    (ReadsShort, checks.check_refuses_what_is_outside),
    (ReadsBeforeItWrites, checks.check_serves_several_threads),
    (KeepsNothing, checks.check_keeps_what_was_written),
    (IsReleasedOnce, checks.check_is_acquired_and_released),
    (WorksWhenClosed, checks.check_closes_for_good),
    (HoldsWhatItWrites, checks.check_holds_no_device_views),
]


def opener(kind: type[Drum]) -> OpenDevice:
    data = bytearray(LEAST_BYTES)
    return lambda: kind(data)


def test_good_device_passes() -> None:
    check_block_device(opener(Drum))


@pytest.mark.parametrize(("kind", "check"), BROKEN, ids=lambda one: one.__name__)
def test_check_bites(kind: type[Drum], check: Callable[[OpenDevice], None]) -> None:
    try:
        check(opener(kind))
    except (AssertionError, OSError, TypeError, ValueError, BufferError):
        return
    finally:
        HoldsWhatItWrites.held.clear()
    pytest.fail(f"{check.__name__} passes a device that {kind.__name__}")


def test_every_check_is_seen_to_bite() -> None:
    assert {check for _, check in BROKEN} == set(BLOCK_DEVICE_CHECKS)
