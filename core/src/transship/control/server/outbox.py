"""What is on its way to one client: whole messages, in order, and never too many."""

from __future__ import annotations

from collections import deque

import trio

from transship.control.server.limits import OUTPUT_BYTES, OUTPUT_LOW_BYTES


class Outbox:
    """A bounded queue of messages, with one task that takes from it."""

    def __init__(self) -> None:
        self._messages: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._is_finished = False
        self._changed = trio.Event()

    def put(self, message: bytes) -> bool:
        """Add a message; never waits. Returns whether there was room for it.

        There is room as long as there is less than :data:`OUTPUT_BYTES`: a single message may be
        larger.
        """
        if self._unsent_bytes >= OUTPUT_BYTES:
            return False
        self._messages.append(memoryview(message))
        self._unsent_bytes += len(message)
        self._notify()
        return True

    def finish(self) -> None:
        """Say that nothing will be added any more."""
        self._is_finished = True
        self._notify()

    def discard(self) -> None:
        """Forget all that is here; nothing will be added any more."""
        self._messages.clear()
        self._unsent_bytes = 0
        self.finish()

    def sent(self, count: int) -> None:
        """Drop the first ``count`` bytes."""
        if self._messages:
            rest = self._messages.popleft()[count:]
            if rest:
                self._messages.appendleft(rest)
            self._unsent_bytes -= count
            self._notify()

    async def wait(self) -> memoryview | None:
        """Wait for something to send, and return it, unsent; None when nothing will come.

        Cancellation: nothing is lost.
        """
        while not self._messages and not self._is_finished:
            await self._changed.wait()
        return self._messages[0] if self._messages else None

    async def wait_until_low(self) -> None:
        """Wait until most of it has been sent.

        Cancellation: nothing is lost.
        """
        while self._unsent_bytes > OUTPUT_LOW_BYTES:
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
