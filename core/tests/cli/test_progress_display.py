"""What a terminal shows, and what is not imported where there is none."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from qmp_dialogue import Dialogue, speaking

from transship.cli.progress.disks import DiskProgress, StorageProgress
from transship.cli.progress.forecast import Bounds, forecast

from .test_forecast import FIRST, LATER, MIB
from .test_migrate import ACTIVE, COMPLETED, GONE, PARAMETERS, URI

if TYPE_CHECKING:
    from pathlib import Path

    from transship.cli.progress.measure import Measurements

BOUNDS = Bounds(128 * MIB, 0.3)
WAYS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What makes a terminal do something, rather than show something."""


def drawn(*looks: Measurements) -> str:
    """What the bars look like in the end, without colours."""
    console = pytest.importorskip("rich.console")
    from transship.cli.progress.bars import BarsView

    screen = io.StringIO()
    terminal = console.Console(file=screen, force_terminal=True, width=100, color_system=None)
    with BarsView("here → there", terminal) as view:
        for now in looks:
            view.show(now, forecast(now, BOUNDS))
        screen.truncate(0)
        view.show(looks[-1], forecast(looks[-1], BOUNDS))
    return WAYS.sub("", screen.getvalue())


def test_bars_in_the_first_pass_promise_nothing_of_the_second() -> None:
    text = drawn(FIRST)
    assert "here → there · active" in text
    assert re.search(r"first pass .*75% +3\.00 GiB of 4\.00 GiB", text)
    assert "known after the first pass" in text
    assert "about 4 s more" in text


def test_bars_after_the_first_pass_show_what_fits_the_downtime() -> None:
    text = drawn(FIRST, LATER)
    assert re.search(r"first pass .*100%", text)
    assert re.search(r"fits the downtime .*10% +38\.4 MiB of 400 MiB", text)
    assert "pass 3 · 4.88 GiB moved · sends 128 MiB/s · dirties 32.0 MiB/s" in text
    assert "switches over in about 4 s" in text


def test_bar_of_the_disks_is_above_the_others_and_stays() -> None:
    console = pytest.importorskip("rich.console")
    from transship.cli.progress.bars import BarsView

    screen = io.StringIO()
    terminal = console.Console(file=screen, force_terminal=True, width=100, color_system=None)
    half = StorageProgress((DiskProgress("a", 512 * MIB, 1024 * MIB, is_ready=False),), took_s=4)
    with BarsView("here → there", terminal) as view:
        view.show_disks(half)
        assert "here → there · copying-disks" in screen.getvalue()
        assert re.search(r"disks .* 50% +512 MiB of 1\.00 GiB", WAYS.sub("", screen.getvalue()))
        assert "copies 128 MiB/s · 0 of 1 disk in step" in screen.getvalue()
        screen.truncate(0)
        view.show(FIRST, forecast(FIRST, BOUNDS))
    text = WAYS.sub("", screen.getvalue())
    assert re.search(r"disks .* 50%.*\n.*first pass .*75%", text)


def test_bar_of_the_first_pass_never_runs_backwards() -> None:
    text = drawn(FIRST, replace(FIRST, remaining_bytes=3000 * MIB))
    assert re.search(r"first pass .*75%", text)


async def test_terminal_gets_bars_and_standard_output_gets_the_result(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    dialogue = Dialogue(
        {
            "query-migrate": [{}, ACTIVE, ACTIVE, COMPLETED],
            "query-status": [GONE],
            "query-migrate-parameters": [PARAMETERS],
            "query-migrate-capabilities": [[]],
        }
    )
    ours, theirs = pty.openpty()
    async with speaking(dialogue, tmp_path / "qmp") as address:
        result = await trio.run_process(
            [sys.executable, "-m", "transship", "migrate", "--qmp", address, URI],
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            capture_stdout=True,
            stderr=theirs,
        )
    os.close(theirs)
    shown = WAYS.sub("", os.read(ours, 1 << 20).decode())
    os.close(ours)
    assert result.stdout.startswith(b"completed: ")
    assert "first pass" in shown
    assert "100%" in shown
    assert "{" not in shown


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("from transship.cli.main import main; main(['--help'], standalone_mode=False)", "trio"),
        ("from transship.cli.main import main; main(['--help'], standalone_mode=False)", "msgspec"),
        ("import transship.cli.verbs.migrate, transship.cli.progress.views", "rich"),
    ],
)
def test_what_is_not_needed_is_not_imported(statement: str, absent: str) -> None:
    subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nassert {absent!r} not in sys.modules"],
        check=True,
        capture_output=True,
    )
