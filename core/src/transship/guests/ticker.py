"""A thread that calls a function at a steady pace, and can be stopped between two calls."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_BEHIND_NS: Final = 100_000_000
"""Calls that are late by more than this are dropped; up to it they are made up for."""


class Ticker:
    """Calls ``tick`` once a period while it runs.

    Args:
        tick: What is called, always in one thread at a time. If it raises, the ticker stops.

    Attributes:
        failure: What ``tick`` raised, if it did.
        withheld_percent: The share of its time in which it is kept from calling; below 100. It
            calls that much more rarely, and rests at least that share of its time.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self.failure: Exception | None = None
        self.withheld_percent = 0
        self._tick = tick
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, period_ns: int) -> None:
        """Begin to call, at once; does nothing while it runs."""
        if self.is_running:
            return
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._run, args=(period_ns,), name="transship-ticker", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Call no more: after the return no call is under way, nor will one begin."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, period_ns: int) -> None:
        due = time.monotonic_ns()
        try:
            while not self._stopping.is_set():
                early = due - time.monotonic_ns()
                if early > 0:
                    self._stopping.wait(early / 1e9)
                    continue
                began = time.monotonic_ns()
                self._tick()
                ended, withheld = time.monotonic_ns(), self.withheld_percent
                due += period_ns * 100 // (100 - withheld)
                if early < -_MOST_BEHIND_NS:
                    due = ended
                if withheld:  # also from a thread whose calls take longer than a period
                    due = max(due, ended + (ended - began) * withheld // (100 - withheld))
        except Exception as error:
            self.failure = error
