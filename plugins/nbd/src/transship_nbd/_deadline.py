"""When something must be done; knows neither what nor by whom."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from time import monotonic
from typing import Self, final


@final
@dataclass(slots=True)  # to freeze it would double the time to make one, which is for each message
class Deadline:
    """A time by which calls end; not to be changed.

    Args:
        at_s: When, by the monotonic clock.
        time_s: How long it was until then at first, for messages.
        is_of_negotiation: Whether it is for all of a negotiation, and not for one message.
    """

    at_s: float
    time_s: float
    is_of_negotiation: bool = False

    @classmethod
    def after(cls, time_s: float) -> Self:
        """For one message that begins now."""
        return cls(monotonic() + time_s, time_s)

    @classmethod
    def of_negotiation(cls, time_s: float) -> Self:
        """For a whole negotiation that begins now."""
        return cls(monotonic() + time_s, time_s, is_of_negotiation=True)

    def left_s(self) -> float:
        """How long it is until then; not above 0 if it is over."""
        return self.at_s - monotonic()

    def missed(self, peer: str, what: str) -> TimeoutError:
        """The error for a peer that is too slow: in what."""
        if self.is_of_negotiation:
            why = f"{peer} {what}; the negotiation may go on for {self.time_s:g} s"
        else:
            why = f"{peer} {what} for {self.time_s:g} s"
        return TimeoutError(errno.ETIMEDOUT, why)
