"""Tests of the engine run in one thread, so that a virtual clock can drive them."""

from __future__ import annotations

import pytest
import trio

pytest.register_assert_rewrite("engine_pair")

from engine_pair import in_place  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what belongs into worker threads in place: a virtual clock does not wait for threads."""
    monkeypatch.setattr(trio.to_thread, "run_sync", in_place)
