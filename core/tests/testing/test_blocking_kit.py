"""Every check of calls from threads fails on a channel that breaks its rule."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from transship.abc import BlockingReceiver, BlockingSender
from transship.errors import ChannelError, StalledError
from transship.testing import blocking_checks as checks
from transship.toolkit import SocketChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from transship.abc import Channel
    from transship.buffers import Buffer
    from transship.testing import MakePair


class Sender(BlockingSender):
    """Passes on to a sender that is right."""

    def __init__(self, inner: BlockingSender) -> None:
        self.inner = inner

    def send(self, segments: Sequence[Buffer]) -> None:
        self.inner.send(segments)

    def interrupt(self) -> None:
        self.inner.interrupt()


class Receiver(BlockingReceiver):
    """Passes on to a receiver that is right."""

    def __init__(self, inner: BlockingReceiver) -> None:
        self.inner = inner

    def receive(self, targets: Sequence[memoryview]) -> int:
        return self.inner.receive(targets)

    def receive_some(self, target: memoryview) -> int:
        return self.inner.receive_some(target)

    def interrupt(self) -> None:
        self.inner.interrupt()


class ReordersSegments(Sender):
    def send(self, segments: Sequence[Buffer]) -> None:
        self.inner.send(segments[::-1])


class FillsTheFirstTargetOnly(Receiver):
    def receive(self, targets: Sequence[memoryview]) -> int:
        return self.inner.receive(targets[:1])


class HasAnotherDescriptor(Sender):
    def send_with(self, send: Callable[[int], int]) -> int:
        with open(os.devnull, "wb") as elsewhere:
            return send(elsewhere.fileno())


class DoesNotWaitForTheDescriptor(Receiver):
    def receive_with(self, receive: Callable[[int], int]) -> int:
        return 0


class TakesItsTimeToSend(Sender):
    """Waits for ever, time-out or not."""

    def send(self, segments: Sequence[Buffer]) -> None:
        while True:
            with suppress(StalledError):
                self.inner.send(segments)


class KeepsAStallToItself(Sender):
    """Gives up in time, and lets the channel send on."""

    def send(self, segments: Sequence[Buffer]) -> None:
        time.sleep(checks._STALL_S)
        raise StalledError("the peer takes nothing")


class GivesUpAtOnce(Receiver):
    def receive(self, targets: Sequence[memoryview]) -> int:
        raise StalledError("nothing comes")


class SendsOnAfterAnInterrupt(Sender):
    """Breaks the call under way, but no later one."""

    def __init__(self, inner: BlockingSender) -> None:
        super().__init__(inner)
        self.is_interrupted = threading.Event()

    def send(self, segments: Sequence[Buffer]) -> None:
        if self.is_interrupted.is_set():
            return
        self.is_interrupted.wait()
        raise ChannelError("interrupted")

    def interrupt(self) -> None:
        self.is_interrupted.set()


class CannotBeInterrupted(Receiver):
    def interrupt(self) -> None:
        pass


class ClosesWhenInterrupted(Sender):
    """Breaks the other half as well."""

    def __init__(self, inner: BlockingSender) -> None:
        super().__init__(inner)
        self.socket: socket.socket = inner._socket  # type: ignore[attr-defined]

    def interrupt(self) -> None:
        self.inner.interrupt()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)


class HidesALostPeer(Sender):
    def send(self, segments: Sequence[Buffer]) -> None:
        with suppress(ChannelError):
            self.inner.send(segments)


class WaitsForALostPeer(Receiver):
    def receive(self, targets: Sequence[memoryview]) -> int:
        while not self.inner.receive(targets):
            time.sleep(0.01)
        return 1


class Threaded(SocketChannel):
    """A channel whose halves for threads are made by a test."""

    sender: type[Sender] = Sender
    receiver: type[Receiver] = Receiver

    def blocking_sender(self, timeout_s: float) -> Any:
        return self.sender(super().blocking_sender(timeout_s))

    def blocking_receiver(self, timeout_s: float) -> Any:
        return self.receiver(super().blocking_receiver(timeout_s))


@asynccontextmanager
async def threaded(half: type[Sender | Receiver]) -> AsyncIterator[tuple[Channel, Channel]]:
    source, destination = map(Threaded, socket.socketpair(), ("destination", "source"))
    if issubclass(half, Sender):
        source.sender = half
    else:
        destination.receiver = half
    try:
        yield source, destination
    finally:
        await source.aclose()
        await destination.aclose()


BROKEN: list[tuple[Callable[[MakePair], Awaitable[None]], type[Sender | Receiver], str]] = [
    (
        checks.check_blocks_with_the_same_bytes,
        ReordersSegments,
        "the bytes that a thread sent arrive wrong",
    ),
    (
        checks.check_blocks_with_the_same_bytes,
        FillsTheFirstTargetOnly,
        "receiving in a thread took longer",
    ),
    (
        checks.check_blocks_over_a_descriptor,
        HasAnotherDescriptor,
        "using the descriptor took longer",
    ),
    (
        checks.check_blocks_over_a_descriptor,
        DoesNotWaitForTheDescriptor,
        "does not wait until bytes come",
    ),
    (
        checks.check_blocking_call_times_out,
        TakesItsTimeToSend,
        "a send with a time-out of 0.2 s took longer",
    ),
    (
        checks.check_blocking_call_times_out,
        KeepsAStallToItself,
        "when the channel sends after a thread's send that made no progress",
    ),
    (
        checks.check_blocking_call_times_out,
        GivesUpAtOnce,
        "a receive gave up after",
    ),
    (
        checks.check_interrupt_breaks_one_half,
        SendsOnAfterAnInterrupt,
        "on a send after an interrupt; nothing was raised",
    ),
    (
        checks.check_interrupt_breaks_one_half,
        CannotBeInterrupted,
        "a receive in a thread took longer",
    ),
    (
        checks.check_interrupt_breaks_one_half,
        ClosesWhenInterrupted,
        "sending the other way after an interruption failed",
    ),
    (
        checks.check_blocking_call_notices_lost_peer,
        HidesALostPeer,
        "a send succeeded although the peer is gone",
    ),
    (
        checks.check_blocking_call_notices_lost_peer,
        WaitsForALostPeer,
        "a receive in a thread took longer",
    ),
]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PATIENCE_S", 0.5)
    monkeypatch.setattr(checks, "PROMPTLY_S", 0.5)


@pytest.mark.parametrize(("check", "half", "rule"), BROKEN)
async def test_check_fails_on_a_half_that_breaks_its_rule(
    check: Callable[[MakePair], Awaitable[None]], half: type[Sender | Receiver], rule: str
) -> None:
    with pytest.raises(AssertionError, match=rule):
        await check(partial(threaded, half))


@pytest.mark.parametrize("half", [Sender, Receiver])
async def test_halves_that_are_right_pass(half: type[Sender | Receiver]) -> None:
    for check in checks.BLOCKING_CHECKS:
        await check(partial(threaded, half))


def test_every_check_has_a_half_that_it_fails_on() -> None:
    assert {check for check, _, _ in BROKEN} == set(checks.BLOCKING_CHECKS)


def test_channel_without_the_capability_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SocketChannel, "capability", lambda channel, kind: None)
    for check in checks.BLOCKING_CHECKS:
        trio.run(check, partial(threaded, ReordersSegments))
