"""Many requests on one connection, from many threads, without a thread of its own.

Of the threads that wait for replies one reads them, for all; when it has its own it leaves that to
another. So a single caller never waits for a second thread, and nothing is left to be stopped.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

from transship_nbd._protocol import REQUEST, REQUEST_MAGIC, Command, CommandFlag
from transship_nbd._replies import ReplyReader, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.buffers import Buffer
    from transship_nbd._handshake import ExportFacts
    from transship_nbd._wire import Wire

_NO_FLAGS = CommandFlag(0)


@final
class Connection:
    """Sends requests and waits for their replies; any number of threads may call.

    Args:
        wire: After the negotiation; owned by the connection from now on.
        facts: What was negotiated.
        timeout_s: How long one request may take.
    """

    def __init__(self, wire: Wire, facts: ExportFacts, timeout_s: float) -> None:
        self.facts = facts
        self._wire = wire
        self._timeout_s = timeout_s
        self._sending = threading.Lock()
        self._state = threading.Condition()
        self._pending: dict[int, Request] = {}
        self._next_cookie = 1
        self._callers = 0
        self._is_read = False
        self._lost: OSError | None = None
        self._replies = ReplyReader(wire, facts, self._pending.get, self._forget)

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._lost is not None

    def call(
        self,
        command: Command,
        offset: int = 0,
        length: int = 0,
        *,
        target: memoryview | None = None,
        payload: Buffer = b"",
        flags: CommandFlag = _NO_FLAGS,
    ) -> Request:
        """Ask, and wait for the answer.

        Args:
            command: What is asked.
            offset: Where, in bytes.
            length: How much, in bytes.
            target: What a read fills: that many bytes.
            payload: What a write brings: that many bytes.
            flags: How.

        Raises:
            OSError: The server refuses, is gone, is too slow, or breaks a rule. Of the last three
                every other call hears too, now and later.
        """
        request = Request(command, offset, length, target)
        with self._calling(request) as cookie:
            try:
                self._send(request, cookie, payload, flags)
                self._wait(request)
            except BaseException:
                self._lose(errno.ECONNABORTED, f"a call to {self._wire.peer} was broken off")
                self._wait_until_let_go(request)
                raise
        if request.error is not None:
            if request.error.errno == errno.ESHUTDOWN:
                self._lose_by(request.error)
            raise request.error
        return request

    def interrupt(self) -> None:
        """Have it lost, for every call; the socket is still to be closed."""
        self._lose(errno.ECONNABORTED, f"the connection to {self._wire.peer} was interrupted")

    def close(self) -> None:
        """End the connection and every call under way; idempotent."""
        why = f"the connection to {self._wire.peer} was closed"
        with self._state:
            is_quiet = self._lost is None and not self._pending
            if is_quiet:
                self._lost = OSError(errno.EBADF, why)  # nobody asks anything behind the farewell
        if is_quiet:
            self._say_farewell()
        self._lose(errno.EBADF, why)
        with self._state:
            self._state.wait_for(lambda: not self._callers)
        self._wire.close()

    @contextmanager
    def _calling(self, request: Request) -> Iterator[int]:
        """Keep the socket from being closed, and its number from becoming another's.

        Yields:
            The cookie of the request, which is under way from now on.
        """
        with self._state:
            self._refuse_if_lost()
            self._callers += 1
            cookie = self._next_cookie
            self._next_cookie += 1
            self._pending[cookie] = request
        try:
            yield cookie
        finally:
            with self._state:
                self._callers -= 1
                self._state.notify_all()

    def _send(self, request: Request, cookie: int, payload: Buffer, flags: CommandFlag) -> None:
        header = REQUEST.pack(
            REQUEST_MAGIC, flags, request.command, cookie, request.offset, request.length
        )
        with self._sending:
            try:
                self._wire.send(header, payload)
            except OSError as error:
                self._lose_by(error)

    def _wait(self, request: Request) -> None:
        """Return when a request is done: read replies, or let another read them."""
        while True:
            with self._state:
                if request.is_done:
                    return
                is_reader = not self._is_read
                self._is_read = True
                request.is_waited_for = not is_reader
            if is_reader:
                self._read_until_done(request)
            elif request.wake.wait(self._timeout_s):
                request.wake.clear()
            else:
                self._lose_by(self._unanswered(request))
                self._wait_until_let_go(request)

    def _read_until_done(self, request: Request) -> None:
        deadline = time.monotonic() + self._timeout_s
        try:
            while not request.is_done:
                if time.monotonic() > deadline:
                    raise self._unanswered(request)
                self._replies.read()
        except OSError as error:
            self._lose_by(error)
        except BaseException:
            self._lose(errno.ECONNABORTED, f"reading from {self._wire.peer} was broken off")
            raise
        finally:
            with self._state:
                self._is_read = False
                if self._lost is not None:
                    self._fail_all()
                else:
                    self._wake_a_reader()

    def _wake_a_reader(self) -> None:
        """Let somebody read who waits; whoever still sends will find that nobody does."""
        for request in self._pending.values():
            if request.is_waited_for:
                request.wake.set()
                return

    def _wait_until_let_go(self, request: Request) -> None:
        """Return when nobody writes to the memory of a request any more."""
        with self._state:
            is_pending = request in self._pending.values()
        while is_pending and not request.is_done:
            request.wake.wait()
            request.wake.clear()

    def _unanswered(self, request: Request) -> TimeoutError:
        what = f"did not answer a {request.command.name} for {self._timeout_s:g} s"
        return TimeoutError(errno.ETIMEDOUT, f"{self._wire.peer} {what}")

    def _lose_by(self, error: OSError) -> None:
        self._lose(error.errno or errno.EIO, error.strerror or os.strerror(errno.EIO))

    def _lose(self, code: int, why: str) -> None:
        """Give the connection up; the first reason is the one that everybody hears."""
        with self._state:
            if self._lost is None:
                self._lost = OSError(code, why)
            self._wire.interrupt()
            if not self._is_read:
                self._fail_all()  # else the reader does, when it no longer writes to their memory

    def _fail_all(self) -> None:
        assert self._lost is not None
        for request in self._pending.values():
            request.finish(OSError(self._lost.errno, self._lost.strerror))
        self._pending.clear()

    def _refuse_if_lost(self) -> None:
        if self._lost is not None:
            raise OSError(self._lost.errno, self._lost.strerror)

    def _forget(self, cookie: int) -> None:
        with self._state:
            del self._pending[cookie]

    def _say_farewell(self) -> None:
        farewell = REQUEST.pack(REQUEST_MAGIC, 0, Command.DISC, 0, 0, 0)
        with self._sending, contextlib.suppress(OSError):
            self._wire.send(farewell)
            self._wire.end()
