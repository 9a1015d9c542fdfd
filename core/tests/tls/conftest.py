from __future__ import annotations

from pathlib import Path

import pytest
from tls_certificates import make_folder


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good certificates of both sides."""
    return Path(make_folder(tmp_path_factory.mktemp("pki")))
