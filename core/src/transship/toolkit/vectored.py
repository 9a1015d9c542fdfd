"""Some buffers as one run of bytes, to be moved by calls that take several buffers at a time."""

from __future__ import annotations

import os
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.buffers import Buffer

T = TypeVar("T")

SEGMENTS_PER_CALL: Final = max(os.sysconf("SC_IOV_MAX"), 16)
"""Most buffers that one system call takes: 1024 on Linux, and nowhere fewer than POSIX's 16."""


@final
class Vector:
    """The bytes of some buffers, one after the other.

    Args:
        buffers: Contiguous; borrowed, and handed to calls as they are.
    """

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self._buffers = buffers
        self._ends = list(accumulate(map(size_of, buffers)))
        self.length = self._ends[-1] if self._ends else 0

    def offer(self, done: int, once: Callable[[Sequence[Buffer]], T]) -> T:
        """Call with what is behind the first ``done`` bytes, up to what the system takes at once.

        Args:
            done: Fewer than all.
            once: Borrows the buffers until it returns.
        """
        first = bisect_right(self._ends, done)
        begun = done - (self._ends[first - 1] if first else 0)
        if not begun:
            return once(self._buffers[first : first + SEGMENTS_PER_CALL])
        with as_bytes(self._buffers[first]) as whole, whole[begun:] as part:
            return once([part, *self._buffers[first + 1 : first + SEGMENTS_PER_CALL]])

    def move(self, once: Callable[[Sequence[Buffer]], int]) -> int:
        """Repeat a call until all bytes are through, or it says 0; returns how many are."""
        done = 0
        while done < self.length and (count := self.offer(done, once)):
            done += count
        return done


def size_of(buffer: Buffer) -> int:
    """How many bytes it has, whatever it counts in."""
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)


def as_bytes(buffer: Buffer) -> memoryview:
    """A view that counts in bytes, whatever the buffer counts in; to be released."""
    view = memoryview(buffer)
    if view.format == "B" and view.ndim == 1:
        return view
    with view:
        return view.cast("B")
