from __future__ import annotations

import os

import pytest
from hypothesis import example, given, strategies as st

from transship.errors import BlockedError
from transship_unix._uri import PATH_BYTES, UnixAddress, parse, parse_outgoing

paths = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=120
)


@given(paths)
@example("/tmp/a,to=5,b c:d")
@example("@not-abstract")
def test_every_path_that_fits_is_taken_as_it_is(path: str) -> None:
    if len(os.fsencode(path)) > PATH_BYTES:
        with pytest.raises(BlockedError):
            parse(path, {})
    else:
        address = parse(path, {})
        assert address == UnixAddress(path)
        assert parse(str(address).removeprefix("unix:"), {}) == address


@pytest.mark.parametrize(("letter", "fits"), [("a", 107), ("é", 53)])
def test_length_is_counted_in_bytes(letter: str, fits: int) -> None:
    assert parse(letter * fits, {}).path == letter * fits
    with pytest.raises(BlockedError, match="at most 107 bytes") as caught:
        parse(letter * (fits + 1), {})
    assert caught.value.found == "108 bytes"


@pytest.mark.parametrize("text", ["", "a\0b", "\0abstract"])
def test_path_that_no_file_can_have_is_refused(text: str) -> None:
    with pytest.raises(BlockedError):
        parse(text, {})


def test_path_that_is_not_utf8_is_counted_in_its_bytes() -> None:
    path = os.fsdecode(b"\xff" * PATH_BYTES)
    assert parse(path, {}).path == path


def test_options_are_refused_by_name() -> None:
    with pytest.raises(BlockedError, match="keep-alive"):
        parse("/x", {"keep-alive": True})


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"abstract": True}, b"\0a,b"),
        ({"abstract": "on", "tight": "on"}, b"\0a,b"),
        ({"abstract": True, "tight": False}, b"\0a,b" + bytes(104)),
        ({"abstract": False, "tight": False}, "a,b"),
    ],
)
def test_abstract_name_begins_with_a_zero_byte(
    options: dict[str, bool], place: str | bytes
) -> None:
    assert parse("a,b", options).place == place


@pytest.mark.parametrize("mode", ["660", "0660", "0o660", 0o660])
def test_mode_is_read_in_octal(mode: str | int) -> None:
    assert parse("a", {"mode": mode}).mode == 0o660


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "rw"},
        {"mode": "0888"},
        {"mode": "1777"},
        {"mode": True},
        {"mode": -1},
        {"mode": "0660", "abstract": True},
        {"abstract": "yes"},
        {"tight": 1},
    ],
)
def test_wrong_option_is_refused(options: dict[str, str | int]) -> None:
    with pytest.raises(BlockedError, match="options"):
        parse("a", options)


def test_absolute_address_does_not_depend_on_the_working_folder() -> None:
    assert UnixAddress("x").absolute().path == os.path.join(os.getcwd(), "x")
    assert UnixAddress("/x").absolute() == UnixAddress("/x")
    assert UnixAddress("x", is_abstract=True).absolute().path == "x"


def test_mode_is_refused_where_nothing_is_made() -> None:
    with pytest.raises(BlockedError, match="'mode', which is for listening"):
        parse_outgoing("a", {"mode": "0660"})
    assert parse_outgoing("a", {"abstract": True}).is_abstract
