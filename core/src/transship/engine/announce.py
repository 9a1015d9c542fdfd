"""Telling the network where a guest is now: the schedule of the announcements."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.abc.guest import Guest
    from transship.abc.settings import Parameters

_LOG: Final = logging.getLogger(__name__)


def pauses_s(parameters: Parameters) -> Iterator[float]:
    """The time before each announcement but the first, which is made at once."""
    for number in range(parameters.announce_rounds - 1):
        pause_s = parameters.announce_initial_s + number * parameters.announce_step_s
        yield min(pause_s, parameters.announce_max_s)


async def announce(guest: Guest, parameters: Parameters) -> None:
    """Let a guest announce itself, again and again, as a single packet may get lost.

    A guest that fails to is logged, and asked no more: it runs all the same.

    Cancellation: no more announcements are made.
    """
    if not parameters.announce_rounds:
        return
    try:
        guest.announce()
        for pause_s in pauses_s(parameters):
            await trio.sleep(pause_s)
            guest.announce()
    except Exception:
        _LOG.exception("the guest could not announce itself")
