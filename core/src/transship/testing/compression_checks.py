"""What every method of compression must do, one function a rule.

:func:`check_compression` runs them all. Each takes a ``make_method`` and raises ``AssertionError``
with the rule that was broken; none needs a test framework, and none looks at a name.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from transship.abc.compression import Compression
from transship.abc.settings import Parameters
from transship.plugin.compression import method_fault
from transship.testing.checking import is_resizable, memory_within, naming, raises, require
from transship.wire.limits import MIB
from transship.wire.multifd import PACKET_DATA_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc.compression import Compressor, Decompressor
    from transship.buffers import Buffer

MakeMethod = Callable[[], Compression]
"""Makes the method, as a migration has it made: each call stands for another process."""

_SEED: Final = 20_261_126
"""Makes the pages the same in every run."""

_PAGE: Final = 4096
_CANARY: Final = b"\xa5" * 64

_BOMB_BYTES: Final = 128 * MIB
_MOST_BYTES: Final = 48 * MIB
"""Memory that the refusal of a bomb may take: a window of a few MiB is fine, the bomb is not."""


def check_compression(make_method: MakeMethod) -> None:
    """Run every check.

    Args:
        make_method: Returns the method; called twice or more for each check, since source and
            destination are never in one process.

    Raises:
        AssertionError: A rule is broken; a note names the check.
    """
    for check in COMPRESSION_CHECKS:
        with naming(check):
            check(make_method)


def check_says_what_it_is(make_method: MakeMethod) -> None:
    """A method has a name for people, bits for the wire, and a limit to how much data grow."""
    fault = method_fault(make_method())
    require(fault is None, f"this is a method {fault}")


def check_carries_many_packets(make_method: MakeMethod) -> None:
    """Pages arrive as they were, packet by packet, however they lie in memory on either side."""
    for parameters in (Parameters(), Parameters(multifd_zlib_level=0, multifd_zstd_level=12)):
        pair = _Pair(make_method, parameters)
        for _ in range(20):
            pages = pair.some_pages(pair.chance.randint(1, PACKET_DATA_BYTES // _PAGE))
            require(pair.carried(pages) == pages, "the pages that arrived are not those sent")


def check_accepts_every_buffer(make_method: MakeMethod) -> None:
    """Pages may come as any kind of buffer, read-only or not, and data as well."""
    pair = _Pair(make_method)
    pages = pair.some_pages(4)
    runs = [pages[_PAGE * number : _PAGE * (number + 1)] for number in range(4)]
    mixed: list[Buffer] = [runs[0], bytearray(runs[1]), memoryview(runs[2])]
    mixed.append(memoryview(bytearray(runs[3])))
    for kind in (bytes, bytearray, memoryview):
        data = kind(bytes(pair.compressor.compress(mixed)))
        require(pair.decompressed(data, len(pages)) == pages, f"{kind.__name__} is not accepted")


def check_keeps_packets_within_bounds(make_method: MakeMethod) -> None:
    """No packet is empty, and none is longer than its pages by more than the method says."""
    pair = _Pair(make_method)
    for kind in (bytes, pair.chance.randbytes):
        for count in (1, 2, PACKET_DATA_BYTES // _PAGE):
            for _ in range(5):
                size = count * _PAGE
                data = pair.compressor.compress([kind(size)])
                require(len(data) > 0, "a packet without data")
                growth = len(data) - size
                require(
                    growth <= pair.method.most_growth_bytes,
                    f"{size} bytes have grown by {growth}, more than the most there is",
                )


def check_keeps_channels_apart(make_method: MakeMethod) -> None:
    """What went over one channel means nothing to another."""
    method, other_side = make_method(), make_method()
    pairs = [_Pair(lambda: method, other_side=other_side) for _ in range(3)]
    chance = random.Random(_SEED)
    for _ in range(30):
        pair = chance.choice(pairs)
        pages = pair.some_pages(chance.randint(1, 16))
        require(pair.carried(pages) == pages, "channels disturb each other")


def check_holds_no_views(make_method: MakeMethod) -> None:
    """After return or refusal the memory of pages, data and targets can be resized."""
    pair = _Pair(make_method)
    pages = bytearray(pair.some_pages(3))
    data = bytearray(pair.compressor.compress([pages]))
    require(is_resizable(pages), "a view of the pages is held")
    room = bytearray(len(pages))
    with memoryview(room) as target, memoryview(data) as view:
        pair.decompressor.decompress(view, [target])
    require(is_resizable(room), "a view of the target is held")
    require(is_resizable(data), "a view of the data is held")
    kept: ValueError | None = None
    with memoryview(room) as target, memoryview(data)[: len(data) // 2] as half:
        try:
            make_method().decompressor().decompress(half, [target])
        except ValueError as error:
            kept = error
    require(kept is not None, "half of a packet is not refused")
    require(is_resizable(room) and is_resizable(data), "a view is held after a refusal")


def check_refuses_what_does_not_fit(make_method: MakeMethod) -> None:
    """Data for more pages, or for fewer, are refused; no byte lands beyond the targets."""
    pair = _Pair(make_method)
    pages = pair.chance.randbytes(8 * _PAGE)
    data = bytes(pair.compressor.compress([pages]))
    more = data + bytes(pair.compressor.compress([pair.chance.randbytes(_PAGE)]))
    for what, wrong, size in (
        ("data for a page too many", data, len(pages) - _PAGE),
        ("data for a byte too many", data, len(pages) - 1),
        ("data for a page too few", data, len(pages) + _PAGE),
        ("two packets in one", more, len(pages)),
        ("half of a packet", data[: len(data) // 2], len(pages)),
        ("no data", b"", _PAGE),
    ):
        with raises(ValueError, f"on {what}"):
            _Pair(make_method).decompressed(wrong, size)


def check_refuses_garbage(make_method: MakeMethod) -> None:
    """Damaged data are a ``ValueError``, or pages that are wrong, and never anything else."""
    pair = _Pair(make_method)
    packets = []
    for count in (1, 3):
        pages = pair.some_pages(count)
        packets.append((bytes(pair.compressor.compress([pages])), len(pages)))
    for _ in range(400):
        victim = _Pair(make_method)
        for data, size in packets:
            if not _decompresses(victim, _damaged(pair.chance, data), size):
                break
    for length in (1, 7, 100, 10_000):
        _decompresses(_Pair(make_method), pair.chance.randbytes(length), _PAGE)


def check_bounds_its_memory(make_method: MakeMethod) -> None:
    """Data that stand for far more than the targets hold are refused in little memory."""
    run = bytes(8 * MIB)
    data = bytes(make_method().compressor(Parameters()).compress([run] * (_BOMB_BYTES // len(run))))
    pair = _Pair(make_method)
    with memory_within(_MOST_BYTES), raises(ValueError, "on data for many pages too many"):
        pair.decompressed(data, _PAGE)


def check_outlives_a_guest_that_writes(make_method: MakeMethod) -> None:
    """Pages that change while they are compressed may be torn; what follows is as it should be."""
    pair = _Pair(make_method)
    live = bytearray(pair.some_pages(PACKET_DATA_BYTES // _PAGE))
    is_over = threading.Event()

    def write() -> None:
        chance = random.Random(_SEED)
        while not is_over.is_set():
            start = chance.randrange(0, len(live), _PAGE)
            live[start : start + 64] = chance.randbytes(64)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(15):
            pair.carried(live)
            quiet = pair.some_pages(2)
            require(pair.carried(quiet) == quiet, "a guest that wrote has broken what follows")
    finally:
        is_over.set()
        writer.join()


class _Pair:
    """Both ends of a channel.

    Attributes:
        method: The source's.
        chance: For what is sent; the same in every run.
    """

    def __init__(
        self,
        make_method: MakeMethod,
        parameters: Parameters | None = None,
        *,
        other_side: Compression | None = None,
    ) -> None:
        self.method = make_method()
        self.chance = random.Random(_SEED)
        self.compressor: Compressor = self.method.compressor(parameters or Parameters())
        self.decompressor: Decompressor = (other_side or make_method()).decompressor()

    def some_pages(self, count: int) -> bytes:
        """Pages as guests have them: empty, without any order, and with a pattern."""
        chance = self.chance
        kinds = (
            lambda: bytes(_PAGE),
            lambda: chance.randbytes(_PAGE),
            lambda: chance.randbytes(32) * (_PAGE // 32),
            lambda: bytes(chance.choices(b"etaoin shrdlu", k=_PAGE)),
        )
        return b"".join(chance.choice(kinds)() for _ in range(count))

    def carried(self, pages: Buffer) -> bytes:
        """Pages, compressed run by run and decompressed into other runs."""
        with memoryview(pages) as view:
            data = bytes(self.compressor.compress(self._runs(view)))
        try:
            return self.decompressed(data, len(pages))
        except ValueError as error:
            raise AssertionError(f"a packet of {len(pages)} bytes is refused: {error}") from error

    def decompressed(self, data: Buffer, size: int) -> bytes:
        """What data stand for; checks that nothing else was written."""
        room = bytearray(_CANARY + bytes(size) + _CANARY)
        with memoryview(room) as view:
            target = view[len(_CANARY) : len(_CANARY) + size]
            try:
                self.decompressor.decompress(data, self._runs(target))
            finally:
                is_whole = room.startswith(_CANARY) and room.endswith(_CANARY)
                require(is_whole, "something was written beyond the targets")
        return bytes(room[len(_CANARY) : len(_CANARY) + size])

    def _runs(self, view: memoryview) -> Sequence[memoryview]:
        runs = []
        while len(view):
            count = self.chance.randint(1, 20) * _PAGE
            runs.append(view[:count])
            view = view[count:]
        return runs


def _damaged(chance: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(damaged))
        match chance.randrange(3):
            case 0:
                damaged[place] ^= 1 << chance.randrange(8)
            case 1:
                damaged[place:place] = chance.randbytes(chance.randint(1, 8))
            case _:
                del damaged[place + 1 : place + 1 + chance.randint(1, 8)]
    return bytes(damaged)


def _decompresses(pair: _Pair, data: bytes, size: int) -> bool:
    try:
        pair.decompressed(data, size)
    except ValueError:
        return False
    return True


COMPRESSION_CHECKS: Final = (
    check_says_what_it_is,
    check_carries_many_packets,
    check_accepts_every_buffer,
    check_keeps_packets_within_bounds,
    check_keeps_channels_apart,
    check_holds_no_views,
    check_refuses_what_does_not_fit,
    check_refuses_garbage,
    check_bounds_its_memory,
    check_outlives_a_guest_that_writes,
)
"""In the order in which a new method comes to pass them."""
