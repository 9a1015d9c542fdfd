"""What a channel must do that carries open files."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

from transship.abc.channel import DescriptorPassing
from transship.errors import ChannelError, PeerClosedError
from transship.testing.checking import (
    PATIENCE_S,
    MakePair,
    raises,
    receive_exactly,
    require,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


async def check_passes_descriptors(make_pair: MakePair) -> None:
    """Open files arrive as duplicates, in order, beside the stream; wrong ones are closed.

    Applies to pairs of which both ends have the capability.
    """
    async with make_pair() as (source, destination):
        giving = source.capability(DescriptorPassing)
        taking = destination.capability(DescriptorPassing)
        if giving is None or taking is None:
            return
        with ExitStack() as files, within(PATIENCE_S, "passing descriptors"):
            sent = [files.enter_context(tempfile.TemporaryFile()) for _ in range(128)]
            before = len(os.listdir("/proc/self/fd"))
            await source.send_segments((b"before",))
            require(await receive_exactly(destination, 6) == b"before", "the stream is wrong")
            await giving.send_descriptors([file.fileno() for file in sent])
            arrived = await taking.receive_descriptors(len(sent))
            try:
                _compare(arrived, [file.fileno() for file in sent])
            finally:
                for descriptor in arrived:
                    os.close(descriptor)
            await source.send_segments((b"behind",))
            require(await receive_exactly(destination, 6) == b"behind", "the stream is wrong")
            for count in (1, 3):
                await giving.send_descriptors([file.fileno() for file in sent[:2]])
                with raises(ChannelError, f"when {count} are wanted and 2 come"):
                    await taking.receive_descriptors(count)
            await source.send_segments((b"-",))
            require(not await taking.receive_descriptors(2), "descriptors came from nowhere")
            require(len(os.listdir("/proc/self/fd")) == before, "a descriptor was left open")
            await source.send_eof()
            with raises(PeerClosedError, "at the end"):
                await taking.receive_descriptors(1)


def _compare(arrived: Sequence[int], sent: Sequence[int]) -> None:
    require(len(arrived) == len(sent), f"{len(arrived)} came where {len(sent)} were sent")
    for here, there in zip(arrived, sent, strict=True):
        require(os.path.sameopenfile(here, there), "they come in another order")
        require(not os.get_inheritable(here), "child processes would inherit one")
