"""Every check of the kit fails on a channel that breaks its rule: a kit that passes all is none."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, TypeVar

import pytest
import trio

from transship import hookimpl
from transship.abc import RemoteMemory, RemoteWriter, ReturnPath
from transship.errors import ChannelError
from transship.plugin.hookspecs import TransportHooks
from transship.testing import (
    CHANNEL_CHECKS,
    LISTENER_CHECKS,
    ChannelWrapper,
    MakePair,
    channel_checks as checks,
    check_transport,
    memory_channel_pair,
    remote_memory_checks,
)
from transship.testing.blocking_checks import BLOCKING_CHECKS
from transship.testing.capability_checks import check_has_declared_capabilities
from transship.testing.descriptor_checks import check_passes_descriptors
from transship.testing.plugin_checks import check_hooks_can_be_called
from transship.testing.pytest_plugin import ListeningTransportConformance

from .broken_channels import AbleItself, CountsItems, KeepsViews, Reordering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from transship.abc import Channel, RemoteRun
    from transship.buffers import Buffer


C = TypeVar("C")


class Nameless(ChannelWrapper):
    peer = ""


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


class MutesMessages(ChannelWrapper):
    async def send_return(self, message: Buffer) -> None:
        await super().send_return(bytes(message)[:-1] + b"?")


def unbounded_pair() -> tuple[Channel, Channel]:
    return memory_channel_pair(1 << 40)


class PassesDescriptorsBackwards(AbleItself):
    on_their_way: ClassVar[list[int]] = []

    async def send_descriptors(self, descriptors: Sequence[int]) -> None:
        self.on_their_way[:0] = map(os.dup, reversed(descriptors))
        await self.send_segments((b"\0",))

    async def receive_descriptors(self, count: int) -> Sequence[int]:
        await self.receive_into(memoryview(bytearray(1)))
        return [self.on_their_way.pop(0) for _ in range(count)]


class OtherWriter(RemoteWriter):
    """Passes everything on."""

    def __init__(self, inner: RemoteWriter) -> None:
        self.inner = inner

    async def write(self, runs: Sequence[RemoteRun]) -> None:
        await self.inner.write(runs)

    async def flush(self) -> None:
        await self.inner.flush()


class OtherMemory(AbleItself):
    """Passes remote memory on, through a writer with something wrong."""

    Writer: type[OtherWriter] = OtherWriter

    def expose(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AbstractAsyncContextManager[None]:
        inner: RemoteMemory | None = self.inner.capability(RemoteMemory)
        assert inner is not None
        return inner.expose(blocks, at_once=at_once)

    @asynccontextmanager
    async def mirror(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AsyncIterator[RemoteWriter]:
        inner: RemoteMemory | None = self.inner.capability(RemoteMemory)
        assert inner is not None
        async with inner.mirror(blocks, at_once=at_once) as writer:
            yield self.Writer(writer)


class ForgetsToFlush(OtherMemory):
    class Writer(OtherWriter):
        async def flush(self) -> None:
            await trio.lowlevel.checkpoint()


class AsksNobody(OtherMemory):
    @asynccontextmanager
    async def mirror(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AsyncIterator[RemoteWriter]:
        class DropsAll(RemoteWriter):
            async def write(self, runs: Sequence[RemoteRun]) -> None:
                await trio.lowlevel.checkpoint()

            async def flush(self) -> None:
                await trio.lowlevel.checkpoint()

        await trio.lowlevel.checkpoint()
        yield DropsAll()


class SkipsRunsOutside(OtherMemory):
    class Writer(OtherWriter):
        async def write(self, runs: Sequence[RemoteRun]) -> None:
            try:
                await super().write(runs)
            except ValueError:
                await trio.lowlevel.checkpoint()


class KeepsMemory(OtherMemory):
    kept: ClassVar[list[memoryview]] = []

    @asynccontextmanager
    async def mirror(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AsyncIterator[RemoteWriter]:
        self.kept.extend(memoryview(block) for block in blocks.values())
        async with super().mirror(blocks, at_once=at_once) as writer:
            yield writer


class HidesFailures(OtherMemory):
    class Writer(OtherWriter):
        async def write(self, runs: Sequence[RemoteRun]) -> None:
            try:
                await super().write(runs)
            except ChannelError:
                await trio.lowlevel.checkpoint()

        async def flush(self) -> None:
            try:
                await super().flush()
            except ChannelError:
                await trio.lowlevel.checkpoint()


class CannotBeGivenUp(OtherMemory):
    @asynccontextmanager
    async def mirror(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AsyncIterator[RemoteWriter]:
        with trio.move_on_after(1.3, shield=True):
            async with super().mirror(blocks, at_once=at_once) as writer:
                yield writer
            return
        raise ChannelError("nobody exposes this memory")


def memory_pair_with_remote_memory() -> tuple[Channel, Channel]:
    return memory_channel_pair(remote_memory=True)


def with_remote_memory(kind: type[OtherMemory]) -> MakePair:
    return wrapped(kind, memory_pair_with_remote_memory)


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


BROKEN: list[tuple[Callable[[MakePair], Awaitable[None]], MakePair, str]] = [
    (checks.check_names_its_peer, wrapped(Nameless), "'' is no name for a peer"),
    (
        checks.check_carries_segments_in_order,
        wrapped(Reordering),
        "the bytes that arrived are not those that were sent",
    ),
    (
        checks.check_accepts_every_buffer,
        wrapped(CountsItems),
        "carrying every kind of buffer took longer",
    ),
    (
        checks.check_tolerates_empty_sends,
        wrapped(EndsOnEmpty),
        "sending nothing failed: .* the end was sent",
    ),
    (
        checks.check_resumes_after_short_writes,
        wrapped(ForgetsToResume),
        "carrying 12 MB to a slow reader took longer",
    ),
    (
        checks.check_bounds_its_buffers,
        wrapped(ChannelWrapper, unbounded_pair),
        "sending 67108864 bytes that nobody receives did not block",
    ),
    (
        checks.check_receives_exactly,
        wrapped(ReceivesBeyondTheEnd),
        "when the peer ends before the target is full; nothing was raised",
    ),
    (checks.check_ends_one_direction, wrapped(DoesNotEnd), "ending a direction took longer"),
    (
        checks.check_notices_lost_destination,
        wrapped(Deaf),
        "noticing that the peer is gone took longer",
    ),
    (
        checks.check_notices_lost_source,
        wrapped(WaitsForever),
        "noticing that the peer is gone took longer",
    ),
    (checks.check_detects_two_senders, wrapped(Queueing), "refusing a second sender took longer"),
    (
        checks.check_detects_two_receivers,
        wrapped(Queueing),
        "refusing a second receiver took longer",
    ),
    (
        checks.check_cancelled_send_poisons,
        wrapped(ForgivesCancelledSends),
        "when sending after a cancelled send; nothing was raised",
    ),
    (
        checks.check_cancelled_receive_ends,
        wrapped(Stubborn),
        "receiving what nobody sends took longer",
    ),
    (
        checks.check_is_cancellable_at_once,
        wrapped(Stubborn),
        "a send in a cancelled scope went through",
    ),
    (
        checks.check_closing_breaks_blocked_send,
        wrapped(ClosesPolitely),
        "closing a clogged channel took longer",
    ),
    (
        checks.check_closing_breaks_blocked_receive,
        wrapped(ClosesPolitely),
        "closing a silent channel took longer",
    ),
    (
        checks.check_closes_for_good,
        wrapped(ReopensWhenClosed),
        "when ending a closed channel; nothing was raised",
    ),
    (checks.check_holds_no_views, wrapped(KeepsViews), "a view is held after a send"),
    (checks.check_return_path, wrapped(MutesMessages), "the messages are wrong"),
    (
        checks.check_return_path,
        wrapped(ClosesInsteadOfEnding),
        "carrying both directions at once failed: .* closed the channel",
    ),
    (check_passes_descriptors, wrapped(PassesDescriptorsBackwards), "they come in another order"),
    (
        remote_memory_checks.check_writes_remote_memory,
        with_remote_memory(ForgetsToFlush),
        "the memory there is not what was written",
    ),
    (
        remote_memory_checks.check_refuses_other_memory,
        with_remote_memory(AsksNobody),
        "to be written to pc.ram; nothing was raised",
    ),
    (
        remote_memory_checks.check_refuses_runs_outside_memory,
        with_remote_memory(SkipsRunsOutside),
        "is to be written; nothing was raised",
    ),
    (
        remote_memory_checks.check_lets_go_of_memory,
        with_remote_memory(KeepsMemory),
        "the source holds a view of its memory",
    ),
    (
        remote_memory_checks.check_writes_nothing_when_left,
        with_remote_memory(HidesFailures),
        "leaving amid writes took longer",
    ),
    (
        remote_memory_checks.check_cancelled_write_ends,
        with_remote_memory(CannotBeGivenUp),
        "giving up on memory that nobody exposes failed",
    ),
    (
        remote_memory_checks.check_stops_writing_when_closed,
        with_remote_memory(HidesFailures),
        "noticing that the channel is closed took longer",
    ),
]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (checks, remote_memory_checks):
        monkeypatch.setattr(module, "PATIENCE_S", 0.3)


@pytest.mark.parametrize(("check", "make_pair", "rule"), BROKEN)
async def test_check_fails_on_channel_that_breaks_its_rule(
    check: Callable[[MakePair], Awaitable[None]], make_pair: MakePair, rule: str
) -> None:
    with pytest.raises(AssertionError, match=rule):
        await check(make_pair)


def test_every_check_has_a_channel_that_breaks_its_rule() -> None:
    assert {check for check, _, _ in BROKEN} == set(CHANNEL_CHECKS) - set(BLOCKING_CHECKS)


async def test_check_transport_names_the_check_that_failed() -> None:
    with pytest.raises(AssertionError) as caught:
        await check_transport(wrapped(Nameless))
    assert caught.value.__notes__ == ["in check_names_its_peer"]


def test_every_check_is_a_test_of_the_inheritable_class() -> None:
    tests = dir(ListeningTransportConformance)
    for check in CHANNEL_CHECKS:
        assert check.__name__.replace("check_", "test_channel_") in tests
    for listener_check in LISTENER_CHECKS:
        rule = listener_check.__name__.removeprefix("check_")
        assert f"test_listener_{rule}" in tests or f"test_transport_{rule}" in tests


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ({ReturnPath, RemoteMemory}, "RemoteMemory is not there, and declared"),
        (set(), "ReturnPath is there, and not declared"),
    ],
)
async def test_check_of_capabilities_fails_on_what_is_not_as_declared(
    declared: set[type], complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        await check_has_declared_capabilities(wrapped(ChannelWrapper), declared)


async def test_check_of_capabilities_passes_who_declares_them_or_nothing() -> None:
    await check_has_declared_capabilities(wrapped(ChannelWrapper), {ReturnPath})
    await check_has_declared_capabilities(wrapped(ChannelWrapper), None)


def test_optional_check_is_passed_by_who_lacks_the_capability() -> None:
    class OneWay(ChannelWrapper):
        def capability(self, kind: type[C]) -> C | None:
            return None

        async def send_return(self, message: Buffer) -> None:
            raise AssertionError("nobody asked for the return path")

    trio.run(checks.check_return_path, wrapped(OneWay))


class Awaited:
    @hookimpl
    async def start_outgoing(self) -> None: ...


def test_kit_names_the_hook_that_would_have_to_be_awaited() -> None:
    with pytest.raises(AssertionError, match="hook 'start_outgoing' is an async function"):
        check_hooks_can_be_called(Awaited(), TransportHooks)
