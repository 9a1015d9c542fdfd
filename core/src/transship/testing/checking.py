"""What the checks of the conformance kit are made of. Knows no test framework."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import trio
from trio.testing import wait_all_tasks_blocked

from transship.abc.channel import Channel
from transship.abc.transport import Address, Incoming, Outgoing
from transship.errors import ChannelError

if TYPE_CHECKING:
    from transship.buffers import Buffer

PATIENCE_S: Final = 10.0
"""How long a check waits for what should happen at once, on a loaded machine."""

PROMPTLY_S: Final = 1.0
"""How long cancelling or closing may take: the promise made to operators."""

UNREAD_BYTES: Final = 64 * 1024 * 1024
"""More than any channel may buffer. Kernels give a loopback TCP connection up to about 10 MiB."""

MakePair = Callable[[], AbstractAsyncContextManager[tuple[Channel, Channel]]]
"""Makes a connected source and destination, and closes both when left."""


Listen = Callable[[], Incoming]
"""Prepares to listen: on a free address each time, or on the same one again."""

Connect = Callable[[Address], Outgoing]
"""Prepares to connect to the address that a listener gave."""


def require(condition: bool, message: str) -> None:
    """Fail the check, also where Python runs without assertions."""
    if not condition:
        raise AssertionError(message)


@contextmanager
def naming(check: Callable[..., object]) -> Iterator[None]:
    """Note with whatever the body raises in which check that was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in {check.__name__}")
        raise


@contextmanager
def raises(kind: type[BaseException], when: str) -> Iterator[None]:
    """Fail the check unless the body raises ``kind``."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} expected {when}; nothing was raised")


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Fail the check, rather than hang, if the body takes longer; or if the channel fails in it."""
    with trio.move_on_after(seconds) as scope:
        try:
            yield
        except ChannelError as error:
            raise AssertionError(f"{what} failed: {error}") from error
    require(not scope.cancelled_caught, f"{what} took longer than {seconds:g} s")


@asynccontextmanager
async def open_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery; a rule that is broken in it, or a channel, is raised as such, not in a group."""
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        failure = _first(AssertionError, group) or _first(ChannelError, group)
        if failure is None:
            raise
    if failure is not None:
        raise failure


def _first(kind: type[BaseException], group: BaseExceptionGroup) -> BaseException | None:
    """The first of a kind in a group, however deep."""
    found: BaseException | None = group.subgroup(kind)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def settle(cushion_s: float = 0.01) -> None:
    """Wait until every task waits for something; not for long, since a channel may poll."""
    with trio.move_on_after(1):
        await wait_all_tasks_blocked(cushion_s)


class Attempt:
    """A call that runs in the background, and how it ended."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.error: ChannelError | None = None
        self.scope = trio.CancelScope()
        self._ended = trio.Event()

    async def run(self, call: Callable[[], Awaitable[object]]) -> None:
        """Make the call; a channel's error is kept, any other is the check's."""
        try:
            with self.scope:
                await call()
        except ChannelError as error:
            self.error = error
        finally:
            self._ended.set()

    @property
    def has_ended(self) -> bool:
        """Whether it returned, failed, or was cancelled."""
        return self._ended.is_set()

    async def wait(self, seconds: float = PATIENCE_S) -> None:
        """Wait for the end.

        Raises:
            AssertionError: It does not come.
        """
        with within(seconds, self.what):
            await self._ended.wait()


@asynccontextmanager
async def blocked(what: str, call: Callable[[], Awaitable[object]]) -> AsyncIterator[Attempt]:
    """Make a call that must block, in the background, while the body runs; cancelled after it."""
    async with open_nursery() as nursery:
        attempt = Attempt(what)
        nursery.start_soon(attempt.run, call)
        await settle(0.05)
        require(not attempt.has_ended, f"{what} did not block, and should have")
        yield attempt
        nursery.cancel_scope.cancel()


def blocked_send(channel: Channel) -> AbstractAsyncContextManager[Attempt]:
    """A send that blocks since nobody receives."""
    unread = bytes(UNREAD_BYTES)
    return blocked(
        f"sending {UNREAD_BYTES} bytes that nobody receives",
        lambda: channel.send_segments((unread,)),
    )


def blocked_receive(channel: Channel) -> AbstractAsyncContextManager[Attempt]:
    """A receive that blocks since nobody sends."""
    return blocked(
        "receiving what nobody sends",
        lambda: channel.receive_some_into(memoryview(bytearray(1))),
    )


async def require_cancellable(what: str, call: Callable[[], Awaitable[object]]) -> None:
    """Fail the check if a call goes through in a scope that is cancelled already."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await call()
    require(scope.cancelled_caught, f"{what} in a cancelled scope went through")


async def close_while_cancelled(channel: Channel) -> None:
    """Close a channel as it is closed when whoever uses it is cancelled."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await channel.aclose()


async def require_closed(channel: Channel) -> None:
    """Fail the check if a channel that was closed does anything but be closed again."""
    with within(PROMPTLY_S, "using a closed channel"):
        await channel.aclose()
        with raises(ChannelError, "when sending on a closed channel"):
            await channel.send_segments((b"x",))
        with raises(ChannelError, "when receiving on a closed channel"):
            await channel.receive_some_into(memoryview(bytearray(1)))
        with raises(ChannelError, "when ending a closed channel"):
            await channel.send_eof()


def buffers_of_every_kind() -> list[Buffer]:
    """One of each kind that :data:`transship.buffers.Buffer` names, and of items of each shape."""
    payload = bytes(range(256))
    return [
        payload,
        bytearray(payload),
        memoryview(payload),
        memoryview(bytearray(payload))[3:-5],
        memoryview(payload).cast("Q"),
        memoryview(payload).cast("B", (16, 16)),
        memoryview(payload).toreadonly(),
    ]


async def receive_exactly(channel: Channel, count: int) -> bytes:
    """Receive so many bytes."""
    data = bytearray(count)
    with memoryview(data) as view:
        await channel.receive_into(view)
    return bytes(data)


async def receive_to_end(channel: Channel, step_bytes: int = 65_536) -> bytes:
    """Receive until the peer has ended its direction."""
    data = bytearray()
    step = bytearray(step_bytes)
    with memoryview(step) as view:
        while count := await channel.receive_some_into(view):
            data += step[:count]
    return bytes(data)


def is_resizable(memory: bytearray) -> bool:
    """Whether nobody holds a view of it."""
    try:
        memory.append(0)
    except BufferError:
        return False
    del memory[-1:]
    return True


@contextmanager
def memory_within(most_bytes: int) -> Iterator[None]:
    """Fail the check if the body takes more memory; says nothing where the kernel does not."""
    try:
        with open("/proc/self/clear_refs", "w") as reset:
            reset.write("5")
    except OSError:
        yield
        return
    before = _peak_bytes()
    yield
    taken = _peak_bytes() - before
    require(taken <= most_bytes, f"{taken} bytes of memory were taken")


def _peak_bytes() -> int:
    """The most memory since that was reset, as the kernel counts it."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
