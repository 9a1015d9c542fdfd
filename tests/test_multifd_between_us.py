"""Memory over several channels between two of us, as operators ask for it over QMP."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from qemu_peer.qmp import QmpClient
from support.commands import VerbProcess, transship

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytest.importorskip("transship_ram")
pytest.importorskip("transship_unix")
pytest.importorskip("transship_zlib")
pytest.importorskip("transship_zstd")

RAM_BYTES: Final = 64 << 20
GUEST: Final = f"synthetic:ram={RAM_BYTES},dirty-rate=64MiB/s,working-set=16MiB"


@asynccontextmanager
async def hosted(
    place: Path, name: str, *options: str
) -> AsyncIterator[tuple[VerbProcess, QmpClient]]:
    """A guest of ours, and a client that drives it."""
    path = place / f"{name}.qmp"
    async with VerbProcess("run", GUEST, "--qmp", f"unix:{path}", *options) as host:
        await host.said("qmp ")
        async with await QmpClient.connect(path) as qmp:
            yield host, qmp


async def switch_on(qmp: QmpClient, **parameters: Any) -> None:
    await qmp.execute(
        "migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}]
    )
    names = {name.replace("_", "-"): value for name, value in parameters.items()}
    await qmp.execute("migrate-set-parameters", **names)


@pytest.mark.parametrize("method", ["none", "zlib", "zstd"])
async def test_guest_moves_over_several_channels_and_is_what_it_was(
    place: Path, method: str
) -> None:
    uri = f"unix:{place / 'in'}"
    async with (
        hosted(place, "a") as (_, here),
        hosted(place, "b", "--incoming", "defer") as (destination, there),
    ):
        await switch_on(there, multifd_channels=3)
        await there.execute("migrate-incoming", uri=uri)
        await there.execute("migrate-set-parameters", **{"multifd-compression": method})
        command = ["migrate", uri, "--qmp", str(place / "a.qmp"), "--downtime", "1s"]
        command += ["--bandwidth", "unlimited", "--cap", "multifd"]
        command += ["--set", "multifd-channels=3", "--set", f"multifd-compression={method}"]
        moved = (await transship(*command)).expect(0).facts
        assert moved["status"] == "completed"
        ram = (await here.execute("query-migrate"))["ram"]
        assert ram["transferred"] > ram["multifd-bytes"]
        assert ram["multifd-bytes"] > 0.9 * ram["normal-bytes"]
        destination.interrupt()
        ended = (await destination.outcome()).events[-1]
        assert ended["guest"]["consistent"] is True


async def test_sides_that_compress_differently_say_so_and_the_guest_stays(place: Path) -> None:
    uri = f"unix:{place / 'in'}"
    async with (
        hosted(place, "a") as (_, here),
        hosted(place, "b", "--incoming", "defer") as (destination, there),
    ):
        await switch_on(here, multifd_compression="zlib")
        await switch_on(there, multifd_compression="zstd")
        await there.execute("migrate-incoming", uri=uri)
        failed = (await transship("migrate", uri, "--qmp", str(place / "a.qmp"))).expect(1)
        assert "compresses in another way" in (await destination.outcome()).stderr
        assert "compresses in another way" in failed.stderr
        assert failed.facts["guest"]["is_running"]
