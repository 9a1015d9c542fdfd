"""Looks into checkpoint folders, and compares them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Place: TypeAlias = tuple[str | int, ...]
"""Where in plain data a value lies: the keys and indices that lead to it."""


def files(folder: Path) -> dict[str, str]:
    """Return the checksum of each file, by its path in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def leftovers(folder: Path, name: str) -> list[str]:
    """Return what is there of a checkpoint `name`, whole or begun or unconfirmed."""
    return sorted(path.name for path in folder.iterdir() if path.name.lstrip(".").startswith(name))


def differences(first: object, second: object, place: Place = ()) -> Iterator[Place]:
    """Return where two pieces of plain data differ, as deep down as possible."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        for key in first:
            yield from differences(first[key], second[key], (*place, key))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from differences(one, other, (*place, number))
    elif first != second:
        yield place
