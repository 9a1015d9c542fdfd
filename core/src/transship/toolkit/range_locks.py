"""Ranges of bytes that one thread has to itself, while others have theirs."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, eq=False, slots=True)
class _Place:
    """One who waits, or is in: two may want the same."""

    wanted: range


@final
class RangeLocks:
    """Lets in whoever overlaps with nobody who came before; nobody is overtaken for ever."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._places: list[_Place] = []  # in the order of coming, those who are in included

    @contextmanager
    def held(self, wanted: range) -> Iterator[None]:
        """Wait until nobody who came before has a byte of a range, and have it."""
        place = _Place(wanted)
        with self._changed:
            self._places.append(place)
            try:
                self._changed.wait_for(lambda: self._is_first(place))
            except BaseException:
                self._leave(place)
                raise
        try:
            yield
        finally:
            with self._changed:
                self._leave(place)

    def _is_first(self, place: _Place) -> bool:
        for other in self._places:
            if other is place:
                return True
            if _overlap(other.wanted, place.wanted):
                return False
        raise AssertionError("whoever waits has a place")

    def _leave(self, place: _Place) -> None:
        self._places.remove(place)
        self._changed.notify_all()


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop
