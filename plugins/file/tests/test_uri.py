from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from transship.errors import BlockedError
from transship_file._uri import FileAddress, parse

HIGHEST = (1 << 63) - 1
paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
plain_paths = paths.filter(lambda path: ",offset=" not in path)
offsets = st.integers(0, HIGHEST)


@given(plain_paths, offsets)
def test_address_is_read_back_from_its_text(path: str, offset: int) -> None:
    address = FileAddress(path, offset)
    assert parse(str(address).removeprefix("file:"), {}) == address


@given(paths, offsets)
@example("a,offset=1", 0)
def test_path_is_whatever_stands_there_if_the_offset_is_an_option(path: str, offset: int) -> None:
    assert parse(path, {"offset": offset}) == FileAddress(path, offset)


@given(st.integers(0, HIGHEST), st.sampled_from(["0x{:x}", "0X{:X}", "{}", "{}b", "{}B"]))
def test_offset_is_hexadecimal_or_decimal(offset: int, form: str) -> None:
    assert parse("f,offset=" + form.format(offset), {}).offset == offset


@pytest.mark.parametrize(
    ("suffix", "shift"), [("k", 10), ("M", 20), ("g", 30), ("T", 40), ("p", 50), ("E", 60)]
)
def test_letter_is_a_binary_unit(suffix: str, shift: int) -> None:
    assert parse(f"f,offset=3{suffix}", {}).offset == 3 << shift
    assert parse(f"f,offset=3{suffix.swapcase()}", {}).offset == 3 << shift


@pytest.mark.parametrize(
    "text",
    [
        *("", ",offset=1", "f,offset=", "f,offset=-1", "f,offset=+1", "f,offset= 1", "f,offset=1 "),
        *("f,offset=1.5k", "f,offset=1kk", "f,offset=0x", "f,offset=0xg", "f,offset=0x1k"),
        *("f,offset=1,offset=2", "f,offset=9223372036854775808", "f,offset=8E", "f,offset=1\n"),
        *("f,offset=1_0", "f,offset=１", "f\0", "\ud800"),
    ],
)
def test_malformed_address_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse(text, {})
    assert caught.value.expected
    assert caught.value.found


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse(text, {})
    except BlockedError as error:
        assert error.expected
    else:
        assert parse(str(address).removeprefix("file:"), {}) == address


@pytest.mark.parametrize(
    "options",
    [
        *({"offset": -1}, {"offset": True}, {"offset": "1z"}, {"offset": 1 << 63}),
        *({"descriptor": -1}, {"descriptor": "3"}, {"descriptor": False}, {"size": 1}),
    ],
)
def test_option_that_is_none_is_refused(options: dict[str, int | str | bool]) -> None:
    with pytest.raises(BlockedError):
        parse("f", options)


def test_file_that_is_open_already_can_be_named() -> None:
    assert parse("/dev/fdset/1", {"descriptor": 7, "offset": 8}).descriptor == 7
