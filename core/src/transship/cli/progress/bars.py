"""Two bars in a terminal; the only module that imports rich.

The first is the first pass: it only grows. The second is how much of what a pass has to send
fits the downtime limit: full is the switchover. It changes from one pass to the next, and
where it shrinks the guest writes more than before. Where disks go beside the memory, there is a
third, above them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from transship.cli.console import harmless
from transship.cli.progress.forecast import Outlook
from transship.cli.progress.views import COPYING_DISKS, figures
from transship.units import format_size

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

    from transship.cli.progress.disks import StorageProgress
    from transship.cli.progress.forecast import Forecast
    from transship.cli.progress.measure import Measurements

_BAR_WIDTH: Final = 32

_STYLES: Final = {
    Outlook.NOT_CONVERGING: "bold red",
    Outlook.STALLED: "bold red",
    Outlook.WAITING: "bold yellow",
}


class BarsView:
    """A context manager: the bars are below whatever is noted, and stay at the end.

    Args:
        title: What is shown above them.
        console: Where they are shown; for tests.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._title = title
        self._console = console or Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        self._first_pass = 0.0
        self._disks: StorageProgress | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, now: Measurements, expected: Forecast) -> None:
        """Draw them."""
        self._first_pass = max(self._first_pass, now.first_pass)
        self._live.update(self._drawn(now, expected), refresh=True)

    def show_disks(self, now: StorageProgress) -> None:
        """Draw the disks' bar alone; it stays at the top of the others."""
        self._disks = now
        bars = Table.grid(padding=(0, 1))
        bars.add_row(*_disks(now))
        head = Text(harmless(f"{self._title} · {COPYING_DISKS}"), style="bold")
        self._live.update(Group(head, bars, Text(now.text())), refresh=True)

    def note(self, text: str) -> None:
        """Write it above them."""
        self._console.print(harmless(text), markup=False)

    def _drawn(self, now: Measurements, expected: Forecast) -> RenderableType:
        bars = Table.grid(padding=(0, 1))
        if self._disks is not None:
            bars.add_row(*_disks(self._disks))
        if now.total_bytes:
            done = self._first_pass * now.total_bytes
            bars.add_row(
                "first pass",
                _bar(self._first_pass),
                f"{self._first_pass:4.0%}",
                f"{format_size(done)} of {format_size(now.total_bytes)}",
            )
            bars.add_row("fits the downtime", *_fitting(now, expected))
        head = Text(harmless(f"{self._title} · {now.status}"), style="bold")
        return Group(
            head,
            bars,
            Text(" · ".join(figures(now))),
            Text(harmless(expected.text), style=_STYLES.get(expected.outlook, "")),
        )


def _disks(now: StorageProgress) -> tuple[RenderableType, ...]:
    amounts = f"{format_size(now.copied_bytes)} of {format_size(now.total_bytes)}"
    return "disks", _bar(now.done), f"{now.done:4.0%}", amounts


def _fitting(now: Measurements, expected: Forecast) -> tuple[RenderableType, str, str]:
    if expected.outlook is Outlook.SWITCHING_OVER or now.status == "completed":
        return _bar(1.0), "100%", "what is left fits"
    if now.passes < 2 or expected.threshold_bytes is None:
        return _bar(0.0), "", "known after the first pass"
    fits = min(expected.threshold_bytes / max(now.left_bytes, 1), 1.0)
    amounts = f"{format_size(expected.threshold_bytes)} of {format_size(now.left_bytes)}"
    return _bar(fits), f"{fits:4.0%}", f"{amounts} a pass"


def _bar(done: float) -> ProgressBar:
    return ProgressBar(total=1.0, completed=done, width=_BAR_WIDTH)
