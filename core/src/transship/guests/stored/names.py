"""Names from a stream as names of files: nothing that a stream says leaves its folder."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container

_SAFE: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._@:+=,")

_LONGEST: Final = 180
"""Bytes of an encoded name; with what is put before and after it, it stays below 255."""

_EMPTY: Final = "%"


def encode_name(idstr: str) -> str:
    """Percent-encode a name, such that it is a plain, visible file name.

    A name too long for that keeps its beginning, and gets a digest of the whole after a ``~``,
    which no other encoded name contains.
    """
    raw = idstr.encode()
    name = "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in raw)
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 33]}~{hashlib.sha256(raw).hexdigest()[:32]}"
    return name or _EMPTY


def unused_name(idstr: str, used: Container[str]) -> str:
    """An encoded name that differs from those in ``used`` also where case does not count.

    Args:
        idstr: The name in the stream.
        used: Names already given, in lower case.
    """
    name = unused = encode_name(idstr)
    number = 1
    while unused.lower() in used:
        number += 1
        unused = f"{name}~{number}"
    return unused


def is_plain(name: str) -> bool:
    """Whether a name read from a file is one that stays in its folder."""
    return (
        0 < len(name.encode()) <= 255
        and "/" not in name
        and "\0" not in name
        and not name.startswith(".")
    )
