"""Runs a command for as long as its channel is in use."""

from __future__ import annotations

import os
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from transship.toolkit import SingleListener
from transship_exec._channel import ExecChannel
from transship_exec._process import start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel, Listener
    from transship_exec._process import Process
    from transship_exec._uri import Command


@asynccontextmanager
async def connect(command: Command) -> AsyncIterator[Channel]:
    """Run a command, and send to it; it is gone when left.

    Raises:
        ConnectError: It cannot be run.
    """
    process, channel = await _start(command)
    try:
        async with _explaining(process):
            yield channel
    finally:
        await channel.aclose()


@asynccontextmanager
async def listen(command: Command) -> AsyncIterator[Listener]:
    """Run a command, and receive from it once it has said something.

    It is gone when its channel is closed, or when left, if nobody has accepted that.

    Raises:
        ConnectError: It cannot be run.
    """
    process, channel = await _start(command)
    listener = SingleListener(channel, channel.peer, channel.wait_for_data)
    try:
        async with _explaining(process):
            yield listener
    finally:
        await listener.aclose()


async def _start(command: Command) -> tuple[Process, ExecChannel]:
    await trio.lowlevel.checkpoint()
    with ExitStack() as ours, ExitStack() as its:
        stdin, sending = _pipe(its, ours)
        receiving, stdout = _pipe(ours, its)
        process = await start(command, stdin, stdout)
        ours.pop_all()
    return process, ExecChannel(process, sending=sending, receiving=receiving)


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A pipe, each end of which is closed with what it belongs to."""
    reads, writes = os.pipe()
    reader.callback(os.close, reads)
    writer.callback(os.close, writes)
    return reads, writes


@asynccontextmanager
async def _explaining(process: Process) -> AsyncIterator[None]:
    try:
        yield
    except BaseException as failure:
        await process.explain(failure)
        raise
