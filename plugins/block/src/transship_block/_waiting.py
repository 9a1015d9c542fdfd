"""Lets a parser have something done that blocks, and get its result, or what it raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from transship.errors import MigrationError
from transship.wire.reader import InThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.wire.reader import Parsing

T = TypeVar("T")


def in_thread(do: Callable[[], T]) -> Parsing[T]:
    """Do it where it keeps nobody waiting.

    Raises:
        MigrationError: What it raised. Anything else ends the parsing.
    """
    results: list[T] = []
    errors: list[MigrationError] = []

    def run() -> None:
        try:
            results.append(do())
        except MigrationError as error:
            errors.append(error)

    yield InThread(run)
    if errors:
        raise errors[0]
    return results[0]
