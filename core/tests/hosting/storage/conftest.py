"""What copies disks does so in threads, by the real clock; it needs no host."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Let worker threads be threads."""


@pytest.fixture(autouse=True)
def network() -> None:
    """There is none."""
