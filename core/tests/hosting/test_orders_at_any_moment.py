"""Orders that come at any step of a passage: what a host says is so, and one guest runs at most."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_orders import PAUSES
from engine_pair import PARAMETERS, AtStep, until
from trio.testing import MockClock

from transship.engine.status import MigrationStatus
from transship.errors import LocalError, MigrationError

from .hosted import URI, Hosts, over, state, two_hosts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_ORDERS: Final[dict[str, Callable[[Hosts], Awaitable[None]]]] = {
    "stop": lambda hosts: hosts.here.stop(),
    "stop and cont": lambda hosts: _stop_and_cont(hosts),
    "stop and cancel": lambda hosts: _stop_and_cancel(hosts),
    "cancel": lambda hosts: _cancel(hosts),
    "stop there": lambda hosts: hosts.there.stop(),
    "stop and cont there": lambda hosts: _stop_and_cont_there(hosts),
}


async def _stop_and_cont(hosts: Hosts) -> None:
    await hosts.here.stop()
    await hosts.here.cont()


async def _stop_and_cont_there(hosts: Hosts) -> None:
    await hosts.there.stop()
    await hosts.there.cont()


async def _stop_and_cancel(hosts: Hosts) -> None:
    await hosts.here.stop()
    hosts.here.cancel()


async def _cancel(hosts: Hosts) -> None:
    await trio.lowlevel.checkpoint()
    hosts.here.cancel()


class _Passage:
    """A guest that moves, and an order that comes half-way.

    Attributes:
        refusal: Why the order was not carried out.
    """

    def __init__(self, order: Callable[[Hosts], Awaitable[None]], *, waits: bool) -> None:
        self._order = order
        self._waits = waits
        self._due = trio.Event()
        self.refusal: MigrationError | None = None
        self.ends: tuple[str, str] = ("", "")

    def give_order(self) -> None:
        self._due.set()

    async def run(self) -> None:
        capabilities = PAUSES if self._waits else []
        async with two_hosts(parameters=PARAMETERS, capabilities=capabilities) as hosts:
            hosts.guest.takes_s = hosts.arrival.takes_s = {"pause": 0.2, "resume": 0.2}
            await hosts.here.start_migration(URI)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, hosts)
                if self._waits:
                    nursery.start_soon(self._let_go_on, hosts)
                await over(hosts.here)
                await trio.sleep(2.0)
                nursery.cancel_scope.cancel()
            hosts.check()
            self.ends = (state(hosts.here), state(hosts.there))

    async def _obey(self, hosts: Hosts) -> None:
        await self._due.wait()
        try:
            await self._order(hosts)
        except MigrationError as error:
            self.refusal = error

    async def _let_go_on(self, hosts: Hosts) -> None:
        migration = hosts.here.outgoing
        assert migration is not None
        await until(lambda: migration.status is MigrationStatus.PRE_SWITCHOVER)
        await trio.sleep(0.3)
        with suppress(LocalError):
            migration.switch_over()


@pytest.mark.seed("S67")
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("waits", [False, True], ids=["", "with a pause before the switchover"])
@pytest.mark.parametrize("order", _ORDERS)
def test_order_at_any_step_leaves_hosts_that_tell_the_truth(
    order: str, waits: bool, stride: int, caplog: pytest.LogCaptureFixture
) -> None:
    ends: set[tuple[str, str]] = set()
    for step in count(0, stride):
        passage = _Passage(_ORDERS[order], waits=waits)
        instrument = AtStep(step, passage.give_order)
        trio.run(passage.run, clock=MockClock(autojump_threshold=0), instruments=[instrument])
        assert "notifier" not in caplog.text, f"step {step}"
        if not instrument.has_acted:
            break
        ends.add(passage.ends)
        here, there = passage.ends
        if "cont" not in order and "there" not in order and passage.refusal is None:
            assert (here, there) in _ENDS[order], f"step {step}"
    assert ("postmigrate", "running") in ends
    assert len(ends) > 1 or "cont" in order


_ENDS: Final = {
    # Stopped in time, it arrives standing still; in the hand-over, the destination starts it.
    "stop": {("postmigrate", "paused"), ("postmigrate", "running")},
    "stop and cancel": {
        ("paused", "inmigrate"),
        # The destination has it and may not know that the source has kept it: it starts nothing.
        ("paused", "paused"),
        ("postmigrate", "paused"),
        ("postmigrate", "running"),
    },
    "cancel": {("running", "inmigrate"), ("running", "paused"), ("postmigrate", "running")},
}
