"""``transship run``: what it refuses it refuses while the guest is still elsewhere."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize(
    ("uri", "options", "variables", "why"),
    [
        ("unix:{place}", ["--set", "tls-creds=/no/such/"], {}, "/no/such/"),
        ("fd:1", [], {}, "fd:1 is where results and progress go"),
        ("fd:57", [], {}, "Bad file descriptor"),
        ("tpc:[::1]:4444", [], {}, "tcp, perhaps?"),
        ("unix:{place}", [], {"TRANSSHIP_PLUGINS_DENY": "ram"}, "denies transship-ram"),
    ],
)
def test_migration_that_cannot_begin_is_refused_before_there_is_a_guest(
    uri: str, options: list[str], variables: dict[str, str], why: str, tmp_path: object
) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "transship", "run", "synthetic:ram=1MiB", *options),
            *("--migrate-to", uri.format(place=tmp_path), "--after", "20s"),
        ],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
        env=os.environ | variables,
    )
    assert result.returncode == 3, result.stderr
    assert result.stderr.startswith("transship: source side, phase setup: ")
    assert why in result.stderr
