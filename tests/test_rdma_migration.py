"""A guest moves over RDMA, in software, to a second process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("transship_rdma", reason="transship-rdma is not installed")

from transship_rdma import _fabric


@pytest.mark.parametrize("provider", ["tcp;ofi_rxm", "sockets"])
def test_guest_under_load_moves_over_rdma(provider: str) -> None:
    if provider not in _fabric.providers_at("127.0.0.1"):
        pytest.skip(f"this libfabric has no provider {provider}")
    address = f"rdma:127.0.0.1:0,provider={provider}"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "transship", "demo"),
            *("--ram", "16MiB", "--json", "--transport", address),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["guest"]["consistent"] is True
