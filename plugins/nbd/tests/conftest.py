from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder, short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="nbd-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a server and of a client that trust each other."""
    from nbd_certificates import make_folder

    return make_folder(tmp_path_factory.mktemp("pki"))
