"""The destination's side of memory that is handed over on one host, instead of being sent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from transship.abc.channel import DescriptorPassing
from transship.errors import LocalError, StalledError
from transship.wire.constants import Feature
from transship.wire.offer import OfferedBlock, read_offer, wanted
from transship.wire.returnpath import adopted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transship.abc.channel import Channel
    from transship.abc.guest import Guest
    from transship.memory.ramblock import RAMBlock
    from transship.wire.events import Command
    from transship.wire.returnpath import ReturnMessage


class Adopter:
    """Lets a guest's blocks become the source's memory, and be its own once it has loaded.

    Args:
        guest: Whose blocks.
        channel: Over which memory comes; borrowed.
        timeout_s: How long the source may take.
    """

    def __init__(self, guest: Guest, channel: Channel, timeout_s: float) -> None:
        self._guest = guest
        self._passing = channel.capability(DescriptorPassing)
        self._peer = channel.peer
        self._timeout_s = timeout_s
        self._adopted: list[RAMBlock] = []

    @property
    def features(self) -> Feature:
        """What the source is told of it."""
        return Feature(0) if self._passing is None else Feature.TAKES_MEMORY

    async def adopt(
        self, command: Command, answer: Callable[[ReturnMessage], Awaitable[None]]
    ) -> None:
        """Answer an offer, and adopt what is wanted of it.

        Args:
            command: The offer. Nothing of the stream behind it has been received.
            answer: Sends a message to the source.

        Raises:
            MigrationError: The offer is malformed, the memory is not fit, or the channel broke.

        Cancellation: at any time; :meth:`abandon` is to follow.
        """
        chosen = [(self._block_for(one), one.used_length) for one in read_offer(command)]
        await answer(wanted(block is not None for block, _ in chosen))
        taken = [(block, length) for block, length in chosen if block is not None]
        if not taken or self._passing is None:
            return
        with trio.move_on_after(self._timeout_s) as scope:
            memfds = list(await self._passing.receive_descriptors(len(taken)))
        if scope.cancelled_caught:
            raise StalledError(
                f"{self._peer} offered memory and did not send it within {self._timeout_s:g} s"
            )
        try:
            for block, used_length in taken if memfds else ():
                block.resize(used_length)
                block.adopt(memfds[0])
                del memfds[0]
                self._adopted.append(block)
        finally:
            for memfd in memfds:
                os.close(memfd)
        await answer(adopted(len(self._adopted)))

    def check(self) -> None:
        """Make sure that it can be owned: the guest has loaded, and the source has not been told.

        Raises:
            LocalError: Something was written to it.
        """
        for block in self._adopted:
            block.check_unwritten()

    def own(self) -> None:
        """Be the owner of it all: the source has given the guest up.

        Raises:
            LocalError: It was written to, or the kernel refuses.
        """
        for block in self._adopted:
            try:
                block.own()
            except OSError as error:
                raise LocalError(
                    f"RAM block {block.idstr!r} cannot be had for writing", found=error.strerror
                ) from error
        self._adopted = []

    def abandon(self) -> None:
        """Forget what is not owned; idempotent."""
        for block in self._adopted:
            block.abandon()
        self._adopted = []

    def _block_for(self, offered: OfferedBlock) -> RAMBlock | None:
        """The block that can become what is offered, if there is one."""
        for block in self._guest.ram_blocks() if self._passing else ():
            if block.idstr == offered.idstr and block.can_adopt:
                is_fit = 0 < offered.used_length <= block.max_length
                return block if is_fit and not offered.used_length % block.page_size else None
        return None
