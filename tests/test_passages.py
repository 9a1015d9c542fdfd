"""A guest under load moves from process to process, and its counter never skips or repeats."""

from __future__ import annotations

import signal
from typing import Final

import pytest
from faults_support import Host, Hosts, free_ports, until

_AHEAD: Final = 6
"""Processes that wait in advance: starting one takes longer than a passage."""


class Chain:
    """Processes in a row; each waits for the guest, keeps it for a while, and sends it on.

    Args:
        hosts: Starts them.
        scheme: By which transport the guest moves.
        passages: How often.
    """

    def __init__(self, hosts: Hosts, scheme: str, passages: int) -> None:
        self._hosts = hosts
        self._passages = passages
        if scheme == "tcp":
            self._addresses = [f"tcp:127.0.0.1:{port}" for port in free_ports(passages + 1)]
        else:
            self._addresses = [hosts.unix(str(number)) for number in range(passages + 1)]
        self._started: list[Host] = []

    async def run(self) -> Host:
        """Let the guest go all the way; returns the process in which it is then."""
        for number in range(1, _AHEAD + 1):
            self._start(number)
        for waiting in self._started:
            await waiting.listening()
        self._started.insert(0, self._start_one(0))
        for number in range(1, self._passages + 1):
            await self._arrive(number)
            self._start(number + _AHEAD)
        for host in self._started[:-1]:
            await host.event("left")
            assert await host.ended() == 0
        return self._started[-1]

    async def _arrive(self, number: int) -> None:
        """Wait until the guest is there; then hold it if the next two are not ready yet."""
        before, here = self._started[number - 1 : number + 1]
        await until(
            lambda: bool(here.find_event("arrived", "failed") or before.find_event("failed")),
            f"the guest is in {here}",
        )
        assert here.find_event("arrived"), before.find_event("failed")
        following = self._started[number + 1 : number + 3]
        if not all(host.find_address() for host in following):
            here.send(signal.SIGSTOP)
            for host in following:
                await host.listening()
            here.send(signal.SIGCONT)

    def _start(self, number: int) -> None:
        if number <= self._passages:
            self._started.append(self._start_one(number))

    def _start_one(self, number: int) -> Host:
        guest = (
            f"synthetic:ram=32MiB,dirty-rate=16MiB/s,working-set=4MiB,zero=0.25,seed={number},"
            f"journal={self._hosts.journal}"
        )
        arguments = ["run", guest, "--bandwidth", "unlimited"]
        if number > 0:
            arguments += ["--incoming", self._addresses[number]]
        if number < self._passages:
            arguments += ["--migrate-to", self._addresses[number + 1], "--after", "200ms"]
        return self._hosts.start(f"host-{number}", *arguments)


async def guest_passes(scheme: str, passages: int) -> None:
    with Hosts() as hosts:
        last = await Chain(hosts, scheme, passages).run()
        await hosts.ticks_on(last)
        stopped = await last.stop()

        assert stopped["exit_code"] == 0
        assert stopped["guest"]["consistent"] is True, stopped
        verdict = hosts.judge()
        assert verdict.passages == passages
        assert verdict.ticks == stopped["guest"]["counter"]
        print(f"{passages} passages over {scheme}: {verdict}")


@pytest.mark.parametrize(("scheme", "passages"), [("unix", 3), ("tcp", 3)])
async def test_guest_under_load_passes_several_processes_and_never_miscounts(
    scheme: str, passages: int
) -> None:
    await guest_passes(scheme, passages)


@pytest.mark.soak
@pytest.mark.parametrize("scheme", ["unix", "tcp"])
async def test_guest_under_load_passes_a_hundred_processes_and_never_miscounts(scheme: str) -> None:
    await guest_passes(scheme, 100)
