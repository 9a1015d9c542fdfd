"""What will become of a migration: a plain function from measurements to a forecast.

A forecast is about the moment at which the guest stands still, and says no more than is known: in
the first pass nobody knows yet how fast the guest writes; later, all that follows is arithmetic
with two rates that may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from transship.units import format_rate, format_size

if TYPE_CHECKING:
    from transship.cli.progress.measure import Measurements

_STALL_S: Final = 5.0
"""A peer that sends nothing for so long is not just waiting for its next slice."""

_ALIKE: Final = 0.95
"""From this quotient on two rates are the same, as well as they are measured."""

_CAPPED: Final = 0.8
"""A channel that is sent on at less than this part of the cap is slower than the cap."""

_LONGEST_PASSES: Final = 200


class Outlook(Enum):
    """What is to be expected; the values are for programs."""

    PREPARING = "preparing"
    """Nothing is sent yet."""
    FIRST_PASS = "first-pass"
    """The guest's memory is sent for the first time; what follows is not known."""
    MEASURING = "measuring"
    """A rate is not known yet."""
    STALLED = "stalled"
    """Nothing has been sent for a while."""
    CONVERGING = "converging"
    """It will switch over, if the rates stay as they are."""
    NOT_CONVERGING = "not-converging"
    """It will not, if the rates stay as they are."""
    SWITCHING_OVER = "switching-over"
    """What is left fits the downtime limit, or the guest stands still already."""
    WAITING = "waiting"
    """The guest stands still until somebody lets the migration go on."""
    POSTCOPY = "postcopy"
    """The guest runs at the destination, and its memory follows."""
    ENDING = "ending"
    """It has ended, or is about to, without a switchover."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What will become of a migration.

    Args:
        outlook: What is to be expected.
        text: The same for people, as a clause.
        threshold_bytes: What fits the downtime limit; None while the send rate is unknown.
        first_pass_ends_in_s: None except in the first pass.
        switchover_in_s: None where it cannot be told.
        passes_left: Of these, how many; None where it cannot be told.
    """

    outlook: Outlook
    text: str
    threshold_bytes: int | None = None
    first_pass_ends_in_s: float | None = None
    switchover_in_s: float | None = None
    passes_left: int | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the migration may do.

    Args:
        cap_bytes_per_s: Cap of the send rate; None if there is none.
        downtime_limit_s: How long the guest may stand still.
        switchover_rate_bytes_per_s: What the operator says that the channel carries while the
            guest stands still; 0 to go by the measured rate.
    """

    cap_bytes_per_s: int | None
    downtime_limit_s: float
    switchover_rate_bytes_per_s: int = 0


@dataclass(frozen=True, slots=True)
class Levers:
    """What whoever looks on can move, by the name that they know.

    Args:
        cap: The cap of the send rate.
        downtime: The downtime limit.
    """

    cap: str
    downtime: str


OPTION_NAMES: Final = Levers(cap="--bandwidth", downtime="--downtime")
"""Of whoever starts a migration with a verb."""

PARAMETER_NAMES: Final = Levers(cap="max-bandwidth", downtime="downtime-limit")
"""Of everybody else: migration parameters, which act upon a migration under way."""


_SENTENCES: Final[dict[str, tuple[Outlook, str]]] = {
    "none": (Outlook.PREPARING, "no migration"),
    "setup": (Outlook.PREPARING, "connecting"),
    "wait-unplug": (Outlook.PREPARING, "waiting for the guest to let go of a device"),
    "device": (Outlook.SWITCHING_OVER, "switching over: the guest stands still"),
    "completed": (Outlook.ENDING, "completed"),
    "failed": (Outlook.ENDING, "failed"),
    "cancelling": (Outlook.ENDING, "cancelling"),
    "cancelled": (Outlook.ENDING, "cancelled"),
    "pre-switchover": (
        Outlook.WAITING,
        "the guest stands still and waits for migrate-continue, given over QMP",
    ),
    "postcopy-paused": (
        Outlook.WAITING,
        "the channel broke: parts of the guest are on both sides, and wait for migrate-recover",
    ),
    "postcopy-recover-setup": (Outlook.POSTCOPY, "connecting again"),
    "postcopy-recover": (Outlook.POSTCOPY, "agreeing on what is missing"),
    "colo": (Outlook.WAITING, "the destination follows in lock-step"),
}


def forecast(now: Measurements, bounds: Bounds, levers: Levers = OPTION_NAMES) -> Forecast:
    """Say what will become of a migration, and what can be done if it does not converge."""
    if now.status == "postcopy-active":
        return _postcopy(now)
    if now.status != "active":
        outlook, text = _SENTENCES.get(now.status, (Outlook.MEASURING, now.status))
        return Forecast(outlook, text)
    if now.idle_s >= _STALL_S:
        return Forecast(
            Outlook.STALLED,
            f"nothing has been sent for {now.idle_s:.0f} s",
            _threshold(now, bounds),
        )
    if now.passes < 2:
        return _first_pass(now, bounds)
    threshold = _threshold(now, bounds)
    send, dirty = now.send_rate_bytes_per_s, now.dirty_rate_bytes_per_s
    if not send or threshold is None:
        return Forecast(Outlook.MEASURING, "measuring the send rate")
    if now.left_bytes <= threshold:
        return Forecast(
            Outlook.SWITCHING_OVER, "what is left fits the downtime limit", threshold, None, 0.0, 0
        )
    if dirty is None:
        return Forecast(Outlook.MEASURING, "measuring how fast the guest writes", threshold)
    if dirty >= _ALIKE * send:
        return Forecast(Outlook.NOT_CONVERGING, _never(now, dirty, send, bounds, levers), threshold)
    return _converging(now, dirty, send, threshold)


def _threshold(now: Measurements, bounds: Bounds) -> int | None:
    rate = bounds.switchover_rate_bytes_per_s or now.send_rate_bytes_per_s
    return None if rate is None else int(rate * bounds.downtime_limit_s)


def _first_pass(now: Measurements, bounds: Bounds) -> Forecast:
    threshold = _threshold(now, bounds)
    rate = now.pass_rate_bytes_per_s
    if rate is None or rate <= 0:
        return Forecast(Outlook.FIRST_PASS, "first pass", threshold)
    ends_in_s = now.remaining_bytes / rate
    return Forecast(
        Outlook.FIRST_PASS,
        f"first pass, {_about(ends_in_s)} more; only then is known how fast the guest writes",
        threshold,
        ends_in_s,
    )


def _converging(now: Measurements, dirty: float, send: float, threshold: int) -> Forecast:
    """Each pass sends what the guest wrote while the one before was sent."""
    enough = max(threshold, now.page_size)
    took_s = now.remaining_bytes / send
    left = now.left_bytes * dirty / send
    for passes in range(1, _LONGEST_PASSES):
        if left <= enough:
            earliest = "" if now.is_trend_known else ", at the earliest"
            text = f"switches over in {_about(took_s)}{earliest}"
            return Forecast(Outlook.CONVERGING, text, threshold, None, took_s, passes)
        took_s += left / send
        left *= dirty / send
    return Forecast(
        Outlook.CONVERGING, f"switches over, but not within {_about(took_s)}", threshold
    )


def _never(now: Measurements, dirty: float, send: float, bounds: Bounds, levers: Levers) -> str:
    cap = bounds.cap_bytes_per_s
    if cap is None:
        limit = f"no cap ({levers.downtime})"
    elif send >= _CAPPED * cap:
        limit = f"cap {format_rate(cap)} ({levers.cap})"
    else:
        limit = f"cap {format_rate(cap)} is not reached ({levers.downtime})"
    text = (
        f"will not converge at this rate: dirties {format_rate(dirty)}, "
        f"sends {format_rate(send)}, {limit}"
    )
    if now.throttle_percent:
        text += f"; the guest is slowed by {now.throttle_percent} %"
    return text


def _postcopy(now: Measurements) -> Forecast:
    text = f"the guest runs at the destination; {format_size(now.remaining_bytes)} are to follow"
    return Forecast(Outlook.POSTCOPY, text)


def _about(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"
