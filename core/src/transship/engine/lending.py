"""The source's side of memory that is handed over on one host, instead of being sent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import DescriptorPassing
from transship.errors import RemoteError, StalledError
from transship.wire.constants import ReturnType
from transship.wire.limits import OFFERED_BLOCKS
from transship.wire.offer import OfferedBlock, offer, read_wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc.channel import Channel
    from transship.abc.guest import Guest
    from transship.engine.answers import Answers
    from transship.engine.sender import StreamSender
    from transship.memory.ramblock import RAMBlock

LOG: Final = logging.getLogger(__name__)


class Lender:
    """Lends a guest's memory to the destination, and gives it away or takes it back.

    Args:
        guest: Whose memory.
        channel: Over which it goes; borrowed.
        timeout_s: How long the destination may take for an answer.
    """

    def __init__(self, guest: Guest, channel: Channel, timeout_s: float) -> None:
        self._passing = channel.capability(DescriptorPassing)
        self._peer = channel.peer
        self._timeout_s = timeout_s
        self._lent: list[RAMBlock] = []
        self._offered = [] if self._passing is None else _memory_of(guest)

    @property
    def has_an_offer(self) -> bool:
        """Whether there is anything to lend, and a way to do it."""
        return bool(self._offered)

    async def lend(self, sender: StreamSender, answers: Answers) -> None:
        """Offer the memory, and lend what the destination wants.

        Raises:
            MigrationError: The destination does not answer, or wrongly, or the channel broke.

        Cancellation: at any time; :meth:`take_back` is to follow.
        """
        passing = self._passing
        assert passing is not None
        answers.expect_reply(ReturnType.WANTED)
        await sender.send(
            offer(OfferedBlock(block.idstr, block.used_length) for block in self._offered)
        )
        reply = await answers.reply(ReturnType.WANTED, self._timeout_s)
        marks = read_wanted(reply, len(self._offered))
        self._lent = [block for block, mark in zip(self._offered, marks, strict=True) if mark]
        if not self._lent:
            return
        memfds = [block.lend() for block in self._lent]
        answers.expect_reply(ReturnType.ADOPTED)
        with trio.move_on_after(self._timeout_s) as scope:
            await passing.send_descriptors(memfds)
        if scope.cancelled_caught:
            raise StalledError(f"{self._peer} did not take guest memory in {self._timeout_s:g} s")
        adopted = (await answers.reply(ReturnType.ADOPTED, self._timeout_s)).value()
        if adopted not in (0, len(memfds)):
            raise RemoteError(
                "the destination has adopted other memory than it was given",
                expected=f"{len(memfds)} RAM blocks, or none",
                found=str(adopted),
            )
        if not adopted:
            LOG.info("%s is reached by way of somebody who passes no descriptors on", self._peer)
            self.take_back()

    def take_back(self) -> None:
        """The guest stays here; idempotent, also after :meth:`give_away`."""
        for block in self._lent:
            block.take_back()
        self._lent = []

    def give_away(self) -> None:
        """The guest is the destination's: what is written here no longer reaches it.

        Nobody writes here any more, so a kernel that refuses does no harm. The largest block comes
        last, as the others would wait while its pages are let go of.
        """
        for block in sorted(self._lent, key=lambda block: block.max_length):
            try:
                block.give_away()
            except OSError:
                LOG.exception("RAM block %r is still the same memory here and there", block.idstr)
                block.take_back()  # it could leave again, and would have to be sent
        self._lent = []


def _memory_of(guest: Guest) -> Sequence[RAMBlock]:
    return [block for block in guest.ram_blocks() if block.can_be_lent][:OFFERED_BLOCKS]
