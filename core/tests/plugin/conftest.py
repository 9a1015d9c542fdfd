from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from transship.plugin import selection

from .fake_distributions import FakeDistributions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDistributions]:
    """A folder of installed distributions, beside those of this environment."""
    for variable in [name for name in os.environ if name.startswith("TRANSSHIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(selection, "SYSTEM_FILE", str(tmp_path / "no-such-file"))
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    fakes = FakeDistributions(folder)
    yield fakes
    fakes.forget()
