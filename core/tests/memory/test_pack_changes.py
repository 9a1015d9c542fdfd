"""Records of changes: what `xbzrle_encode` makes of single pages, for many pages at once."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from transship.memory import _kernels_py as reference, kernels

from .kernel_inputs import FULL, PAGE, ZERO

if TYPE_CHECKING:
    from transship.memory.kernels import Kernels

CHANGE = 0x60
IN_FULL = -1


class Packed(NamedTuple):
    records: bytes
    lengths: list[int]


def pack(
    implementation: Kernels,
    new: list[bytes],
    old: list[bytes],
    places: list[int],
    *,
    pages: list[int] | None = None,
    zeros: bytes | None = None,
    room: int | None = None,
) -> Packed:
    """Pack pages, which are numbered from 0 if nothing else is said."""
    page_size = len((new + old)[0])
    target = bytearray(b"\xee" * (len(new) * (page_size + 11) if room is None else room))
    lengths = array("q", [77] * len(new))
    size = implementation.pack_changes(
        b"".join(new),
        page_size,
        memoryview(array("q", range(len(new)) if pages is None else pages)),
        bytes(len(new)) if zeros is None else zeros,
        b"".join(old),
        memoryview(array("q", places)),
        FULL,
        ZERO,
        CHANGE,
        target,
        memoryview(lengths),
    )
    assert not target[size:].strip(b"\xee"), "something lies behind the records"
    return Packed(bytes(target[:size]), lengths.tolist())


def full(page: int, content: bytes) -> bytes:
    return (page * len(content) | FULL).to_bytes(8, "big") + content


def zero(page: int) -> bytes:
    return (page * PAGE | ZERO).to_bytes(8, "big") + b"\0"


def change(page: int, encoding: str | bytes | bytearray, page_size: int = PAGE) -> bytes:
    content = bytes.fromhex(encoding) if isinstance(encoding, str) else encoding
    word = (page * page_size | CHANGE).to_bytes(8, "big")
    return word + b"\1" + len(content).to_bytes(2, "big") + content


def changed(page: bytes, *runs: tuple[int, bytes]) -> bytes:
    """The page with other bytes at some places."""
    result = bytearray(page)
    for start, content in runs:
        result[start : start + len(content)] = content
    return bytes(result)


PAGES = [random.Random(seed).randbytes(PAGE) for seed in range(4)]
NOTHING = bytes(PAGE)


def test_page_of_which_a_byte_has_changed_takes_a_short_record(implementation: Kernels) -> None:
    new = changed(NOTHING, (4095, b"\1"))
    assert pack(implementation, [new], [NOTHING], [0]) == (change(0, "ff1f0101"), [4])


def test_page_that_has_not_changed_takes_none(implementation: Kernels) -> None:
    assert pack(implementation, PAGES, PAGES, [0, 1, 2, 3]) == (b"", [0, 0, 0, 0])


def test_page_whose_change_does_not_fit_is_recorded_in_full(implementation: Kernels) -> None:
    packed = pack(implementation, [PAGES[1]], [PAGES[0]], [0])
    assert packed == (full(0, PAGES[1]), [-1])


def test_page_that_is_compared_with_none_is_recorded_in_full(implementation: Kernels) -> None:
    packed = pack(implementation, [PAGES[1], NOTHING], [PAGES[1]], [IN_FULL, -7])
    assert packed == (full(0, PAGES[1]) + full(1, NOTHING), [-1, -1])


def test_page_said_to_be_zero_is_recorded_so_whatever_it_is(implementation: Kernels) -> None:
    packed = pack(implementation, PAGES[:2], PAGES, [1, IN_FULL], zeros=b"\1\1", pages=[5, 6])
    assert packed == (zero(5) + zero(6), [-1, -1])


def test_records_of_all_kinds_come_in_the_order_of_the_pages(implementation: Kernels) -> None:
    one, other = changed(PAGES[0], (7, b"\0" * 3)), changed(PAGES[3], (0, b"abc"), (999, b"d"))
    new = [one, PAGES[1], PAGES[2], NOTHING, other, PAGES[2]]
    records, lengths = pack(
        implementation,
        new,
        PAGES,
        [0, IN_FULL, 2, 3, 3, 0],
        pages=[9, 10, 12, 13, 14, 20],
        zeros=bytes([0, 0, 0, 1, 0, 0]),
    )
    assert records == b"".join(
        [
            change(9, b"\7\3" + one[7:10]),
            full(10, PAGES[1]),
            zero(13),
            change(14, b"\0\3abc" + bytes.fromhex("e40701") + b"d"),
            full(20, PAGES[2]),
        ]
    )
    assert lengths == [5, -1, 0, -1, 9, -1]


def test_runs_do_not_go_on_from_page_to_page(implementation: Kernels) -> None:
    new = [changed(NOTHING, (4090, b"abcdef")), changed(NOTHING, (0, b"ghijkl"))]
    packed = pack(implementation, new, [NOTHING], [0, 0])
    assert packed.records == change(0, b"\xfa\x1f\6abcdef") + change(1, b"\0\6ghijkl")


@pytest.mark.parametrize("start", range(17))
def test_runs_go_on_from_word_to_word(implementation: Kernels, start: int) -> None:
    new = changed(NOTHING, (start, b"\1" * 30), (start + 31, b"\2"))
    packed = pack(implementation, [new], [NOTHING], [0])
    assert packed.records == change(0, bytes([start, 30]) + b"\1" * 30 + b"\1\1\2")


def test_record_of_a_change_may_be_longer_than_that_of_a_page(implementation: Kernels) -> None:
    """An encoding may have as many bytes as the page, and its record has three more."""
    new = b"\1" * 4093 + bytes(3)
    packed = pack(implementation, [new], [NOTHING], [0])
    assert packed.lengths == [-1], "there is no room for a length after it"
    new = bytes(3) + b"\1" * 4093
    packed = pack(implementation, [new], [NOTHING], [0])
    assert packed == (change(0, b"\3\xfd\x1f" + b"\1" * 4093), [4096])


@pytest.mark.parametrize("length", [*range(3070, 3090), 4080, 4092, 4093, 4094])
def test_limit_is_that_of_a_single_page(implementation: Kernels, length: int) -> None:
    for start in (0, 1, 2, 3, 4, PAGE - length):
        runs = [(start, b"\1" * length), *((place, b"\2") for place in range(3800, 4095, 2))]
        for new in (changed(NOTHING, runs[0])[:PAGE], changed(NOTHING, *runs)[:PAGE]):
            target = bytearray(PAGE)
            expected = reference.xbzrle_encode(NOTHING, new, target)
            records, lengths = pack(implementation, [new], [NOTHING], [0])
            assert lengths == [expected]
            encoded = change(0, bytes(target[:expected]))
            assert records == (encoded if expected > 0 else full(0, new))


@pytest.mark.parametrize("page_size", [1 << 10, 1 << 14, 1 << 15, 1 << 16])
def test_pages_of_other_sizes(implementation: Kernels, page_size: int) -> None:
    nothing = bytes(page_size)
    new = [changed(nothing, (page_size // 2 - 1, b"abc")), changed(nothing, (0, b"x"))]
    gap = page_size // 2 - 1
    expected = bytes([gap & 0x7F | 0x80, gap >> 7, 3]) + b"abc"
    packed = pack(implementation, new, [nothing], [0, 0])
    if gap <= 0x3FFF:
        assert packed.records == change(0, expected, page_size) + change(1, b"\0\1x", page_size)
    else:
        assert packed.records == full(0, new[0]) + change(1, b"\0\1x", page_size)


def test_change_too_long_for_its_length_is_recorded_in_full(implementation: Kernels) -> None:
    """The length has 16 bits, and a page of 64 KiB has one byte more than they can say."""
    nothing = bytes(1 << 16)
    for last_gap, size in ((4, 0x10000), (5, 0xFFFF)):
        # Five runs, each with three bytes of lengths; the last one ends with the page.
        gaps = [3, 4, 4, last_gap]
        new = b"\1" * 13104 + b"".join(bytes(gap) + b"\1" * 13104 for gap in gaps)
        new = new.ljust(1 << 16, b"\1")
        target = bytearray(1 << 16)
        assert reference.xbzrle_encode(nothing, new, target) == size
        records, lengths = pack(implementation, [new], [nothing], [0])
        if size > 0xFFFF:
            assert (records, lengths) == (full(0, new), [-1])
        else:
            assert (records, lengths) == (change(0, target[:size], 1 << 16), [size])


def test_nothing_packs_to_nothing(implementation: Kernels) -> None:
    target = bytearray()
    assert not implementation.pack_changes(
        b"", PAGE, b"", b"", bytes(PAGE), b"", FULL, ZERO, CHANGE, target, bytearray()
    )


@pytest.mark.parametrize("missing", [1, 9, PAGE])
def test_target_that_is_too_small_is_refused(implementation: Kernels, missing: int) -> None:
    with pytest.raises(ValueError):
        pack(implementation, PAGES[:2], PAGES, [IN_FULL, 0], room=2 * (8 + PAGE) - missing)


def test_room_for_the_records_that_come_out_is_enough(implementation: Kernels) -> None:
    new = changed(PAGES[0], (100, b"\0" * 5))
    assert len(pack(implementation, [new], PAGES, [0], room=11 + 7).records) == 18


def edited(page: bytes, source: random.Random, page_size: int) -> bytes:
    """The page after one of the things that guests do to pages."""
    result = bytearray(page)
    match source.randrange(7):
        case 0:
            pass
        case 1:
            start = source.randrange(page_size)
            end = min(page_size, start + source.choice([1, 8, 64, 127, 128, 129, 1000, page_size]))
            result[start:end] = source.randbytes(end - start)
        case 2:
            return source.randbytes(page_size)
        case 3:
            for _ in range(source.choice([1, 10, 64, 300])):
                result[source.randrange(page_size)] ^= source.randrange(1, 256)
        case 4:
            step = source.choice([2, 3, 4, 8, 16, 129])
            result[::step] = bytes(value ^ 1 for value in result[::step])
        case 5:
            half = page_size // 2
            result[half:] = bytes(value ^ 0xFF for value in result[half:])
        case 6:
            return bytes(page_size)
    return bytes(result)


@given(
    seed=st.integers(0, 1 << 32),
    count=st.integers(0, 40),
    page_size=st.sampled_from([64, 1024, PAGE, 1 << 15]),
)
@settings(deadline=None, max_examples=60)
def test_all_implementations_pack_the_same_changes(seed: int, count: int, page_size: int) -> None:
    source = random.Random(seed)
    old = [source.randbytes(page_size) for _ in range(8)]
    places = [source.randrange(-1, len(old)) for _ in range(count)]
    if source.random() < 0.3:
        places = list(range(min(count, len(old))))
    new = [edited(old[max(place, 0)], source, page_size) for place in places]
    zeros = bytes(source.random() < 0.1 for _ in new)
    pages = [source.randrange(1 << 40) for _ in new]
    if page_size == 64:  # no room for the real tags
        pages = [page * 4 for page in pages]
    expected = pack(reference, new, old, places, pages=pages, zeros=zeros)
    for implementation in kernels.available():
        assert pack(implementation, new, old, places, pages=pages, zeros=zeros) == expected
    for content, place, is_zero, length in zip(new, places, zeros, expected.lengths, strict=True):
        if place < 0 or is_zero:
            assert length == -1
            continue
        target = bytearray(page_size)
        assert length == reference.xbzrle_encode(old[place], content, target)
        if length > 0:
            page = bytearray(old[place])
            assert reference.xbzrle_decode(target[:length], page) > 0
            assert page == content
