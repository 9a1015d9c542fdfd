"""Every check of a stored medium fails on one that breaks its rule."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio

from transship.abc import Blocking, ReturnPath, Seekable
from transship.errors import ChannelError
from transship.testing import (
    STORED_CHECKS,
    ChannelWrapper,
    check_stored_transport,
    stored_checks as checks,
)
from transship.testing.capability_checks import check_medium_has_declared_capabilities
from transship.testing.pytest_plugin import StoredTransportConformance
from transship.toolkit import FileChannel, SingleListener, stored_or_not

from .broken_channels import AbleItself, CountsItems, KeepsViews, Reordering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from transship.abc import Channel, Listener
    from transship.buffers import Buffer
    from transship.testing import Read, Write

C = TypeVar("C")


class Medium:
    """A file; what is overridden breaks a rule."""

    wrapper: type[ChannelWrapper] | None = None
    flags = os.O_TRUNC

    def __init__(self, path: Path) -> None:
        self.path = path

    def _wrapped(self, channel: FileChannel) -> Channel:
        return channel if self.wrapper is None else self.wrapper(channel)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Channel]:
        number = os.open(self.path, os.O_WRONLY | os.O_CREAT | self.flags)
        async with stored_or_not(FileChannel("medium", number)) as channel:
            yield self._wrapped(channel)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Listener]:
        channel = FileChannel("medium", os.open(self.path, os.O_RDONLY))
        listener = SingleListener(self._wrapped(channel), "medium", trio.lowlevel.checkpoint)
        yield listener
        await listener.aclose()


class EndsOnEmpty(ChannelWrapper):
    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await super().send_segments(segments)
        if not any(segments):
            await self.inner.send_eof()


class WritesAfterTheEnd(ChannelWrapper):
    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()


class Queueing(ChannelWrapper):
    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self.lock = trio.Lock()

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        async with self.lock:
            await super().send_segments(segments)


class Stubborn(ChannelWrapper):
    async def receive_some_into(self, target: memoryview) -> int:
        with trio.CancelScope(shield=True):
            count = await super().receive_some_into(target)
        return count  # noqa: RET504 (mypy takes the scope for one that may swallow)


class StaysOpen(ChannelWrapper):
    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Answers(AbleItself):
    async def send_return(self, message: Buffer) -> None:
        raise AssertionError

    async def receive_return_into(self, target: memoryview) -> int:
        raise AssertionError


class LosesItsPlace(AbleItself):
    """Forgets to go where it is told."""

    descriptor = -1

    def tell(self) -> int:
        assert isinstance(self.inner, FileChannel)
        return self.inner.tell()

    def seek(self, offset: int) -> None:
        if offset < 0:
            raise ChannelError("no such place")


class LosesBytesOfThreads(ChannelWrapper):
    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await super().send_segments([bytes(segment)[1:] for segment in segments])

    def capability(self, kind: type[C]) -> C | None:
        return self.inner.capability(kind)


def with_wrapper(kind: type[ChannelWrapper]) -> type[Medium]:
    return type(kind.__name__, (Medium,), {"wrapper": kind})


class KeepsWhatWasThere(Medium):
    flags = 0


class ReadOnce(Medium):
    @asynccontextmanager
    async def read(self) -> AsyncIterator[Listener]:
        async with super().read() as listener:
            yield listener
        self.path.write_bytes(b"")


class OffersAgain(Medium):
    @asynccontextmanager
    async def read(self) -> AsyncIterator[Listener]:
        async with super().read() as listener:
            channel = await listener.accept()

            async def accept() -> Channel:
                await trio.lowlevel.checkpoint()
                return channel

            listener.accept = accept  # type: ignore[method-assign]
            yield listener


class Hasty(Medium):
    """Makes room when it is only asked to prepare."""

    def write(self):  # type: ignore[no-untyped-def]
        self.path.write_bytes(b"")
        return super().write()


class KeepsWhatFailed(Medium):
    @asynccontextmanager
    async def write(self) -> AsyncIterator[Channel]:
        channel = FileChannel("medium", os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        try:
            yield channel
        finally:
            await channel.aclose()


BROKEN: list[tuple[Callable[[Write, Read], Awaitable[None]], type[Medium], str]] = [
    (checks.check_keeps_segments_in_order, with_wrapper(Reordering), "other bytes came back"),
    (
        checks.check_keeps_every_buffer,
        with_wrapper(CountsItems),
        "a kind of buffer comes back wrong",
    ),
    (
        checks.check_keeps_nothing_of_empty_sends,
        with_wrapper(EndsOnEmpty),
        "writing failed: .* the end was sent",
    ),
    (
        checks.check_ends_where_writing_ended,
        KeepsWhatWasThere,
        "when the stream ends before the target is full; nothing was raised",
    ),
    (
        checks.check_refuses_to_write_after_the_end,
        with_wrapper(WritesAfterTheEnd),
        "when sending after the end; nothing was raised",
    ),
    (checks.check_detects_two_writers, with_wrapper(Queueing), "two tasks could send at once"),
    (
        checks.check_is_cancellable_before_it_begins,
        with_wrapper(Stubborn),
        "a receive in a cancelled scope went through",
    ),
    (checks.check_keeps_no_views, with_wrapper(KeepsViews), "a view is held after a send"),
    (
        checks.check_writing_closes_for_good,
        with_wrapper(StaysOpen),
        "when receiving on a closed channel; nothing was raised",
    ),
    (checks.check_can_be_read_again, ReadOnce, "reading changed what is stored"),
    (checks.check_second_accept_waits, OffersAgain, "accepting a second time did not block"),
    (checks.check_does_nothing_before_entered, Hasty, "what was only prepared was done"),
    (checks.check_nobody_answers, with_wrapper(Answers), "a medium cannot answer"),
    (checks.check_places_and_gaps, with_wrapper(LosesItsPlace), "places are mixed up"),
    (
        checks.check_threads_carry_the_same,
        with_wrapper(LosesBytesOfThreads),
        "a thread did not get all",
    ),
    (
        checks.check_failed_writing_leaves_no_stream,
        KeepsWhatFailed,
        "a stream that failed can be loaded",
    ),
]


@pytest.mark.parametrize(("check", "kind", "rule"), BROKEN)
async def test_check_fails_on_medium_that_breaks_its_rule(
    check: Callable[[Write, Read], Awaitable[None]], kind: type[Medium], rule: str, tmp_path: Path
) -> None:
    medium = kind(tmp_path / "medium")
    with pytest.raises(AssertionError, match=rule):
        await check(medium.write, medium.read)


async def test_medium_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    medium = Medium(tmp_path / "medium")
    await check_stored_transport(medium.write, medium.read)


def test_every_check_has_a_medium_that_breaks_its_rule() -> None:
    assert {check for check, _, _ in BROKEN} == set(STORED_CHECKS)


def test_every_check_is_a_test_of_the_inheritable_class() -> None:
    for check in STORED_CHECKS:
        name = check.__name__.replace("check_", "test_medium_")
        assert hasattr(StoredTransportConformance, name)


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ({Blocking, ReturnPath, Seekable}, "ReturnPath is not there, and declared"),
        ({Blocking}, "Seekable is there, and not declared"),
    ],
)
async def test_check_of_capabilities_fails_on_what_is_not_as_declared(
    tmp_path: Path, declared: set[type], complaint: str
) -> None:
    medium = Medium(tmp_path / "medium")
    with pytest.raises(AssertionError, match=complaint):
        await check_medium_has_declared_capabilities(medium.write, medium.read, declared)


async def test_check_of_capabilities_passes_who_declares_them_or_nothing(tmp_path: Path) -> None:
    medium = Medium(tmp_path / "medium")
    for declared in ({Blocking, Seekable}, None):
        await check_medium_has_declared_capabilities(medium.write, medium.read, declared)


async def test_failed_check_is_named(tmp_path: Path) -> None:
    medium = KeepsWhatFailed(tmp_path / "medium")
    with pytest.raises(AssertionError) as caught:
        await check_stored_transport(medium.write, medium.read)
    assert caught.value.__notes__ == ["in check_failed_writing_leaves_no_stream"]
