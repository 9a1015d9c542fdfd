"""What only commands can do wrong: end too early or never, fail, and leave children behind."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import Address, ReturnPath, ReturnPathOnRequest
from transship.errors import ChannelError, ConnectError
from transship.testing.checking import blocked_send, receive_to_end
from transship_exec import plugin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from transship.abc import Channel, Incoming, Outgoing

AT_ONCE_S = 1.0

ECHO = """
import os, sys
while data := os.read(0, 65536):
    os.write(1, data)
"""


def outgoing(command: str) -> Outgoing:
    return plugin.start_outgoing(Address("exec", command), {})


def incoming(command: str) -> Incoming:
    return plugin.start_incoming(Address("exec", command), {})


def children() -> set[int]:
    """This process's, those that have ended and nobody has waited for included."""
    found = set[int]()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as listed:
            found |= set(map(int, listed.read().split()))
    return found


def runs(process: int) -> bool:
    """Whether it is there, and no zombie that init has not come to yet."""
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Neither a process nor a descriptor."""
    before = children(), len(os.listdir("/proc/self/fd"))
    yield
    assert (children(), len(os.listdir("/proc/self/fd"))) == before


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 (other processes set no events)
            await trio.sleep(0.01)


async def pid_in(path: Path) -> int:
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


async def send_all(channel: Channel) -> None:
    for _ in range(100):
        await channel.send_segments([bytes(1 << 20)])


async def fails(command: str, use: Callable[[Channel], Awaitable[None]]) -> str:
    """Run a command; returns the error of who used it."""
    with pytest.raises(ChannelError) as caught:
        async with outgoing(command) as channel:
            await use(channel)
    return str(caught.value)


# How it ends.


async def test_sending_ends_when_the_command_has_done_its_work(tmp_path: Path) -> None:
    target = tmp_path / "out"
    async with outgoing(f"cat > {target}; sleep 0.2; echo done >> {target}") as channel:
        await channel.send_segments([b"stream "])
        await channel.send_eof()
        assert target.read_text() == "stream done\n"


async def test_command_that_fails_at_the_end_has_its_status_and_words_in_the_error() -> None:
    said = await fails(
        "cat > /dev/null; echo out of tape >&2; exit 3", lambda channel: channel.send_eof()
    )
    assert "exit status 3, and it said: out of tape" in said


async def test_end_that_failed_cannot_be_sent_again() -> None:
    async with outgoing("cat > /dev/null; exit 1") as channel:
        with pytest.raises(ChannelError, match="exit status 1"):
            await channel.send_eof()
        with pytest.raises(ChannelError, match="cut short"):
            await channel.send_eof()


async def test_command_that_fails_on_the_way_says_why() -> None:
    said = await fails("head -c 1000 > /dev/null; echo tape is torn >&2; exit 4", send_all)
    assert "closed the channel" in said
    assert "exit status 4, and it said: tape is torn" in said


async def test_command_that_ends_too_early_without_complaint_is_an_error() -> None:
    assert "closed the channel" in await fails("head -c 1000 > /dev/null", send_all)


async def test_command_that_closes_its_input_early_is_an_error_and_is_ended() -> None:
    assert "closed the channel" in await fails("exec < /dev/null; sleep 60", send_all)


async def test_last_words_are_kept_of_a_command_that_says_too_much() -> None:
    said = await fails(
        "yes chatter | head -c 3000000 >&2; echo the last >&2; exit 9",
        lambda channel: channel.send_eof(),
    )
    assert "the last" in said
    assert len(said) < 3_000


async def test_command_that_is_killed_is_told_with_its_signal(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    async def kill(channel: Channel) -> None:
        await channel.send_segments([b"x"])
        os.kill(await pid_in(note), signal.SIGKILL)
        await send_all(channel)

    assert "exit status 137" in await fails(f"echo $$ > {note}; exec cat > /dev/null", kill)


async def receive_a_hundred_bytes(context: Incoming) -> None:
    async with context as listener:
        channel = await listener.accept()
        try:
            await channel.receive_into(memoryview(bytearray(100)))
        finally:
            await channel.aclose()


async def test_reading_ends_with_the_output_and_says_why_it_was_short() -> None:
    with pytest.raises(ChannelError, match="exit status 5, and it said: no such tape"):
        await receive_a_hundred_bytes(incoming("echo half; echo no such tape >&2; exit 5"))


async def test_shell_that_finds_no_program_says_so() -> None:
    said = await fails("no-such-program", lambda channel: channel.send_eof())
    assert "exit status 127" in said
    assert "no-such-program" in said


@pytest.mark.parametrize("args", [["/no/such/program"], ["/etc/passwd"], ["x" * 5_000_000]])
async def test_program_that_cannot_be_run_is_refused(args: list[str]) -> None:
    with pytest.raises(ConnectError, match="cannot run"):
        async with plugin.start_outgoing(Address("exec", ""), {"args": args}):
            pass


async def test_words_are_run_without_a_shell() -> None:
    options = {"args": ["printf", "%s|", "$HOME", "a b", ";exit"]}
    async with plugin.start_incoming(Address("exec", ""), options) as listener:
        channel = await listener.accept()
        assert await receive_to_end(channel) == b"$HOME|a b|;exit|"
        await channel.aclose()


# That it ends.


async def test_listening_that_stops_ends_the_command(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    async with incoming(f"echo $$ > {note}; exec sleep 60"):
        process = await pid_in(note)
    assert not runs(process)


@pytest.mark.parametrize("moment", ["starting", "idle", "sending", "ending", "accepting"])
async def test_cancelling_at_any_await_leaves_nothing_and_takes_no_time(moment: str) -> None:
    started_s = trio.current_time()
    with trio.CancelScope() as scope:
        if moment == "accepting":
            scope.deadline = trio.current_time() + 0.1
            async with incoming("sleep 60") as listener:
                await listener.accept()
        if moment == "starting":
            scope.cancel()
        async with outgoing("sleep 60") as channel:
            scope.deadline = trio.current_time() + 0.1
            if moment == "sending":
                await send_all(channel)
            elif moment == "ending":
                await channel.send_eof()
            else:
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - started_s < AT_ONCE_S + 0.2


async def test_command_that_ignores_to_be_asked_is_killed_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    command = f"trap '' TERM; sh -c 'echo $$ > {note}; while :; do sleep 1; done' & wait"
    started_s = trio.current_time()
    with trio.CancelScope() as scope:
        async with outgoing(command):
            child = await pid_in(note)
            started_s = trio.current_time()
            scope.cancel()
            await trio.sleep_forever()
    assert trio.current_time() - started_s < AT_ONCE_S
    await until(lambda: not runs(child))


async def test_children_that_a_command_leaves_behind_are_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    async with outgoing(f"sleep 60 & echo $! > {note}; cat > /dev/null") as channel:
        await channel.send_eof()
        child = await pid_in(note)
    await until(lambda: not runs(child))


async def test_closing_while_the_end_is_awaited_breaks_that() -> None:
    async with outgoing("cat > /dev/null; sleep 60") as channel, trio.open_nursery() as nursery:
        ended = trio.Event()

        @nursery.start_soon
        async def end() -> None:
            with pytest.raises(ChannelError):
                await channel.send_eof()
            ended.set()

        await trio.sleep(0.1)
        await channel.aclose()
        with trio.fail_after(AT_ONCE_S):
            await ended.wait()


async def test_descriptors_of_this_process_are_not_the_commands() -> None:
    kept = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(kept, True)
    async with incoming("ls -l /proc/self/fd") as listener:
        channel = await listener.accept()
        assert b"passwd" not in await receive_to_end(channel)
        await channel.aclose()
    os.close(kept)


async def test_blocked_send_ends_when_the_command_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    async with outgoing(f"echo $$ > {note}; exec sleep 60") as channel:
        process = await pid_in(note)
        async with blocked_send(channel) as attempt:
            os.kill(process, signal.SIGKILL)
            await attempt.wait()
        assert attempt.error is not None


# The way back.


async def test_way_back_is_there_for_who_asks() -> None:
    options = {"args": [sys.executable, "-c", ECHO]}
    async with plugin.start_outgoing(Address("exec", ""), options) as channel:
        assert channel.capability(ReturnPath) is None
        possible = channel.capability(ReturnPathOnRequest)
        assert possible is not None
        await channel.send_segments([b"question"])
        target = memoryview(bytearray(20))
        count = await possible.return_path().receive_return_into(target)
        assert bytes(target[:count]) == b"question"
