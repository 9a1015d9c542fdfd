"""Cuts what is to be sent into pieces that a time-out may be for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transship.buffers import Buffer

BATCH_BYTES: Final = 64 * 1024
"""What a time-out is for: a slow link may need minutes for a package, and is not stalled."""


def batches(segments: Sequence[Buffer]) -> Iterator[list[Buffer]]:
    """The same bytes in the same order, in lists of at most :data:`BATCH_BYTES`."""
    batch: list[Buffer] = []
    room = BATCH_BYTES
    for segment in segments:
        with memoryview(segment) as view:
            start = 0
            while len(view) - start > room:
                batch.append(view[start : start + room])
                yield batch
                start, batch, room = start + room, [], BATCH_BYTES
            batch.append(view[start:])
            room -= len(view) - start
    yield batch
