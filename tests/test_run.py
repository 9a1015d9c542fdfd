"""``transship run``: what it refuses it refuses while the guest is still elsewhere."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.seed("S51", "S76")
@pytest.mark.parametrize("uri", ["tcp:nonsense:::", "nosuch:x", "no address"])
@pytest.mark.parametrize("incoming", [True, False])
def test_address_to_leave_for_is_checked_before_there_is_a_guest(
    uri: str, incoming: bool, tmp_path: object
) -> None:
    arguments = ["--incoming", f"unix:{tmp_path}/a.sock"] if incoming else []
    result = subprocess.run(
        [
            *(sys.executable, "-m", "transship", "run", "synthetic:ram=1MiB"),
            *(*arguments, "--migrate-to", uri, "--after", "20s"),
        ],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert result.returncode == 3
    assert "listening" not in result.stderr
    assert uri.split(":", maxsplit=1)[0] in result.stderr
