"""The programs of the guide to hosting, run as they are printed."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from faults_support import until
from support.commands import transship

from transship.control.address import QmpAddress
from transship.control.client import QmpCommandError, open_qmp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture(autouse=True)
def _examples_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("ledger", "host_ledger", "two_moves"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@asynccontextmanager
async def _hosted(place: Path) -> AsyncIterator[tuple[Any, str]]:
    host_ledger = import_module("host_ledger")
    qmp = f"unix:{place / 'l.qmp'}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host_ledger.main, qmp)
        await until((place / "l.qmp").exists, "the host listens")
        yield host_ledger, qmp


async def test_ledger_is_hosted_as_the_guide_says(place: Path) -> None:
    async with (
        _hosted(place) as (_, qmp),
        open_qmp(QmpAddress.parse(qmp)) as client,
    ):
        await client.execute(
            "migrate-set-capabilities",
            capabilities=[{"capability": "auto-converge", "state": True}],
        )
        status = (await transship("status", "--qmp", qmp)).expect(0).facts
        assert status["guest"] == {"run_state": "running", "is_running": True}
        await client.execute("quit")


async def test_hosted_ledger_says_what_forbids_moving_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _hosted(place) as (module, qmp), open_qmp(QmpAddress.parse(qmp)) as client:
        monkeypatch.setattr(module.Obliging, "blockers", lambda self: [module.Blocker("a", "b")])
        with pytest.raises(QmpCommandError, match=r"a \(says b\)"):
            await client.execute("migrate", uri=f"unix:{place / 'nobody'}")
        assert await client.execute("query-migrate") == {"blocked-reasons": ["a (says b)"]}
        await client.execute("quit")


async def test_two_ledgers_move_at_once_as_the_guide_says(place: Path) -> None:
    two_moves = import_module("two_moves")
    arrived = await two_moves.main(str(place))
    reports = [guest.report() for guest in arrived]
    assert [(report["wrong"], report["migrations"]) for report in reports] == [(0, 1)] * 2
