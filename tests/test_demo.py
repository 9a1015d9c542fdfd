"""``transship demo``: over every scheme that it knows, the guest arrives whole."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from transship.cli.local.routes import ROUTES

INSTALLED = {one.name for one in entry_points(group="transship.transports")}


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "transship", "demo", "--ram", "8MiB", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("scheme", ROUTES)
def test_guest_arrives_whole_over(scheme: str) -> None:
    if scheme not in INSTALLED:
        pytest.skip(f"transship-{scheme} is not installed")
    result = demo("--transport", scheme)
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["status"] == "completed"
    assert said["guest"]["consistent"]
    assert said["guest"]["observed_downtime_s"] > 0
    assert f"to {scheme}:" in result.stderr


def test_guest_stands_still_while_it_lies_in_a_file() -> None:
    if "file" not in INSTALLED:
        pytest.skip("transship-file is not installed")
    result = subprocess.run(
        [sys.executable, "-m", "transship", "demo", "--ram", "8MiB", "--transport", "file"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "stands still in between" in result.stderr
    assert "the start of the second process included" in result.stdout


def test_whole_address_is_taken_as_it_is() -> None:
    if "tcp" not in INSTALLED:
        pytest.skip("transship-tcp is not installed")
    result = demo("--transport", "tcp:localhost:0,ipv4=on")
    assert result.returncode == 0, result.stderr
    assert "to tcp:localhost:" in result.stderr


@pytest.mark.parametrize(
    ("transport", "said"), [("nosuch", "'nosuch:'"), ("nosuch:x", "'nosuch:'")]
)
def test_transport_that_is_not_there_is_refused(transport: str, said: str) -> None:
    result = demo("--transport", transport)
    assert result.returncode == 3
    assert said in result.stderr
