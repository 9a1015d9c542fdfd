from __future__ import annotations

from transship.memory.runs import PageRun


def test_run_ends_behind_its_last_page() -> None:
    run = PageRun(first=3, count=2)
    assert (run.first, run.count, run.end) == (3, 2, 5)
