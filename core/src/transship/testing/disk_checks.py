"""What every block device must do, one function a rule.

:func:`check_block_device` runs them all. Each takes an ``open_device`` and raises
``AssertionError`` with the rule that was broken; none needs a test framework.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from transship.abc.disk import BlockDevice
from transship.errors import LocalError
from transship.testing.checking import is_resizable, naming, raises, require

if TYPE_CHECKING:
    from collections.abc import Iterator

OpenDevice = Callable[[], BlockDevice]
"""Opens the device under test: the same bytes each time, which are :data:`LEAST_BYTES` at least. A
check may change all of them. It closes what it has opened before it opens the device again."""

LEAST_BYTES: Final = 4 * 1024 * 1024
"""Of a device under test."""

_SEED: Final = 20_261_126
_SECTOR: Final = 512
_AREA: Final = 1024 * 1024
_THREADS: Final = 6
_STRIPE: Final = 1300
"""What a thread writes at a time: no block is one thread's alone."""

_PATIENCE_S: Final = 60.0


def check_block_device(open_device: OpenDevice) -> None:
    """Run every check.

    Args:
        open_device: Opens the device; called once or more for each check.

    Raises:
        AssertionError: A rule is broken; a note names the check.
    """
    for check in BLOCK_DEVICE_CHECKS:
        with naming(check):
            check(open_device)


def check_says_its_size(open_device: OpenDevice) -> None:
    """A device has whole sectors, and cannot be written up to where it does not reach."""
    with _acquired(open_device) as device:
        size = device.size_bytes
        require(size >= LEAST_BYTES, f"the checks need {LEAST_BYTES} bytes, there are {size}")
        require(size % _SECTOR == 0, f"{size} bytes are no whole sectors")
        require(device.max_size_bytes >= size, "it may be written less far than it reaches")
        require(not device.is_read_only, "the checks need a device that can be written")


def check_reads_what_was_written(open_device: OpenDevice) -> None:
    """Every byte is what was written there last, wherever a write begins and ends."""
    chance = random.Random(_SEED)
    with _acquired(open_device) as device:
        known = bytearray(chance.randbytes(_AREA))
        device.write(0, known)
        for length in [1, 511, 512, 513, 4095, 4096, 65_537, *_lengths(chance, 40)]:
            offset = chance.randrange(_AREA - length)
            data = chance.randbytes(length)
            device.write(offset, data)
            known[offset : offset + length] = data
            around = max(0, offset - 700), min(_AREA, offset + length + 700)
            found = _read(device, around[0], around[1] - around[0])
            require(found == known[slice(*around)], f"a write of {length} bytes reads otherwise")
        require(_read(device, 0, _AREA) == known, "a write has changed what was not its own")


def check_reaches_its_end(open_device: OpenDevice) -> None:
    """The last bytes can be written and read, with those before them or alone."""
    chance = random.Random(_SEED)
    with _acquired(open_device) as device:
        for length in (_AREA, 4096, 1):
            data = chance.randbytes(length)
            device.write(device.size_bytes - length, data)
            found = _read(device, device.size_bytes - length, length)
            require(found == data, f"the last {length} bytes are not those written")


def check_accepts_every_buffer(open_device: OpenDevice) -> None:
    """Data may come as any kind of buffer, read-only or not, and of any length, none included."""
    with _acquired(open_device) as device:
        for kind in (bytes, bytearray, memoryview):
            data = kind(bytes(range(256)) * 16)
            device.write(1000, data)
            require(_read(device, 1000, 4096) == bytes(data), f"a {kind.__name__} is not accepted")
        before = _read(device, 0, 4096)
        device.write(100, b"")
        device.write(device.size_bytes, b"")
        device.write_zeroes(100, 0)
        device.discard(100, 0)
        device.read_into(device.size_bytes, memoryview(bytearray()))
        require(list(device.extents(100, 0)) == [], "nothing consists of something")
        require(_read(device, 0, 4096) == before, "writing nothing has changed something")


def check_zeroes_a_range(open_device: OpenDevice) -> None:
    """A range reads as zeroes, and what is beside it is as it was."""
    chance = random.Random(_SEED)
    with _acquired(open_device) as device:
        known = bytearray(chance.randbytes(_AREA))
        device.write(0, known)
        for length in [1, 511, 4096, 100_000, *_lengths(chance, 10)]:
            offset = chance.randrange(_AREA - length)
            device.write_zeroes(offset, length)
            known[offset : offset + length] = bytes(length)
            require(_read(device, 0, _AREA) == known, f"{length} bytes at {offset} are not zeroed")
        device.write(5000, b"again")
        require(_read(device, 5000, 5) == b"again", "what was zeroed cannot be written")


def check_discards_no_more_than_said(open_device: OpenDevice) -> None:
    """What is beside a range that was discarded is as it was, and the range can be used again."""
    chance = random.Random(_SEED)
    with _acquired(open_device) as device:
        known = chance.randbytes(_AREA)
        for start, end in ((0, 4096), (5000, 300_001), (65_536, 131_072), (7, 8)):
            device.write(0, known)
            device.discard(start, end - start)
            require(_read(device, 0, start) == known[:start], "too much was discarded before")
            require(_read(device, end, _AREA - end) == known[end:], "too much was discarded behind")
            data = chance.randbytes(end - start)
            device.write(start, data)
            require(_read(device, start, end - start) == data, "it cannot be written again")


def check_tells_what_it_consists_of(open_device: OpenDevice) -> None:
    """Extents fill a range in order and without gaps; what is told to be zero is."""
    chance = random.Random(_SEED)
    with _acquired(open_device) as device:
        size = device.size_bytes
        device.write_zeroes(0, size)
        for _ in range(5):
            device.write(chance.randrange(size - 9000), chance.randbytes(9000))
        for start, length in ((0, size), (4097, 100_000), (size - 1, 1), (_AREA - 3, _AREA)):
            place = start
            for extent in device.extents(start, length):
                require(extent.offset == place, f"an extent is at {extent.offset}, not {place}")
                require(extent.length > 0, "an extent is empty")
                if extent.reads_as_zero:
                    found = _read(device, place, extent.length)
                    require(not any(found), "what is said to be zero is not")
                place = extent.end
            require(place == start + length, f"the extents end at {place}, not {start + length}")


def check_refuses_what_is_outside(open_device: OpenDevice) -> None:
    """A range that is not within the device is a ``ValueError``, and changes nothing."""
    with _acquired(open_device) as device:
        end = device.max_size_bytes
        device.write(0, b"as it was")
        calls: dict[str, Callable[[int], object]] = {
            "write": lambda offset: device.write(offset, b"out"),
            "write_zeroes": lambda offset: device.write_zeroes(offset, 3),
            "discard": lambda offset: device.discard(offset, 3),
            "read_into": lambda offset: device.read_into(offset, memoryview(bytearray(3))),
        }
        for name, call in calls.items():
            for offset in (-1, end - 2, end, end + 2**40):
                with raises(ValueError, f"by {name} on 3 bytes at {offset}"):
                    call(offset)
        with raises(ValueError, "by extents beyond the end"):
            list(device.extents(device.size_bytes - 1, 2))
        require(_read(device, 0, 9) == b"as it was", "a refused write has changed something")


def check_serves_several_threads(open_device: OpenDevice) -> None:
    """Threads may call at once; writes that lie beside each other in one block are both kept."""
    starts = range(0, _AREA - _STRIPE, _STRIPE)
    with _acquired(open_device) as device:
        device.write(0, bytes(_AREA))
        start = threading.Barrier(_THREADS, timeout=_PATIENCE_S)

        def work(number: int) -> dict[int, bytes]:
            chance = random.Random(number)
            own = list(starts[number::_THREADS])
            chance.shuffle(own)
            written = {place: chance.randbytes(_STRIPE) for place in own}
            start.wait()
            for place, data in written.items():
                device.write(place, data)
                found = _read(device, place, _STRIPE)
                require(found == data, "a thread reads what it has not written")
            device.flush()
            return written

        with ThreadPoolExecutor(_THREADS) as pool:
            stripes = dict[int, bytes]()
            for written in pool.map(work, range(_THREADS), timeout=_PATIENCE_S):
                stripes |= written
        all_stripes = b"".join(stripes[place] for place in starts)
        require(_read(device, 0, len(all_stripes)) == all_stripes, "a write was lost")


def check_keeps_what_was_written(open_device: OpenDevice) -> None:
    """What was written before the device was released is there for whoever acquires it next."""
    data = random.Random(_SEED).randbytes(70_000)
    with _acquired(open_device) as device:
        device.write(3000, data)
        device.flush()
        device.write(100_000, data)
    with _opened(open_device) as device:
        require(_read(device, 3000, len(data)) == data, "what was flushed is gone")
        require(_read(device, 100_000, len(data)) == data, "what was released is gone")


def check_is_acquired_and_released(open_device: OpenDevice) -> None:
    """Acquiring and releasing may be repeated, and the device changes hands as often as needed."""
    with _opened(open_device) as device:
        device.release()
        for turn in range(3):
            device.acquire()
            device.acquire()
            device.write(0, bytes([turn]) * 1000)
            require(_read(device, 0, 1000) == bytes([turn]) * 1000, "it cannot be used again")
            device.release()
            device.release()
            require(_read(device, 0, 1) == bytes([turn]), "once released it cannot be read")


def check_closes_for_good(open_device: OpenDevice) -> None:
    """Closing may be repeated; a device that is closed does nothing, and says so."""
    device = open_device()
    device.acquire()
    device.write(0, b"kept")
    device.close()
    device.close()
    calls: dict[str, Callable[[], None]] = {
        "read_into": lambda: device.read_into(0, memoryview(bytearray(4))),
        "write": lambda: device.write(0, b"lost"),
    }
    if type(device).acquire is not BlockDevice.acquire:
        calls["acquire"] = device.acquire
    for name, call in calls.items():
        require(_fails(call), f"{name} of a closed device does not fail")
    with _opened(open_device) as device:
        require(_read(device, 0, 4) == b"kept", "closing has lost what was written")


def check_holds_no_device_views(open_device: OpenDevice) -> None:
    """When a call has returned, or failed, its buffer is the caller's alone."""
    with _acquired(open_device) as device:
        data = bytearray(b"borrowed" * 1000)
        for offset in (0, 13):
            device.write(offset, data)
            require(is_resizable(data), "a view of what was written is held")
            with memoryview(data) as view:
                device.read_into(offset, view)
            require(is_resizable(data), "a view of what was read is held")
        kept: ValueError | None = None
        with memoryview(data) as view:
            try:
                device.read_into(device.max_size_bytes, view)
            except ValueError as error:
                kept = error
        require(kept is not None, "reading beyond the end is not refused")
        require(is_resizable(data), "a view is held after a refusal")


@contextmanager
def _opened(open_device: OpenDevice) -> Iterator[BlockDevice]:
    device = open_device()
    try:
        yield device
    finally:
        device.close()


@contextmanager
def _acquired(open_device: OpenDevice) -> Iterator[BlockDevice]:
    with _opened(open_device) as device:
        device.acquire()
        yield device
        device.release()


def _fails(call: Callable[[], None]) -> bool:
    try:
        call()
    except (OSError, ValueError, LocalError):
        return True
    return False


def _read(device: BlockDevice, offset: int, length: int) -> bytes:
    data = bytearray(b"\xa5" * length)
    with memoryview(data) as view:
        device.read_into(offset, view)
    return bytes(data)


def _lengths(chance: random.Random, count: int) -> Iterator[int]:
    """Lengths of all magnitudes."""
    for _ in range(count):
        yield chance.randint(1, 1 << chance.randint(1, 17))


BLOCK_DEVICE_CHECKS: Final = (
    check_says_its_size,
    check_reads_what_was_written,
    check_reaches_its_end,
    check_accepts_every_buffer,
    check_zeroes_a_range,
    check_discards_no_more_than_said,
    check_tells_what_it_consists_of,
    check_refuses_what_is_outside,
    check_serves_several_threads,
    check_keeps_what_was_written,
    check_is_acquired_and_released,
    check_closes_for_good,
    check_holds_no_device_views,
)
"""In the order in which a new kind of device comes to pass them."""
