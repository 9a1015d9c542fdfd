"""``file:PATH[,offset=N]`` to a frozen address and back. Pure: the file system is not asked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn

from transship.errors import BlockedError
from transship.toolkit import refuse_unknown_options

if TYPE_CHECKING:
    from transship.abc import Options

_OFFSET: Final = "offset"
_DESCRIPTOR: Final = "descriptor"
_MARK: Final = ",offset="
_HIGHEST: Final = (1 << 63) - 1
"""Largest position in a file: ``off_t`` of lseek(2)."""

_HEX: Final = re.compile(r"0[xX][0-9a-fA-F]{1,16}")
_DECIMAL: Final = re.compile(r"([0-9]{1,20})([bBkKmMgGtTpPeE]?)")
_POWERS: Final = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}


@dataclass(frozen=True, slots=True)
class FileAddress:
    """A part of a file: everything from an offset on.

    Args:
        path: The file.
        offset: Where the stream begins, in bytes.
        descriptor: What the file is open as already, if it is; somebody else closes it.
    """

    path: str
    offset: int = 0
    descriptor: int | None = None

    def absolute(self) -> FileAddress:
        """The same file, wherever the process goes."""
        return replace(self, path=os.path.abspath(self.path))

    def __str__(self) -> str:
        return f"file:{self.path}" + (f"{_MARK}{self.offset}" if self.offset else "")


def parse(text: str, options: Options) -> FileAddress:
    """Read an address.

    Args:
        text: The URI behind ``file:``. If the offset is an option, all of it is the path.
        options: ``offset``, in bytes, or as in a URI; ``descriptor``, what the file is open as.

    Raises:
        BlockedError: There is no path, the offset is none, or an option is unknown.
    """
    refuse_unknown_options(f"file:{text}", options, (_OFFSET, _DESCRIPTOR))
    path, mark, place = (text, "", "") if _OFFSET in options else text.partition(_MARK)
    if not path:
        _refuse(text, "file:PATH", "no path")
    if "\0" in path or not _is_encodable(path):
        _refuse(text, "a path that can exist", repr(path))
    given = place if mark else options.get(_OFFSET, 0)
    offset = _read_offset(text, given) if isinstance(given, str) else _whole(text, _OFFSET, given)
    descriptor = options.get(_DESCRIPTOR)
    if descriptor is not None:
        descriptor = _whole(text, _DESCRIPTOR, descriptor)
    return FileAddress(path, offset, descriptor)


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _read_offset(text: str, place: str) -> int:
    """A number as QEMU reads it: hexadecimal, or decimal with the letter of a binary unit."""
    if _HEX.fullmatch(place):
        offset = int(place, 16)
    elif decimal := _DECIMAL.fullmatch(place):
        offset = int(decimal[1]) << _POWERS[decimal[2].lower()]
    else:
        _refuse(text, "an offset such as 4096, 64k, 1G or 0x1000", repr(place))
    return _whole(text, _OFFSET, offset)


def _whole(text: str, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _HIGHEST:
        _refuse(text, f"an {name} from 0 to {_HIGHEST}", repr(value))
    return value


def _refuse(text: str, expected: str, found: str) -> NoReturn:
    raise BlockedError(f"'file:{text}' is no address of a file", expected=expected, found=found)
