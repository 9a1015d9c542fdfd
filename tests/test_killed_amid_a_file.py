"""A writer of a file that is killed, and who reads what it left: a whole guest, or an error."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
import trio
from faults_support import Hosts, Progress, until

from transship.abc import Parameters
from transship.assembly import migrate, receive
from transship.errors import MigrationError
from transship.guests.synthetic import SyntheticGuest

if TYPE_CHECKING:
    from pathlib import Path

    from faults_support import Host

UNLIMITED: Final = Parameters(max_bandwidth_bytes_per_s=0)
WRITING_S: Final = 0.3
"""About as long as the guest of these tests takes to be written."""


async def killed(seed: int, victim: str) -> str:
    """Kill a writer, or a reader of a whole file, at some moment; returns what became of it."""
    chance = random.Random(seed)
    with Hosts() as hosts:
        uri = f"file:{hosts.folder}/stream"
        guest = f"synthetic:ram=16MiB,dirty-rate=16MiB/s,journal={hosts.journal}"
        source = hosts.start(
            *("source", "run", guest, "--migrate-to", uri, "--bandwidth", "64MiB/s")
        )
        await until(lambda: hosts.ticks() > 0, "the guest runs", poll_s=0.001)
        if victim == "writer":
            await trio.sleep(chance.uniform(0, 1.3 * WRITING_S))
            has_left = source.find_event("left") is not None
            await source.kill()
        else:
            await source.event("left")
            has_left = True
            reader = hosts.start("killed", "run", f"{guest},seed=98", "--incoming", uri)
            await trio.sleep(chance.uniform(0.2, 0.8))
            await reader.kill()
            if hosts.ticks_of(reader) > 0:
                return "reader ran"
        reader = hosts.start("reader", "run", f"{guest},seed=99", "--incoming", uri)
        outcome = await read(hosts, reader)
        assert not has_left or outcome == "runs"
        hosts.judge()
    return f"{victim} killed, {outcome}"


async def read(hosts: Hosts, reader: Host) -> str:
    """What the reader makes of it."""
    event = await reader.event("arrived", "failed")
    if event["event"] == "arrived":
        await hosts.ticks_on(reader)
        assert (await reader.stop())["guest"]["consistent"] is True
        return "runs"
    assert "Traceback" not in reader.notes()
    error = event["error"]
    assert error["cause"]
    assert error["kind"] in ("StreamError", "ConnectError"), error
    assert await reader.ended() in (1, 3)
    await hosts.stands_still()
    return str(error["kind"])


@pytest.mark.parametrize("victim", ["writer", "reader"])
async def test_file_of_a_killed_process_holds_a_whole_guest_or_none(victim: str) -> None:
    await killed(7, victim)


@pytest.mark.soak
@pytest.mark.parametrize("victim", ["writer", "reader"])
async def test_files_of_a_hundred_killed_processes_hold_a_whole_guest_or_none(victim: str) -> None:
    progress = Progress(f"files, {victim}")
    noted = progress.load()
    outcomes = Counter[str](noted.get("outcomes", {}))
    for seed in range(noted.get("next", 0), 60):
        try:
            outcomes[await killed(seed, victim)] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        progress.note(next=seed + 1, outcomes=outcomes)
    print(outcomes)


@pytest.mark.parametrize("count", [15, pytest.param(400, marks=pytest.mark.soak)])
async def test_file_cut_anywhere_is_refused_and_can_be_read_when_it_is_whole(
    count: int, place: Path
) -> None:
    path, uri = place / "stream", f"file:{place}/stream"
    with SyntheticGuest(1 << 18) as here:
        await here.resume()
        await migrate(here, uri, parameters=UNLIMITED).run()
    whole = path.read_bytes()
    chance = random.Random(count)
    descriptors = len(os.listdir("/proc/self/fd"))
    # What comes last is the description, which a reader may miss: the guest is whole before it.
    end = whole.rindex(b'{"') - 10
    for cut in [0, 1, end, *(chance.randrange(end) for _ in range(count))]:
        path.write_bytes(whole[:cut])
        with SyntheticGuest(1 << 18, fill=False) as there:
            with pytest.raises(MigrationError) as caught:
                await receive(there, uri, parameters=UNLIMITED).run()
            assert caught.value.cause
            assert not there.is_running
    assert len(os.listdir("/proc/self/fd")) == descriptors
    path.write_bytes(whole)
    with SyntheticGuest(1 << 18, fill=False) as there:
        await receive(there, uri, parameters=UNLIMITED).run()
        assert there.is_running
        await there.pause()
        assert (await trio.to_thread.run_sync(there.verify)).ok
