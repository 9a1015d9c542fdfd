"""Many pieces of memory to and from places in a file, by several threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from transship.errors import ChannelError
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PIECE_BYTES: Final = MIB
"""Most that one call moves."""


class Piece(NamedTuple):
    """Some memory, and where it is in the file.

    Args:
        offset: In the file.
        view: The memory; borrowed until it has been moved.
    """

    offset: int
    view: memoryview


class FileThreads:
    """Threads that read and write a file at places.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, "transship-file")

    def write(self, descriptor: int, pieces: Iterable[Piece]) -> None:
        """Write them all.

        Raises:
            OSError: The file does not take them.
        """
        self._all(_write, descriptor, pieces)

    def read(self, descriptor: int, pieces: Iterable[Piece]) -> None:
        """Read them all.

        Raises:
            OSError: The file does not give them.
            ChannelError: It ends before.
        """
        self._all(_read, descriptor, pieces)

    def close(self) -> None:
        """Let the threads end; idempotent."""
        self._pool.shutdown()

    def _all(
        self, move: Callable[[int, Piece], None], descriptor: int, pieces: Iterable[Piece]
    ) -> None:
        futures = [self._pool.submit(move, descriptor, piece) for piece in pieces]
        failures = [error for future in futures if (error := future.exception())]
        if failures:
            raise failures[0]


def _write(descriptor: int, piece: Piece) -> None:
    with piece.view as rest:
        done = 0
        while done < len(rest):
            with rest[done:] as part:
                done += os.pwrite(descriptor, part, piece.offset + done)


def _read(descriptor: int, piece: Piece) -> None:
    with piece.view as rest:
        done = 0
        while done < len(rest):
            with rest[done:] as part:
                count = os.preadv(descriptor, [part], piece.offset + done)
            if not count:
                raise ChannelError(
                    "the file ends within guest memory",
                    section="ram",
                    expected=f"{len(rest) - done} more bytes at {piece.offset + done:#x}",
                    found="the end",
                )
            done += count
