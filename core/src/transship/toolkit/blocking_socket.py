"""The halves of a connected socket in the hands of a thread: calls that block in the kernel."""

from __future__ import annotations

import math
import os
import socket
import struct
from bisect import bisect_right
from contextlib import ExitStack, suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from transship.abc.channel import BlockingReceiver, BlockingSender
from transship.errors import ChannelError, StalledError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.buffers import Buffer

SEGMENTS_PER_CALL: Final = max(os.sysconf("SC_IOV_MAX"), 16)
"""Most buffers that one system call takes: 1024 on Linux, and nowhere fewer than POSIX's 16."""

_TIMEVAL: Final = struct.Struct("@ll")


class _Half:
    """One direction of a socket.

    Args:
        connection: Borrowed. It blocks from now on, but for calls that ask it not to.
        peer: Who is at the other end, for people.
        timeout_s: How long a call may make no progress.
        translate: Turns the kernel's errors into ours.
    """

    _option: int
    _direction: int
    _verb: str

    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        timeout_s: float,
        translate: Callable[[OSError], ChannelError],
    ) -> None:
        connection.setblocking(True)
        # Python's own time-outs would make the socket non-blocking, and cost a poll for each call.
        connection.setsockopt(socket.SOL_SOCKET, self._option, _timeval(timeout_s))
        self._socket = connection
        self._peer = peer
        self._timeout_s = timeout_s
        self._translate = translate
        self._is_interrupted = False

    def interrupt(self) -> None:
        """Break a call under way, and all later ones; the other direction works on."""
        self._is_interrupted = True
        with suppress(OSError):
            self._socket.shutdown(self._direction)

    def _call(self, once: Callable[[], int]) -> int:
        """Make a system call.

        Raises:
            StalledError: It made no progress in time.
            ChannelError: It failed, or was interrupted.
        """
        try:
            count = once()
        except BlockingIOError as error:
            raise StalledError(
                f"{self._peer} {self._verb} nothing for {self._timeout_s:g} s",
                hint="the other side hangs, or the network is gone",
            ) from error
        except OSError as error:
            raise (
                self._interrupted() if self._is_interrupted else self._translate(error)
            ) from error
        if self._is_interrupted:
            raise self._interrupted()
        return count

    def _all(self, views: Sequence[memoryview], once: Callable[[Sequence[memoryview]], int]) -> int:
        """Repeat a call until it is through with all views, or says 0; returns how many bytes."""
        ends = list(accumulate(view.nbytes for view in views))
        done, total = 0, ends[-1] if ends else 0
        while done < total:
            first = bisect_right(ends, done)
            begun = done - (ends[first - 1] if first else 0)
            rest = views[first + 1 : first + SEGMENTS_PER_CALL]
            with views[first][begun:] as part:
                count = self._call(lambda: once([part, *rest]))  # noqa: B023 (called at once)
            if not count:
                break
            done += count
        return done

    def _interrupted(self) -> ChannelError:
        return ChannelError(f"the channel to {self._peer} was closed on this side")


class BlockingSocketSender(_Half, BlockingSender):
    """Sends over a socket."""

    _option = socket.SO_SNDTIMEO
    _direction = socket.SHUT_WR
    _verb = "took"

    def send(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments; see :meth:`BlockingSender.send`."""
        with ExitStack() as stack:
            views = [stack.enter_context(as_bytes(segment)) for segment in segments]
            self._all(views, self._socket.sendmsg)

    def send_with(self, send: Callable[[int], int]) -> int:
        """Let a function send; see :meth:`BlockingSender.send_with`."""
        return self._call(lambda: send(self._socket.fileno()))


class BlockingSocketReceiver(_Half, BlockingReceiver):
    """Receives over a socket."""

    _option = socket.SO_RCVTIMEO
    _direction = socket.SHUT_RD
    _verb = "sent"

    def receive(self, targets: Sequence[memoryview]) -> int:
        """Fill all targets; see :meth:`BlockingReceiver.receive`."""
        return self._all(
            targets, lambda batch: self._socket.recvmsg_into(batch, 0, socket.MSG_WAITALL)[0]
        )

    def receive_with(self, receive: Callable[[int], int]) -> int:
        """Let a function receive; see :meth:`BlockingReceiver.receive_with`."""
        return self._call(lambda: receive(self._socket.fileno()))

    def receive_some(self, target: memoryview) -> int:
        """Receive at least one byte; see :meth:`BlockingReceiver.receive_some`."""
        return self._call(lambda: self._socket.recv_into(target))


def _timeval(timeout_s: float) -> bytes:
    """As the kernel takes it; 0 is for ever."""
    if math.isinf(timeout_s):
        return _TIMEVAL.pack(0, 0)
    seconds, rest = divmod(max(timeout_s, 1e-3), 1)
    return _TIMEVAL.pack(int(seconds), int(rest * 1e6))


def as_bytes(segment: Buffer) -> memoryview:
    """A view that counts in bytes, whatever the segment counts in; to be released."""
    view = memoryview(segment)
    if view.format == "B" and view.ndim == 1:
        return view
    with view:
        return view.cast("B")
