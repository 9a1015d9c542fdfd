"""What a live section must do besides; each check passes any other section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.testing.carrying import Carrier, collect
from transship.testing.checking import require
from transship.testing.guests import FakeGuest
from transship.wire.limits import KIB, MIB

if TYPE_CHECKING:
    from transship.testing.section_case import SectionCase

_MOST_ROUNDS: Final = 20_000
"""A guest of a few MiB that stands still is through with fewer records, however small they are."""


def check_counts_down_to_nothing(case: SectionCase) -> None:
    """``pending`` is never negative, and 0 once a guest that stands still has been sent."""
    source = _live(case)
    if source is None:
        return
    collect(source.begin())
    require(source.pending(exact=True) > 0, "nothing is pending of a guest that was not sent yet")
    for _ in range(_MOST_ROUNDS):
        is_through = collect(source.iterate(MIB)).is_through
        pending = source.pending()
        if is_through or not pending:
            break
    else:
        raise AssertionError("a guest that stands still never comes to an end")
    require(is_through, "nothing is pending, and the pass is not through")
    require(source.pending() == 0, "the pass is through, and something is pending")
    require(source.pending(exact=True) == 0, "something is pending of a guest that stood still")
    source.cancel()


def check_keeps_its_budget(case: SectionCase) -> None:
    """A PART is about as long as it may be at most, and never so short that nothing gets on."""
    for budget_bytes in (1, 8 * KIB, 256 * KIB):
        source = _live(case)
        if source is None:
            return
        collect(source.begin())
        for _ in range(_MOST_ROUNDS):
            part = collect(source.iterate(budget_bytes))
            require(
                len(part.body) <= budget_bytes + case.most_beyond_budget_bytes,
                f"a PART of {len(part.body)} bytes for a budget of {budget_bytes}",
            )
            if part.is_through:
                break
        else:
            raise AssertionError(f"with a budget of {budget_bytes} bytes nothing gets on")
        source.cancel()


def check_undoes_what_it_began(case: SectionCase) -> None:
    """``complete`` ends what ``begin`` started, and so does ``cancel`` whenever it comes."""

    def begin(source: Carrier) -> None:
        collect(source.begin())

    def iterate(source: Carrier) -> None:
        case.step(source.guest)
        collect(source.iterate(4 * KIB))

    def leave_iterate(source: Carrier) -> None:
        segments = source.iterate(MIB)
        next(segments, None)
        segments.close()

    def leave_begin(source: Carrier) -> None:
        segments = source.begin()
        next(segments, None)
        segments.close()

    def complete(source: Carrier) -> None:
        collect(source.complete())

    for when, calls in {
        "without anything before": (),
        "in begin": (leave_begin,),
        "after begin": (begin,),
        "in iterate": (begin, leave_iterate),
        "between two iterates": (begin, iterate, iterate),
        "after complete": (begin, iterate, complete),
    }.items():
        source = _live(case)
        if source is None:
            return
        for call in calls:
            call(source)
        source.cancel()
        _require_undone(source, f"a cancel {when}")
    source = _live(case)
    assert source is not None
    source.save(case.step)
    _require_undone(source, "complete")
    again = Carrier(case, source.guest)
    again.save(case.step)
    _require_undone(again, "another migration of the same guest")


def _live(case: SectionCase) -> Carrier | None:
    source = Carrier.of_source(case)
    return source if source.section.is_live else None


def _require_undone(source: Carrier, what: str) -> None:
    guest = source.guest
    if isinstance(guest, FakeGuest):
        require(not guest.log.is_logging, f"the dirty log is not stopped by {what}")


LIVE_SECTION_CHECKS: Final = (
    check_counts_down_to_nothing,
    check_keeps_its_budget,
    check_undoes_what_it_began,
)
"""In the order in which a new section comes to pass them."""
