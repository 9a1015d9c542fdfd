"""One JSON text to a Python value, and back to the bytes that a client gets."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(text: bytes) -> object:
    """Read a JSON text; strings may stand in single quotes.

    A whole number that 64 bits do not hold becomes a float, as at QEMU. The caller has bounded the
    length and the depth.

    Raises:
        ValueError: It is no JSON; a key is repeated; a number is too large even for a float; a
            string is no Unicode.
    """
    if b"'" in text:
        text = _STRING.sub(_in_double_quotes, text)
    try:
        plain = text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 at byte {error.start}") from None
    try:
        value: object = _DECODER.decode(plain)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.lower()} at character {error.pos}") from None
    if "\\u" in plain:
        _check_surrogates(value)
    return value


def serialise(value: object) -> bytes:
    """A JSON value as a line: ASCII, ended by CRLF.

    Raises:
        ValueError: A number in it is infinite, or none at all.
        TypeError: It is no JSON value.
    """
    return json.dumps(value, allow_nan=False).encode("ascii") + b"\r\n"


def _in_double_quotes(string: re.Match[bytes]) -> bytes:
    text = string[0]
    if b"'" not in text:
        return text
    # Between escaped backslashes, a backslash escapes what follows it.
    pieces = text[1:-1].split(rb"\\")
    return b'"' + rb"\\".join(map(_requoted, pieces)) + b'"'


def _requoted(piece: bytes) -> bytes:
    return piece.replace(rb"\'", b"'").replace(rb"\"", b'"').replace(b'"', rb"\"")


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is repeated in an object")
    return members


def _integer(digits: str) -> int | float:
    if len(digits) <= _DIGITS and _LOWEST <= (number := int(digits)) < _BEYOND:
        return number
    return _number(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _check_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a string has one half of a surrogate pair") from None


_LOWEST: Final = -(1 << 63)
_BEYOND: Final = 1 << 64
_DIGITS: Final = 20
"""Of the longest number in 64 bits; also keeps ``int`` from what takes it quadratic time."""

_STRING: Final = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"' rb"|" rb"'[^'\\]*+(?:\\.[^'\\]*+)*+'", re.DOTALL
)

_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_no_number,
)
