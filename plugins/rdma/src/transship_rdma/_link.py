"""A link: whole messages to one peer and back, in order, over an endpoint of its own.

An endpoint makes progress only when it is polled, also for what the peer does to this side's
memory. So each link has a task that polls for as long as it exists, beside whoever uses it. It is a
system task of trio's: a link outlives the call that made it, and a listener too.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, final

import trio

from transship.errors import ChannelError, StalledError
from transship_rdma._messages import HEADER, Kind, MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship_rdma._fabric import Endpoint, Write

STALL_S: Final = 30.0
"""How long an operation may take. One with a wrong key may never end, and no error tells."""

_FALLBACK_S: Final = 0.01
"""Some wake-ups get lost (seen with tcp;ofi_rxm; fi_rxm(7) admits it): then this is the delay."""

_LIVELY_POLLS: Final = 8
"""How often in a row a poll may find nothing before we wait; waiting and waking costs more."""

_FEW_MESSAGES: Final = 3
"""So many fit into the smallest window of TCP, 64 kB, with their headers."""

_LONGEST_OUTBOX: Final = 64
"""Messages that wait for room; all but data is sparse, so this many are a peer's doing."""


class Deliver(Protocol):
    """Takes what has arrived."""

    def __call__(self, kind: int, slot: int, body: memoryview) -> bool:
        """Take a message; called from the task that polls.

        Args:
            kind: What it is.
            slot: Where it is.
            body: What it says; valid until the slot is released.

        Returns:
            Whether the slot is kept; then :meth:`Link.release` gives it back.

        Raises:
            ChannelError: No message like that should come; the link fails.
        """


@final
class Link:
    """One end.

    Args:
        endpoint: Owned by the link from now on.
        peer: Who is at the other end, for people.
        deliver: Takes messages.
        identity: What messages to this end must begin with.
    """

    def __init__(self, endpoint: Endpoint, peer: str, deliver: Deliver, identity: int) -> None:
        self._endpoint = endpoint
        self._peer = peer
        self._deliver = deliver
        self._peer_identity = 0
        self._sent_count = 0
        self._arrived_count = 0
        half = endpoint.slot_count // 2
        self._to_receive = deque(range(half))
        self._free = deque(range(half, endpoint.slot_count))
        self._outbox: deque[tuple[Kind, bytes]] = deque()
        self._is_refused = False
        self._changed = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._operations_out = 0
        self._last_progress_s = trio.current_time()
        self._on_failure: list[Callable[[ChannelError], None]] = []
        self.identity = identity
        self.writes_out = 0
        self.failure: ChannelError | None = None

    # Life

    def start(self) -> None:
        """Let messages come, and make progress from now on."""
        self._post_receives()
        trio.lowlevel.spawn_system_task(self._run, name="transship-rdma link")

    def connect(self, name: bytes, identity: int) -> None:
        """Say who the peer is.

        Raises:
            ChannelError: That is no endpoint's name.
        """
        self._endpoint.connect(name)
        self._peer_identity = identity

    def on_failure(self, tell: Callable[[ChannelError], None]) -> None:
        """Have somebody told when the link fails."""
        self._on_failure.append(tell)

    def fail(self, error: ChannelError) -> None:
        """Give the link up: nothing is sent, received or written any more; what has arrived stays.

        The first reason is kept.
        """
        if self.failure is None:
            self.failure = error
            self._shut()
            for tell in self._on_failure:
                tell(error)

    def close(self, reason: ChannelError | None = None) -> None:
        """Give the link up on this side, and tell nobody; idempotent."""
        if self.failure is None:
            self.failure = reason or ChannelError(
                f"the channel to {self._peer} was closed on this side"
            )
            self._shut()

    def _shut(self) -> None:
        self._scope.cancel()
        if self._endpoint.is_open:
            trio.lowlevel.notify_closing(self._endpoint.descriptor)
            self._endpoint.close()
        self._changed.unpark_all()

    def refuse_if_failed(self) -> None:
        """Raise the reason why the link is gone, if it is.

        Raises:
            ChannelError: It is.
        """
        if self.failure is not None:
            raise another(self.failure)

    async def change(self) -> None:
        """Wait until something may have changed: a message, room, the end."""
        if self.failure is None:
            await self._changed.park()
        else:
            await trio.lowlevel.checkpoint()

    def wake(self) -> None:
        """Let everybody look again who waits in :meth:`change`."""
        self._changed.unpark_all()

    # Sending

    @property
    def body_bytes(self) -> int:
        """Most that a message carries."""
        return self._endpoint.slot_bytes - HEADER.size

    def try_send(self, kind: Kind, parts: Sequence[memoryview | bytes]) -> bool:
        """Send a message now, or say that there is no room; then :meth:`change` tells of it.

        Raises:
            ChannelError: The link is gone.
        """
        self.refuse_if_failed()
        if not self._free or not self._fits_on_the_way():
            return False
        slot = self._free[0]
        start = slot * self._endpoint.slot_bytes
        end = start + HEADER.size
        memory = self._endpoint.memory
        for part in parts:
            memory[end : end + len(part)] = part
            end += len(part)
        HEADER.pack_into(
            memory,
            start,
            self._peer_identity,
            self._sent_count,
            kind,
            0,
            end - start - HEADER.size,
        )
        try:
            if not self._endpoint.send(slot, end - start):
                self._is_refused = True
                return False
        except ChannelError as error:
            self.fail(error)
            raise
        self._free.popleft()
        self._sent_count += 1
        self._began(1)
        return True

    def _fits_on_the_way(self) -> bool:
        if not self._endpoint.is_easily_stuck:
            return True
        return not self.writes_out and self._operations_out < _FEW_MESSAGES

    def send_soon(self, kind: Kind, body: bytes = b"") -> None:
        """Send a message as soon as there is room."""
        if self.failure is None:
            self._outbox.append((kind, body))
            if len(self._outbox) > _LONGEST_OUTBOX:
                self.fail(MalformedError(f"{self._peer} asks, and takes no answers"))
            self._empty_outbox()

    def _empty_outbox(self) -> None:
        try:
            while self._outbox and self.try_send(self._outbox[0][0], (self._outbox[0][1],)):
                self._outbox.popleft()
        except ChannelError:
            self._outbox.clear()

    # Receiving

    def release(self, slot: int) -> None:
        """Give back a slot that was kept."""
        if self.failure is None:
            self._to_receive.append(slot)
            try:
                self._post_receives()
            except ChannelError as error:
                self.fail(error)

    def _post_receives(self) -> None:
        while self._to_receive and self._endpoint.receive(self._to_receive[0]):
            self._to_receive.popleft()

    # Writing

    def begin_writes(self, writes: Sequence[Write]) -> int:
        """Begin as many writes as there is room for; returns how many.

        Raises:
            ChannelError: The link is gone.
        """
        self.refuse_if_failed()
        if self._endpoint.is_easily_stuck:
            if self._operations_out:
                return 0
            writes = writes[:1]
        try:
            begun = self._endpoint.begin_writes(writes)
        except ChannelError as error:
            self.fail(error)
            raise
        self.writes_out += begun
        self._is_refused |= begun < len(writes)
        self._began(begun)
        return begun

    # Progress

    def _began(self, count: int) -> None:
        if count and not self._operations_out:
            self._last_progress_s = trio.current_time()
        self._operations_out += count

    async def _run(self) -> None:
        with self._scope:
            try:
                await self._make_progress()
            except ChannelError as error:
                self.fail(error.add_context(hint=f"on the way to {self._peer}"))
            except Exception as error:  # a system task's error would end the whole program
                self.fail(ChannelError(f"the channel to {self._peer} broke: {error!r}"))

    async def _make_progress(self) -> None:
        quiet = 0
        while self.failure is None:
            quiet = 0 if self._poll() else quiet + 1
            if not self._endpoint.is_open:
                return
            self._refuse_stall()
            if quiet < _LIVELY_POLLS or not self._endpoint.may_wait():
                await trio.lowlevel.checkpoint()
                continue
            with trio.move_on_after(_FALLBACK_S):
                try:
                    await trio.lowlevel.wait_readable(self._endpoint.descriptor)
                except trio.ClosedResourceError:
                    return

    def _poll(self) -> bool:
        """Deal with all that has come; returns whether there was anything."""
        events, written = self._endpoint.poll()
        self.writes_out -= written
        self._operations_out -= written
        for event in events:
            if event.received_bytes is None:
                self._free.append(event.slot)
                self._operations_out -= 1
            elif not self._take(event.slot, event.received_bytes):
                self._to_receive.append(event.slot)
            if self.failure is not None:
                return True
        self._post_receives()
        self._empty_outbox()
        has_come = bool(events or written)
        if has_come:
            self._last_progress_s = trio.current_time()
        if has_come or self._is_refused:
            self._is_refused = False
            self._changed.unpark_all()
        return has_come

    def _take(self, slot: int, length: int) -> bool:
        start = slot * self._endpoint.slot_bytes
        if length < HEADER.size:
            raise MalformedError("a message is shorter than its header", found=f"{length} bytes")
        message = self._endpoint.memory[start : start + length]
        identity, number, kind, zero, body_bytes = HEADER.unpack_from(message)
        if identity != self.identity or zero:
            raise MalformedError(f"a message is not from {self._peer}, who knows how it begins")
        if number != self._arrived_count:
            raise MalformedError(
                "a message came out of order",
                expected=f"number {self._arrived_count}",
                found=f"number {number}",
            )
        if body_bytes != length - HEADER.size:
            raise MalformedError(
                "a message has another length than it says",
                expected=f"{body_bytes} bytes",
                found=f"{length - HEADER.size} bytes",
            )
        self._arrived_count += 1
        return self._deliver(kind, slot, message[HEADER.size :])

    def _refuse_stall(self) -> None:
        if self._operations_out and trio.current_time() > self._last_progress_s + STALL_S:
            raise StalledError(
                f"{self._operations_out} operations towards {self._peer} came to no end in "
                f"{STALL_S:g} s"
            )


def new_identity() -> int:
    """What nobody guesses."""
    return secrets.randbits(64)


def another(error: ChannelError) -> ChannelError:
    """The same error for one more reader: each has a traceback of its own."""
    copy = type(error)(error.cause, expected=error.expected, found=error.found, hint=error.hint)
    copy.__cause__ = error.__cause__
    return copy
