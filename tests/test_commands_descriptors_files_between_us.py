"""A guest moves between two of us through commands, descriptors and files, and stays whole."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

import pytest
import trio
from support.between_us import Passage
from support.commands import transship

from transship.abc import Parameters
from transship.assembly import migrate, receive
from transship.errors import CancelledError, MigrationError
from transship.guests.synthetic import SyntheticGuest
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNLIMITED: Final = Parameters(max_bandwidth_bytes_per_s=0)


def guests(ram_bytes: int = 32 * MIB) -> tuple[SyntheticGuest, SyntheticGuest]:
    here = SyntheticGuest(ram_bytes, dirty_rate_bytes_per_s=16 * MIB, working_set_bytes=4 * MIB)
    return here, SyntheticGuest(ram_bytes, fill=False)


def inherited(number: int) -> int:
    os.set_inheritable(number, True)
    return number


def through_commands(place: Path) -> tuple[str, str]:
    os.mkfifo(place / "fifo")
    return f"exec:cat > {place}/fifo", f"exec:cat {place}/fifo"


def over_a_pipe(place: Path) -> tuple[str, str]:
    reads, writes = os.pipe()
    return f"fd:{inherited(writes)}", f"fd:{inherited(reads)}"


def over_sockets(place: Path) -> tuple[str, str]:
    one, other = socket.socketpair()
    return f"fd:{inherited(one.detach())}", f"fd:{inherited(other.detach())}"


def through_a_file(place: Path) -> tuple[str, str]:
    return f"file:{place}/stream,offset=64k", f"file:{place}/stream,offset=0x10000"


live_ways = pytest.mark.parametrize("way", [through_commands, over_a_pipe, over_sockets])
all_ways = pytest.mark.parametrize(
    "way", [through_commands, over_a_pipe, over_sockets, through_a_file]
)


@live_ways
async def test_guest_under_load_arrives_whole(
    way: Callable[[Path], tuple[str, str]], place: Path
) -> None:
    here, there = guests()
    target, uri = way(place)
    passage = Passage(here, there, uri, UNLIMITED)
    passage.target = target
    with trio.fail_after(60):
        await passage.run()
    assert not passage.errors
    assert await passage.verdict() == "there"


async def test_guest_under_load_goes_into_a_file_and_comes_back(place: Path) -> None:
    here, there = guests()
    target, uri = through_a_file(place)
    await here.resume()
    await migrate(here, target, parameters=UNLIMITED).run()
    assert not here.is_running
    for _ in range(2):
        await receive(there, uri, parameters=UNLIMITED).run()
        assert there.is_running
        await there.pause()
        assert (await trio.to_thread.run_sync(there.verify)).ok
        there.close()
        there = SyntheticGuest(32 * MIB, fill=False)
    there.close()
    here.close()


async def test_receiver_of_a_file_says_that_it_reads_it(place: Path) -> None:
    with SyntheticGuest(1 * MIB) as here:
        await migrate(here, f"file:{place}/stream", parameters=UNLIMITED).run()
    received = await transship("receive", f"file:{place}/stream", "--to", place / "vm")
    received.expect(0)
    assert received.stderr.startswith(f"reading file:{place}/stream\n")
    assert "listening" not in received.stderr


@all_ways
@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 0.3])
async def test_cancelled_guest_runs_on_here_and_is_nowhere_else(
    way: Callable[[Path], tuple[str, str]], after_s: float, place: Path
) -> None:
    here, there = guests()
    target, uri = way(place)
    slow = Parameters(max_bandwidth_bytes_per_s=20 * MIB, downtime_limit_s=0.0)
    await here.resume()
    outgoing = migrate(here, target, parameters=slow)
    incoming = receive(there, uri, parameters=UNLIMITED)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def run() -> None:
            with pytest.raises(CancelledError):
                await outgoing.run()

        if way is not through_a_file:

            @nursery.start_soon
            async def load() -> None:
                with pytest.raises(MigrationError):
                    await incoming.run()

        await trio.sleep(after_s)
        outgoing.cancel()
        await trio.sleep(0.5)
        incoming.cancel()  # it may wait for a source that never began
    if way is through_a_file:
        with pytest.raises(MigrationError):
            await receive(there, uri, parameters=UNLIMITED).run()
    assert here.is_running
    assert not there.is_running
    await here.pause()
    assert (await trio.to_thread.run_sync(here.verify)).ok
    here.close()
    there.close()


async def test_full_disk_leaves_the_guest_running_here() -> None:
    here, there = guests()
    await here.resume()
    full = inherited(os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(MigrationError, match="No space left on device"):
        await migrate(here, f"exec:cat > /proc/{os.getpid()}/fd/{full}", parameters=UNLIMITED).run()
    assert here.is_running
    os.close(full)
    here.close()
    there.close()
