"""A guest under load arrives whole, whatever dirty log notes its writes, and however it is sent."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from qemu_peer.qmp import QmpClient
from support.commands import VerbProcess, transship

from transship import Capability, Parameters, migrate, receive
from transship.engine.notifiers import PassBegun
from transship.errors import LocalError
from transship.guests.choosing import DirtyLogKind, dirty_log_for
from transship.guests.synthetic import SyntheticGuest
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from pathlib import Path

    from transship.engine.stats import Statistics

pytest.importorskip("transship_ram")
pytest.importorskip("transship_tcp")
pytest.importorskip("transship_unix")

KINDS: Final[tuple[DirtyLogKind, ...]] = ("marked", "write-protect", "comparing")
RAM_BYTES: Final = 32 << 20
PASSES: Final = 5
PATIENCE_S: Final = 60.0

UNWILLING: Final = Parameters(max_bandwidth_bytes_per_s=64 << 20, downtime_limit_s=0.001)
"""Half of what the guest writes in a second: it switches over when it is told to, not before."""

WILLING: Final = dataclasses.replace(UNWILLING, downtime_limit_s=10.0)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> DirtyLogKind:
    """A kind of dirty log that this kernel can keep."""
    kind: DirtyLogKind = request.param
    block = RAMBlock.anonymous("trial", 4096)
    try:
        dirty_log_for([block], kind)
    except LocalError as error:
        pytest.skip(str(error))
    finally:
        block.close()
    return kind


async def moved(here: SyntheticGuest, uri: str, *capabilities: str) -> Statistics:
    """Move a guest that runs, and see that it is whole where it arrives.

    It switches over only after some passes, so that pages are sent again and again meanwhile.
    """
    there = SyntheticGuest(here.traits.ram_bytes, seed=99, fill=False)
    listens_at, listening = [uri], trio.Event()

    def note(address: str) -> None:
        listens_at.append(address)
        listening.set()

    def let_it_end(notice: object) -> None:
        if isinstance(notice, PassBegun) and notice.number == PASSES:
            migration.parameters = WILLING

    await here.resume()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            incoming = receive(there, uri, capabilities=capabilities, on_listening=note)
            nursery.start_soon(incoming.run)
            await listening.wait()
            migration = migrate(
                here, listens_at[-1], parameters=UNWILLING, capabilities=capabilities
            )
            migration.notifiers.add(let_it_end)
            nursery.start_soon(migration.run)
    assert there.is_running
    await there.pause()
    verdict = await trio.to_thread.run_sync(there.verify)
    assert verdict.ok, verdict.reason
    assert verdict.counter >= here.counter > 0
    here.close()
    there.close()
    return migration.statistics


def loaded_guest(kind: DirtyLogKind, **options: Any) -> SyntheticGuest:
    """A guest that writes, over and over, to a quarter of its memory."""
    return SyntheticGuest(
        RAM_BYTES,
        dirty_rate_bytes_per_s=128 << 20,
        working_set_bytes=8 << 20,
        zero_fraction=0.25,
        dirty_log=kind,
        **options,
    )


async def test_guest_under_load_arrives_whole(kind: DirtyLogKind, place: Path) -> None:
    statistics = await moved(loaded_guest(kind), f"unix:{place / 'in'}")
    assert statistics.dirty_log == kind
    assert statistics.dirty_syncs >= PASSES


async def test_guest_in_a_memfd_that_is_copied_arrives_whole(kind: DirtyLogKind) -> None:
    statistics = await moved(loaded_guest(kind, memory="memfd"), "tcp:127.0.0.1:0")
    assert statistics.dirty_log == kind


async def test_guest_sent_as_changes_arrives_whole(kind: DirtyLogKind, place: Path) -> None:
    statistics = await moved(loaded_guest(kind), f"unix:{place / 'in'}", Capability.XBZRLE)
    assert statistics.sections["ram"]["xbzrle_pages"] > 0
    assert statistics.dirty_log == kind


async def test_guest_sent_over_several_channels_arrives_whole(
    kind: DirtyLogKind, place: Path
) -> None:
    statistics = await moved(loaded_guest(kind), f"unix:{place / 'in'}", Capability.MULTIFD)
    assert statistics.sections["ram"]["multifd_bytes"] > RAM_BYTES // 2
    assert statistics.dirty_log == kind


# --- the log is named -----------------------------------------------------------------------------


async def test_run_and_query_migrate_name_the_log(kind: DirtyLogKind, place: Path) -> None:
    guest = f"synthetic:ram=16MiB,dirty-log={kind}"
    async with VerbProcess(
        "run", "synthetic:ram=16MiB", "--incoming", f"unix:{place / 'in'}"
    ) as there:
        address = await there.listening()
        qmp_path = place / "here.qmp"
        async with VerbProcess("run", guest, "--qmp", f"unix:{qmp_path}") as here:
            await here.said("qmp ")
            async with await QmpClient.connect(qmp_path) as qmp:
                (await transship("migrate", address, "--qmp", qmp_path)).expect(0)
                assert (await qmp.execute("query-migrate"))["dirty-log"] == kind
                await qmp.execute("quit")
            (left, *_) = (await here.outcome()).events
        assert left["event"] == "left"
        assert left["statistics"]["dirty_log"] == kind


async def test_run_names_the_log_for_people(place: Path) -> None:
    command = [sys.executable, "-m", "transship", "run", "synthetic:ram=16MiB,dirty-log=comparing"]
    async with VerbProcess(
        "run", "synthetic:ram=16MiB", "--incoming", f"unix:{place / 'in'}"
    ) as there:
        address = await there.listening()
        with trio.fail_after(PATIENCE_S):
            ended = await trio.run_process(
                [*command, "--migrate-to", address],
                capture_stdout=True,
                stdin=subprocess.DEVNULL,
            )
    assert ended.stdout.decode().strip().endswith("passes, dirty log comparing")
