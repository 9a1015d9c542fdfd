"""Two hosts in one process, and a guest that moves from one to the other."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio
from engine_machine import PAGE, Machine, PlainRAM, Register
from engine_pair import PARAMETERS

from transship.abc.settings import Parameters, Settings
from transship.engine.notifiers import Notice, StatusReached
from transship.hosting.host import Host, open_host
from transship.hosting.runstate import RunState
from transship.testing.memory_device import Medium

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from transship.abc import Section
    from transship.engine.attempt import Attempt
    from transship.engine.migration import Migration
    from transship.engine.status import MigrationStatus

URI: Final = "memory:there"

SLOW: Final = Parameters(max_bandwidth_bytes_per_s=4 * PAGE, downtime_limit_s=0)
"""Memory travels for two seconds and more."""


class HostedMachine(Machine):
    """A machine that brings its sections along, and takes its time to pause and to resume.

    Attributes:
        takes_s: How long each takes.
        announced_s: When it announced itself.
    """

    def __init__(self, *, is_source: bool, medium: Medium | None = None) -> None:
        super().__init__(is_running=is_source, medium=medium)
        self._is_running = False
        self.disk.inactivate()
        self.takes_s = {"pause": 0.0, "resume": 0.0}
        self.announced_s: list[float] = []

    def sections(self) -> Sequence[Section]:
        return (PlainRAM(self), Register(self))

    async def pause(self) -> None:
        await trio.sleep(self.takes_s["pause"])
        await super().pause()

    async def resume(self) -> None:
        await trio.sleep(self.takes_s["resume"])
        await super().resume()

    def announce(self) -> None:
        self.announced_s.append(trio.current_time())


@dataclass
class Seen:
    """What a host told, and its run state when it had told it."""

    host: Host
    notices: list[Notice] = field(default_factory=list)
    run_states: list[RunState] = field(default_factory=list)

    def __call__(self, notice: Notice) -> None:
        self.notices.append(notice)
        if self.run_states[-1] is not self.host.run_state:
            self.run_states.append(self.host.run_state)

    @property
    def statuses(self) -> list[MigrationStatus]:
        return [one.status for one in self.notices if isinstance(one, StatusReached)]


def see(host: Host) -> Seen:
    """Note what a host tells from now on."""
    seen = Seen(host, run_states=[host.run_state])
    host.notifiers.add(seen, "what the test sees")
    return seen


def machine(host: Host) -> HostedMachine:
    """The guest of a host of these tests."""
    assert isinstance(host.guest, HostedMachine)
    return host.guest


class Hosts:
    """A host with a guest that runs, and one that waits for it at :data:`URI`.

    Attributes:
        over: The migrations that the hosts have said to be over, in that order.
    """

    def __init__(self, here: Host, there: Host, over: list[Attempt]) -> None:
        self.here, self.there = here, there
        self.seen_here, self.seen_there = see(here), see(there)
        self.over = over

    @property
    def guest(self) -> HostedMachine:
        """The one that moves, as it is here."""
        return machine(self.here)

    @property
    def arrival(self) -> HostedMachine:
        """The one that it becomes."""
        return machine(self.there)

    async def migrate(self) -> Migration:
        """Let the guest move, and wait until that is over on both sides, however it ends."""
        migration = await self.here.start_migration(URI)
        await over(self.here, self.there)
        return migration

    def check(self) -> None:
        """What the hosts say is so, and at most one guest runs, or ever did."""
        for host in (self.here, self.there):
            assert (host.run_state is RunState.RUNNING) is host.guest.is_running
        assert not (self.here.guest.is_running and self.there.guest.is_running)
        assert not self.guest.has_run_twice
        assert not self.arrival.has_run_twice
        assert not self.guest.has_run_without_disk
        assert not self.arrival.has_run_without_disk


def as_settings(parameters: Parameters, capabilities: Iterable[str]) -> Settings:
    return Settings(frozenset(capabilities), parameters)


@asynccontextmanager
async def one_host(*, runs: bool = True) -> AsyncIterator[Host]:
    """Open a host with a guest; what it says is checked when the body is through."""
    guest = HostedMachine(is_source=True)
    async with open_host(guest, Settings(parameters=PARAMETERS)) as host:
        if runs:
            await host.cont()
        yield host
        assert (host.run_state is RunState.RUNNING) is guest.is_running


@asynccontextmanager
async def two_hosts(
    *,
    runs: bool = True,
    listens: bool = True,
    parameters: Parameters = PARAMETERS,
    capabilities: Iterable[str] = (),
    storage_is_shared: bool = True,
    **of_there: Any,
) -> AsyncIterator[Hosts]:
    """Open two hosts; what they say is checked when the body is through.

    Args:
        runs: Whether the guest runs already.
        listens: Whether the other host listens already.
        parameters: Of both.
        capabilities: Of the source.
        storage_is_shared: Whether the disks of the two are one.
        of_there: More for the other host.
    """
    storage = Medium(PAGE) if storage_is_shared else None
    guest = HostedMachine(is_source=True, medium=storage)
    arrival = HostedMachine(is_source=False, medium=storage)
    guest.other, arrival.other = arrival, guest
    over: list[Attempt] = []

    async def note(attempt: Attempt) -> None:
        over.append(attempt)

    async with (
        open_host(guest, as_settings(parameters, capabilities), on_over=note) as here,
        open_host(
            arrival, as_settings(parameters, ()), awaits_migration=True, on_over=note, **of_there
        ) as there,
    ):
        if runs:
            await here.cont()
        if listens:
            await there.start_incoming(URI)
        hosts = Hosts(here, there, over)
        yield hosts
        hosts.check()


@asynccontextmanager
async def other_host(source: HostedMachine) -> AsyncIterator[Host]:
    """Open one more host that waits for the guest of a source, at ``memory:other``."""
    arrival = HostedMachine(is_source=False)
    arrival.other = source
    settings = Settings(parameters=PARAMETERS)
    async with open_host(arrival, settings, awaits_migration=True) as host:
        await host.start_incoming("memory:other")
        yield host
        assert not arrival.has_run_twice


def state(host: Host) -> str:
    """The run state in its word; a call, so that nobody takes it for what it was before."""
    return host.run_state.value


async def over(*hosts: Host) -> None:
    """Wait until nothing is under way on any of some hosts, and they had time to say so."""
    for host in hosts:
        while host.active is not None:  # noqa: ASYNC110 - an event for it is what is tested
            await trio.sleep(0.01)
        await trio.sleep(0.01)


async def reached(host: Host, run_state: RunState) -> None:
    """Wait until a host's guest is in a run state."""
    while host.run_state is not run_state:  # noqa: ASYNC110 - as above
        await trio.sleep(0.01)
