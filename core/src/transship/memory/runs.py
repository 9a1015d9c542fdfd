"""Runs of pages, the currency in which guest memory moves."""

from __future__ import annotations

from typing import NamedTuple


class PageRun(NamedTuple):
    """Consecutive pages of one block.

    Args:
        first: Index of the first page.
        count: How many, at least 1.
    """

    first: int
    count: int  # type: ignore[assignment]  # the field's word; hides tuple.count, unused here

    @property
    def end(self) -> int:
        """Index of the page after the last."""
        return self.first + self.count
