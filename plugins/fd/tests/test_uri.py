from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from transship.errors import BlockedError
from transship_fd._uri import FdAddress, parse


@given(st.integers(0, 999_999_999))
def test_number_is_that_of_an_inherited_descriptor(number: int) -> None:
    address = parse(str(number), {})
    assert address == FdAddress(str(number), number, is_borrowed=False)
    assert str(address) == f"fd:{number}"


@given(st.text(min_size=1), st.integers(0, 1 << 30))
def test_name_stands_for_what_whoever_gave_it_says(name: str, number: int) -> None:
    assert parse(name, {"descriptor": number}) == FdAddress(name, number, is_borrowed=True)


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        with pytest.raises(BlockedError):
            parse(text, {})


@pytest.mark.parametrize("text", ["", "-1", "+1", "0x3", "3 ", "１", "9999999999", "name"])
def test_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse(text, {})
    assert caught.value.expected


@pytest.mark.parametrize("options", [{"descriptor": -1}, {"descriptor": "3"}, {"descriptor": True}])
def test_option_that_is_no_descriptor_is_refused(options: dict[str, int | str]) -> None:
    with pytest.raises(BlockedError, match="no file descriptor"):
        parse("name", options)


def test_unknown_option_is_refused() -> None:
    with pytest.raises(BlockedError, match="'size'"):
        parse("3", {"size": 1})
