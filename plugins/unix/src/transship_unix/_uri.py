"""``unix:PATH`` and its options to a frozen address. Pure: the file system is not asked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn

from transship.errors import BlockedError
from transship.toolkit import refuse_unknown_options

if TYPE_CHECKING:
    from transship.abc import Option, Options

PATH_BYTES: Final = 107
"""Longest path of a socket: ``sun_path`` of unix(7) has 108 bytes, of which the last is zero; of an
abstract name it is the first."""

_ABSTRACT: Final = "abstract"
_TIGHT: Final = "tight"
_MODE: Final = "mode"
_OCTAL: Final = re.compile(r"(0o?)?[0-7]{3}")
_HIGHEST_MODE: Final = 0o777
_PRIVATE: Final = 0o600


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket file; or a name that is in no file system.

    Args:
        path: The path, or the name; everything behind the colon belongs to it, also a comma.
        is_abstract: Whether it is a name, known to this host (to this network namespace) alone.
        is_tight: Whether an abstract name ends where it ends; if not, zero bytes fill it up.
        mode: The file's permissions.
    """

    path: str
    is_abstract: bool = False
    is_tight: bool = True
    mode: int = _PRIVATE

    @property
    def place(self) -> str | bytes:
        """As bind(2) and connect(2) want it."""
        if not self.is_abstract:
            return self.path
        name = os.fsencode(self.path)
        return b"\0" + (name if self.is_tight else name.ljust(PATH_BYTES, b"\0"))

    def absolute(self) -> UnixAddress:
        """The same socket, wherever the process goes; the path may be too long to connect to."""
        return self if self.is_abstract else replace(self, path=os.path.abspath(self.path))

    @property
    def uri(self) -> str:
        """What of it a URI can say: not that a name is abstract."""
        return f"unix:{self.path}"

    def __str__(self) -> str:
        return self.uri + (" (abstract)" if self.is_abstract else "")


def parse_outgoing(text: str, options: Options) -> UnixAddress:
    """Read the address of somebody who listens; as :func:`parse`, but there is no mode to set."""
    known = (_ABSTRACT, _TIGHT)
    refuse_unknown_options(f"unix:{text}", options, known, {_MODE: "listening"})
    return parse(text, options)


def parse(text: str, options: Options) -> UnixAddress:
    """Read an address to listen at.

    Args:
        text: The URI behind ``unix:``.
        options: ``abstract`` and ``tight``, switches; ``mode``, a number, or text in octal.

    Raises:
        BlockedError: There is no path, it is too long for a socket, or an option is wrong.
    """
    refuse_unknown_options(f"unix:{text}", options, (_ABSTRACT, _TIGHT, _MODE))
    if not text:
        raise BlockedError("'unix:' names no path", expected="unix:PATH")
    if "\0" in text:
        raise BlockedError("a path cannot contain a zero byte", found=repr(text))
    length = len(os.fsencode(text))
    if length > PATH_BYTES:
        raise BlockedError(
            f"'unix:{text}' is too long for a socket",
            expected=f"a path of at most {PATH_BYTES} bytes",
            found=f"{length} bytes",
            hint="use a shorter path, or a relative one",
        )
    is_abstract = _read_switch(text, _ABSTRACT, options.get(_ABSTRACT, False))
    if is_abstract and _MODE in options:
        _refuse(text, "either an abstract name or a mode", "both: what is no file has no mode")
    return UnixAddress(
        text,
        is_abstract,
        _read_switch(text, _TIGHT, options.get(_TIGHT, True)),
        _read_mode(text, options.get(_MODE, _PRIVATE)),
    )


def _read_switch(text: str, name: str, value: Option) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("on", "off"):
        _refuse(text, f"{name}=on or {name}=off", f"{name}={value}")
    return value == "on"


def _read_mode(text: str, value: Option) -> int:
    if isinstance(value, str) and _OCTAL.fullmatch(value):
        value = int(value, 8)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _HIGHEST_MODE:
        _refuse(text, "a mode in octal, such as 0660", repr(value))
    return value


def _refuse(text: str, expected: str, found: str) -> NoReturn:
    raise BlockedError(f"'unix:{text}' was given wrong options", expected=expected, found=found)
