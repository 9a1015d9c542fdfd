"""Every check of the kit fails on a channel that breaks its rule: a kit that passes all is none."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, TypeVar

import pytest
import trio

from transship.errors import ChannelError, PeerClosedError
from transship.testing import (
    CHANNEL_CHECKS,
    LISTENER_CHECKS,
    ChannelWrapper,
    MakePair,
    channel_checks as checks,
    check_transport,
    memory_channel_pair,
)
from transship.testing.descriptor_checks import check_passes_descriptors
from transship.testing.pytest_plugin import ListeningTransportConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from transship.abc import Channel
    from transship.buffers import Buffer


C = TypeVar("C")


class Nameless(ChannelWrapper):
    peer = ""


class Reordering(ChannelWrapper):
    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await super().send_segments(segments[::-1])


class CountsItems(ChannelWrapper):
    """Takes the length of a view for its bytes."""

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await super().send_segments([bytes(segment)[: len(segment)] for segment in segments])


class EndsOnEmpty(ChannelWrapper):
    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        if not any(segments):
            await self.inner.send_eof()
            return
        await super().send_segments(segments)


class ForgetsToResume(ChannelWrapper):
    """Sends what fits of each segment, and takes that for all of it."""

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await super().send_segments([bytes(segment)[:65_536] for segment in segments])


class ReceivesBeyondTheEnd(ChannelWrapper):
    async def receive_into(self, target: memoryview) -> None:
        while target and (count := await self.receive_some_into(target)):
            target = target[count:]


class ClosesInsteadOfEnding(ChannelWrapper):
    async def send_eof(self) -> None:
        await self.inner.aclose()


class DoesNotEnd(ChannelWrapper):
    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()


class Deaf(ChannelWrapper):
    """Hides every error of the path."""

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        try:
            await super().send_segments(segments)
        except ChannelError:
            await trio.lowlevel.checkpoint()


class WaitsForever(ChannelWrapper):
    async def receive_some_into(self, target: memoryview) -> int:
        try:
            return await super().receive_some_into(target) or await trio.sleep_forever()
        except ChannelError:
            await trio.sleep_forever()


class Queueing(ChannelWrapper):
    """Lets a second task wait, instead of refusing it."""

    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self.send_lock = trio.Lock()
        self.receive_lock = trio.Lock()

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        async with self.send_lock:
            await super().send_segments(segments)

    async def receive_some_into(self, target: memoryview) -> int:
        async with self.receive_lock:
            return await super().receive_some_into(target)


class ForgivesCancelledSends(ChannelWrapper):
    """Lets a send follow a cancelled one."""

    was_cancelled = False

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        if self.was_cancelled:
            await trio.lowlevel.checkpoint()
            return
        try:
            await super().send_segments(segments)
        except trio.Cancelled:
            self.was_cancelled = True
            raise


class Stubborn(ChannelWrapper):
    """Cannot be cancelled."""

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        with trio.CancelScope(shield=True):
            await super().send_segments(segments)

    async def receive_some_into(self, target: memoryview) -> int:
        with trio.move_on_after(1.3, shield=True):
            return await super().receive_some_into(target)
        return 0


class ClosesPolitely(ChannelWrapper):
    """Waits in ``aclose`` until the other calls are through."""

    calls = 0

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        self.calls += 1
        try:
            await super().send_segments(segments)
        finally:
            self.calls -= 1

    async def receive_some_into(self, target: memoryview) -> int:
        self.calls += 1
        try:
            return await super().receive_some_into(target)
        finally:
            self.calls -= 1

    async def aclose(self) -> None:
        if self.calls:
            await trio.sleep(1.3)
        await super().aclose()


class ReopensWhenClosed(ChannelWrapper):
    is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True
        await super().aclose()

    async def send_eof(self) -> None:
        if not self.is_closed:
            await super().send_eof()


class KeepsViews(ChannelWrapper):
    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self.kept: list[memoryview] = []

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        self.kept += map(memoryview, segments)
        await super().send_segments(segments)


class MutesMessages(ChannelWrapper):
    async def send_return(self, message: Buffer) -> None:
        await super().send_return(bytes(message)[:-1] + b"?")


def unbounded_pair() -> tuple[Channel, Channel]:
    return memory_channel_pair(1 << 40)


class PassesDescriptorsBackwards(ChannelWrapper):
    on_their_way: ClassVar[list[int]] = []

    async def send_descriptors(self, descriptors: Sequence[int]) -> None:
        self.on_their_way[:0] = map(os.dup, reversed(descriptors))
        await self.send_segments((b"\0",))

    async def receive_descriptors(self, count: int) -> Sequence[int]:
        await self.receive_into(memoryview(bytearray(1)))
        return [self.on_their_way.pop(0) for _ in range(count)]

    def capability(self, kind: type[C]) -> C | None:
        return self if isinstance(self, kind) else None


def wrapped(
    kind: type[ChannelWrapper],
    make: Callable[[], tuple[Channel, Channel]] = memory_channel_pair,
) -> MakePair:
    @asynccontextmanager
    async def pair() -> AsyncIterator[tuple[Channel, Channel]]:
        source, destination = map(kind, make())
        yield source, destination
        for end in (source, destination):
            await end.inner.aclose()

    return pair


BROKEN = [
    (checks.check_names_its_peer, wrapped(Nameless)),
    (checks.check_carries_segments_in_order, wrapped(Reordering)),
    (checks.check_accepts_every_buffer, wrapped(CountsItems)),
    (checks.check_tolerates_empty_sends, wrapped(EndsOnEmpty)),
    (checks.check_resumes_after_short_writes, wrapped(ForgetsToResume)),
    (checks.check_bounds_its_buffers, wrapped(ChannelWrapper, unbounded_pair)),
    (checks.check_receives_exactly, wrapped(ReceivesBeyondTheEnd)),
    (checks.check_ends_one_direction, wrapped(DoesNotEnd)),
    (checks.check_notices_lost_destination, wrapped(Deaf)),
    (checks.check_notices_lost_source, wrapped(WaitsForever)),
    (checks.check_detects_two_senders, wrapped(Queueing)),
    (checks.check_detects_two_receivers, wrapped(Queueing)),
    (checks.check_cancelled_send_poisons, wrapped(ForgivesCancelledSends)),
    (checks.check_cancelled_receive_ends, wrapped(Stubborn)),
    (checks.check_is_cancellable_at_once, wrapped(Stubborn)),
    (checks.check_closing_breaks_blocked_send, wrapped(ClosesPolitely)),
    (checks.check_closing_breaks_blocked_receive, wrapped(ClosesPolitely)),
    (checks.check_closes_for_good, wrapped(ReopensWhenClosed)),
    (checks.check_holds_no_views, wrapped(KeepsViews)),
    (checks.check_return_path, wrapped(MutesMessages)),
    (checks.check_return_path, wrapped(ClosesInsteadOfEnding)),
    (check_passes_descriptors, wrapped(PassesDescriptorsBackwards)),
]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PATIENCE_S", 0.3)


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group, whatever its depth."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


@pytest.mark.parametrize(("check", "make_pair"), BROKEN)
async def test_check_fails_on_channel_that_breaks_its_rule(
    check: Callable[[MakePair], Awaitable[None]], make_pair: MakePair
) -> None:
    with pytest.raises((AssertionError, ChannelError, BaseExceptionGroup)) as caught:
        await check(make_pair)
    assert {type(error) for error in leaves(caught.value)} <= {
        AssertionError,
        ChannelError,
        PeerClosedError,
    }


def test_every_check_has_a_channel_that_breaks_its_rule() -> None:
    assert {check for check, _ in BROKEN} == set(CHANNEL_CHECKS)


async def test_check_transport_names_the_check_that_failed() -> None:
    with pytest.raises(AssertionError) as caught:
        await check_transport(wrapped(Nameless))
    assert caught.value.__notes__ == ["in check_names_its_peer"]


def test_every_check_is_a_test_of_the_inheritable_class() -> None:
    tests = vars(ListeningTransportConformance) | vars(ListeningTransportConformance.__base__)
    for check in CHANNEL_CHECKS:
        assert check.__name__.replace("check_", "test_channel_") in tests
    for listener_check in LISTENER_CHECKS:
        rule = listener_check.__name__.removeprefix("check_")
        assert f"test_listener_{rule}" in tests or f"test_transport_{rule}" in tests


def test_optional_check_is_passed_by_who_lacks_the_capability() -> None:
    class OneWay(ChannelWrapper):
        def capability(self, kind: type[C]) -> C | None:
            return None

        async def send_return(self, message: Buffer) -> None:
            raise AssertionError("nobody asked for the return path")

    trio.run(checks.check_return_path, wrapped(OneWay))
