"""A pair that is under way, and what an operator does to it."""

from __future__ import annotations

import dataclasses
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio
from engine_machine import PAGE
from engine_pair import Pair

from transship.abc.settings import Capability
from transship.engine.status import MigrationStatus
from transship.testing import ChannelWrapper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from transship.abc import Channel
    from transship.buffers import Buffer
    from transship.engine.notifiers import Notice


SETUP, ACTIVE, PRE_SWITCHOVER, DEVICE, COMPLETED, FAILED, CANCELLING, CANCELLED = (
    MigrationStatus.SETUP,
    MigrationStatus.ACTIVE,
    MigrationStatus.PRE_SWITCHOVER,
    MigrationStatus.DEVICE,
    MigrationStatus.COMPLETED,
    MigrationStatus.FAILED,
    MigrationStatus.CANCELLING,
    MigrationStatus.CANCELLED,
)


PAUSES: Final = [Capability.PAUSE_BEFORE_SWITCHOVER]


@asynccontextmanager
async def under_way(pair: Pair) -> AsyncIterator[Pair]:
    """A pair that runs while the body does, and to its end after it; checked like any other."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        yield pair


def quiet_pair(**arguments: Any) -> Pair:
    """A pair whose guest has written all that it will."""
    pair = Pair(**arguments)
    while pair.source.play():
        pass
    return pair


def change(pair: Pair, **changes: float) -> None:
    pair.migration.parameters = dataclasses.replace(
        pair.migration.parameters,
        **changes,  # type: ignore[arg-type]
    )


def at(notice: Notice, act: Callable[[], object]) -> Callable[[Notice], None]:
    """A notifier that does something when it is told one thing."""

    def notify(told: Notice) -> None:
        if told == notice:
            act()

    return notify


class Slow(ChannelWrapper):
    """Carries so many pages a second."""

    def __init__(self, inner: Channel, pages_per_s: float = 10.0) -> None:
        super().__init__(inner)
        self._pages_per_s = pages_per_s

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await trio.sleep(sum(map(len, segments)) / PAGE / self._pages_per_s)
        await super().send_segments(segments)
