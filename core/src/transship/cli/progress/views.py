"""Where progress is shown: as bars, as a line that is replaced, or as one JSON line a second.

All of it goes to standard error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol

from transship.units import format_rate, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.cli.console import Console
    from transship.cli.progress.disks import StorageProgress
    from transship.cli.progress.forecast import Forecast
    from transship.cli.progress.measure import Measurements

COPYING_DISKS: Final = "copying-disks"
"""What is shown as the status before the migration itself begins."""

_LINE_EVERY_S: Final = 1.0


class View(Protocol):
    """Shows how far a migration is."""

    def show(self, now: Measurements, expected: Forecast) -> None:
        """Show it; called at every look at the peer."""

    def show_disks(self, now: StorageProgress) -> None:
        """Show how far the disks are that are copied before it; called at every look at them."""

    def note(self, text: str) -> None:
        """Say something beside it."""


@contextmanager
def open_view(console: Console, title: str) -> Iterator[View]:
    """Give the view that suits standard error.

    Args:
        console: Where a view without bars writes.
        title: What is shown, for the view with bars.
    """
    if not sys.stderr.isatty():
        yield LinesView(console)
    elif os.environ.get("TERM") in (None, "dumb") or find_spec("rich") is None:
        yield StatusLineView(console)
    else:
        from transship.cli.progress.bars import BarsView

        with BarsView(title) as view:
            yield view


class LinesView:
    """One JSON line a second, and one when the status changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: Measurements | None = None
        self._disks_shown_s: float | None = None

    def show(self, now: Measurements, expected: Forecast) -> None:
        """Write a line, if it is time for one."""
        shown = self._shown
        is_due = shown is None or now.at_s - shown.at_s >= _LINE_EVERY_S
        if is_due or (shown is not None and now.status != shown.status):
            self._shown = now
            self._console.note(json.dumps(facts(now, expected)))

    def show_disks(self, now: StorageProgress) -> None:
        """Write a line, if it is time for one, or they are ready."""
        shown_s = self._disks_shown_s
        if shown_s is None or now.is_ready or now.took_s - shown_s >= _LINE_EVERY_S:
            self._disks_shown_s = now.took_s
            self._console.note(json.dumps({"status": COPYING_DISKS, "storage": now.facts()}))

    def note(self, text: str) -> None:
        """Write it as it is."""
        self._console.note(text)


class StatusLineView:
    """One line of text, replaced by the next."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, now: Measurements, expected: Forecast) -> None:
        """Replace the line."""
        self._console.progress(" · ".join([now.status, *figures(now), expected.text]))

    def show_disks(self, now: StorageProgress) -> None:
        """Replace the line."""
        self._console.progress(f"{COPYING_DISKS} · {now.text()}")

    def note(self, text: str) -> None:
        """Write it on a line of its own."""
        self._console.note(text)


def facts(now: Measurements, expected: Forecast) -> dict[str, object]:
    """Progress as plain data."""
    return {
        "status": now.status,
        "dirty_syncs": now.passes,
        "first_pass": round(now.first_pass, 4),
        "transferred_bytes": now.transferred_bytes,
        "remaining_bytes": now.remaining_bytes,
        "total_bytes": now.total_bytes,
        "disk_remaining_bytes": now.disk_remaining_bytes,
        "disk_total_bytes": now.disk_total_bytes,
        "send_rate_bytes_per_s": now.send_rate_bytes_per_s,
        "dirty_rate_bytes_per_s": now.dirty_rate_bytes_per_s,
        "throttle_percent": now.throttle_percent,
        "forecast": {**dataclasses.asdict(expected), "outlook": expected.outlook.value},
    }


def figures(now: Measurements) -> list[str]:
    """The figures that are known, for people."""
    parts = []
    if now.passes:
        parts.append(f"pass {now.passes}")
    if now.transferred_bytes:
        parts.append(f"{format_size(now.transferred_bytes)} moved")
    if now.disk_total_bytes:
        left, total = format_size(now.disk_remaining_bytes), format_size(now.disk_total_bytes)
        parts.append(f"disks {left} left of {total}")
    if now.send_rate_bytes_per_s is not None:
        parts.append(f"sends {format_rate(now.send_rate_bytes_per_s)}")
    if now.dirty_rate_bytes_per_s is not None:
        parts.append(f"dirties {format_rate(now.dirty_rate_bytes_per_s)}")
    if now.throttle_percent:
        parts.append(f"slowed by {now.throttle_percent} %")
    return parts
