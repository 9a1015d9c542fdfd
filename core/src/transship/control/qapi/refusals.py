"""How an argument is refused: where it is, what it must be, what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.control.errors import CommandError, generic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
    list: "an array",
    dict: "an object",
}
"""What a JSON value is called, by the type that Python has for it."""


_QUOTED_CHARACTERS: Final = 120
"""Of a client's own words repeated in an error: enough to recognise them."""


def joined(place: str, name: str) -> str:
    """The position of a member."""
    return f"{place}.{name}" if place else name


def quoted(value: object) -> str:
    """A value for a refusal, cut where it is long: a reply must not be as large as a request."""
    text = str(value)
    if len(text) > _QUOTED_CHARACTERS:
        text = text[:_QUOTED_CHARACTERS] + "…"
    return f"'{text}'"


def named(place: str) -> str:
    """A position for a refusal."""
    return f"parameter {quoted(place)}"


def wrong_type(value: object, place: str, expected: str) -> CommandError:
    """The refusal of a value of the wrong kind."""
    return generic(f"{named(place)} must be {expected}, not {KINDS[type(value)]}")


def unknown_name(value: str, place: str, names: Sequence[str]) -> CommandError:
    """The refusal of a name that an enumeration does not have."""
    return generic(
        f"{named(place)} does not accept {quoted(value)}: it must be one of {', '.join(names)}"
    )
