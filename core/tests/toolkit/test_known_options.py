"""Options that nobody knows are refused, in the same words everywhere."""

from __future__ import annotations

import pytest

from transship.abc import Address
from transship.errors import BlockedError
from transship.toolkit import refuse_unknown_options


def test_known_options_are_taken_all_or_none_of_them() -> None:
    refuse_unknown_options("kite:1", {})
    refuse_unknown_options("kite:1", {}, ("tail",))
    refuse_unknown_options("kite:1", {"tail": True, "colour": "red"}, ("colour", "tail"))


@pytest.mark.parametrize(
    ("known", "expected"), [((), "none"), (("tail", "colour"), "none but colour, tail")]
)
def test_unknown_options_are_refused_with_those_that_there_are(
    known: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(BlockedError, match="'kite:1' was given an option") as caught:
        refuse_unknown_options(Address("kite", "1"), {"wind": 7, "rain": 8}, known)
    assert (caught.value.expected, caught.value.found) == (expected, "'rain'; 'wind'")


def test_option_of_the_other_side_is_refused_with_what_it_is_for() -> None:
    with pytest.raises(BlockedError) as caught:
        refuse_unknown_options("kite:1", ["wind"], ["tail"], {"wind": "landing", "calm": "rest"})
    assert caught.value.found == "'wind', which is for landing"
