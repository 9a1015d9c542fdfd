"""``unix:PATH`` to a frozen address and back. Pure: the file system is not asked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH_BYTES: Final = 107
"""Longest path of a socket: ``sun_path`` of unix(7) has 108 bytes, of which the last is zero."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a socket file; everything behind the colon belongs to it, also a comma."""

    path: str

    def absolute(self) -> UnixAddress:
        """The same file, wherever the process goes; it may be too long to connect to."""
        return UnixAddress(os.path.abspath(self.path))

    def __str__(self) -> str:
        return f"unix:{self.path}"


def parse(text: str, options: Mapping[str, str | int | bool]) -> UnixAddress:
    """Read an address.

    Args:
        text: The URI behind ``unix:``.
        options: Must be empty: there are none.

    Raises:
        BlockedError: There is no path, it is too long for a socket, or there is an option.
    """
    if options:
        raise BlockedError(
            f"'unix:{text}' was given options",
            expected="none: the unix transport has no options",
            found=", ".join(sorted(options)),
        )
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
    return UnixAddress(text)
