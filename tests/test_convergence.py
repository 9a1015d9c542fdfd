"""A guest that writes faster than the channel may carry: slowed down it moves, otherwise not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from support.commands import POLL_S, VerbProcess

from transship.control.client import QmpClient, open_qmp

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("transship_unix")
pytest.importorskip("transship_ram")
pytest.importorskip("transship_devstate")

EXAMPLE: Final = Path(__file__).parents[1] / "docs" / "examples" / "convergence.py"
PATIENCE_S: Final = 60.0

TOO_FAST: Final = "synthetic:ram=20MiB,dirty-rate=100MiB/s,working-set=18MiB"
CAP: Final = "16MiB/s"

Json = dict[str, Any]


def run_example(*arguments: str) -> Json:
    """What the example prints; it looks at every byte of the guest itself, and fails."""
    result = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said: Json = json.loads(result.stdout)
    return said


def test_with_auto_converge_the_guest_of_the_example_moves() -> None:
    said = run_example("auto-converge", "--first-percent", "60")
    assert said["status"] == "completed"
    assert 60 <= said["most_withheld_percent"] <= 99


def test_without_auto_converge_the_guest_of_the_example_stays() -> None:
    said = run_example("--give-up", "4")
    assert said["status"] == "cancelled"
    assert said["most_withheld_percent"] == 0
    assert said["seconds"] >= 4


async def until(client: QmpClient, condition: Callable[[Json], bool]) -> Json:
    """Ask ``query-migrate`` until it says what is waited for; returns all that it says."""
    with trio.fail_after(PATIENCE_S):
        while True:
            info = await client.execute("query-migrate")
            assert isinstance(info, dict)
            assert info.get("status") not in ("failed", "cancelled"), info
            if condition(info):
                return info
            await trio.sleep(POLL_S)


def is_completed(info: Json) -> bool:
    return info.get("status") == "completed"


async def test_operator_sees_how_much_is_withheld_as_long_as_it_is(place: Path) -> None:
    uri = f"unix:{place / 'in'}"
    here, there = f"unix:{place / 'a.qmp'}", f"unix:{place / 'b.qmp'}"
    async with (
        VerbProcess("run", TOO_FAST, "--qmp", here, "--bandwidth", CAP) as source,
        VerbProcess("run", TOO_FAST, "--qmp", there, "--incoming", uri) as destination,
    ):
        await source.said("qmp ")
        await destination.listening()
        async with open_qmp(here) as client, open_qmp(there) as other:
            on = [{"capability": "auto-converge", "state": True}]
            await client.execute("migrate-set-capabilities", capabilities=on)
            await client.execute(
                "migrate-set-parameters", cpu_throttle_initial=60, downtime_limit=1
            )
            await client.execute("migrate", uri=uri)
            info = await until(client, lambda info: "cpu-throttle-percentage" in info)
            assert info["status"] == "active"
            assert info["cpu-throttle-percentage"] == 60
            assert info["ram"]["dirty-pages-rate"] > (16 << 20) // 4096 // 2
            assert "cpu-throttle-percentage" not in await until(other, lambda info: True)
            await client.execute("migrate-set-parameters", max_bandwidth=0, downtime_limit=2000)
            assert "cpu-throttle-percentage" not in await until(client, is_completed)
            await until(other, is_completed)
            for one in (client, other):
                await one.execute("quit")
        for process in (source, destination):
            stopped = (await process.outcome()).expect(0).events[-1]
            assert stopped["guest"]["consistent"], stopped
