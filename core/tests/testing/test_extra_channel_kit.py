"""Every check of extra channels fails on a transport that breaks its rule."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest
import trio

from transship.abc import Channel, Listener
from transship.testing import extra_channel_checks as checks, memory_channel_pair

from .broken_channels import AbleItself

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from transship.abc import Address
    from transship.abc.transport import Outgoing
    from transship.testing import Connect, Listen


class Ear(Listener):
    """Accepts what is put before it; the address does not matter, there is one at a time."""

    uri = "memory:here"
    current: ClassVar[Ear]

    def __init__(self) -> None:
        self.put, self.get = trio.open_memory_channel[Channel](100)

    async def accept(self) -> Channel:
        return await self.get.receive()


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    Ear.current = Ear()
    with Ear.current.put, Ear.current.get:
        yield Ear.current


def connected() -> Channel:
    source, destination = memory_channel_pair()
    Ear.current.put.send_nowait(destination)
    return source


class Opens(AbleItself):
    """A channel that opens others as it should."""

    @asynccontextmanager
    async def open_channel(self) -> AsyncIterator[Channel]:
        await trio.lowlevel.checkpoint()
        channel = connected()
        try:
            yield channel
        finally:
            await channel.aclose()


class OpensItself(Opens):
    @asynccontextmanager
    async def open_channel(self) -> AsyncIterator[Channel]:
        await trio.lowlevel.checkpoint()
        connected()
        yield self


class ClosesAll(Opens):
    @asynccontextmanager
    async def open_channel(self) -> AsyncIterator[Channel]:
        async with super().open_channel() as channel:
            yield channel
        await self.aclose()


class LeavesOpen(Opens):
    @asynccontextmanager
    async def open_channel(self) -> AsyncIterator[Channel]:
        await trio.lowlevel.checkpoint()
        yield connected()


class ConnectsAtOnce(Opens):
    def open_channel(self) -> Outgoing:  # type: ignore[override]
        channel = connected()

        @asynccontextmanager
        async def opened() -> AsyncIterator[Channel]:
            await trio.lowlevel.checkpoint()
            yield channel
            await channel.aclose()

        return opened()


class OpensWhenCancelled(Opens):
    @asynccontextmanager
    async def open_channel(self) -> AsyncIterator[Channel]:
        with trio.CancelScope(shield=True):
            async with super().open_channel() as channel:
                yield channel


class ClosesUnlessCancelled(Opens):
    @asynccontextmanager
    async def open_channel(self) -> AsyncIterator[Channel]:
        await trio.lowlevel.checkpoint()
        channel = connected()
        yield channel
        await channel.aclose()


def connect_with(kind: type[Opens]) -> Connect:
    @asynccontextmanager
    async def connecting(address: Address) -> AsyncIterator[Channel]:
        await trio.lowlevel.checkpoint()
        source = kind(connected())
        yield source
        await source.aclose()

    return connecting


BROKEN: list[tuple[Callable[[Listen, Connect], Awaitable[None]], type[Opens], str]] = [
    (checks.check_opens_more_channels, OpensItself, "using three channels at once took longer"),
    (checks.check_opens_more_channels, ClosesAll, "using three channels at once failed"),
    (checks.check_opens_more_channels, LeavesOpen, "using three channels at once took longer"),
    (
        checks.check_prepares_more_channels,
        ConnectsAtOnce,
        "accepting what was only prepared did not block",
    ),
    (
        checks.check_cancels_more_channels,
        OpensWhenCancelled,
        "opening a channel in a cancelled scope went through",
    ),
    (
        checks.check_cancels_more_channels,
        ClosesUnlessCancelled,
        "closing a channel whose use was cancelled took longer",
    ),
]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PATIENCE_S", 0.3)
    monkeypatch.setattr(checks, "PROMPTLY_S", 0.3)


@pytest.mark.parametrize(("check", "kind", "rule"), BROKEN)
async def test_check_fails_on_a_channel_that_breaks_its_rule(
    check: Callable[[Listen, Connect], Awaitable[None]], kind: type[Opens], rule: str
) -> None:
    with pytest.raises(AssertionError, match=rule):
        await check(listening, connect_with(kind))


async def test_channel_that_opens_others_as_it_should_passes() -> None:
    for check in checks.EXTRA_CHANNEL_CHECKS:
        await check(listening, connect_with(Opens))


def test_every_check_has_a_channel_that_it_fails_on() -> None:
    assert {check for check, _, _ in BROKEN} == set(checks.EXTRA_CHANNEL_CHECKS)


async def test_channel_without_the_capability_passes() -> None:
    class Alone(OpensItself):
        def capability(self, kind: type[object]) -> object:  # type: ignore[override]
            return None

    for check in checks.EXTRA_CHANNEL_CHECKS:
        await check(listening, connect_with(Alone))
