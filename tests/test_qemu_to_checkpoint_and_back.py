"""A real QEMU's guest moves into a checkpoint folder, and on into a fresh QEMU, and lives.

The guest counts: a byte in each of 128 pages, a counter in memory, a line on its serial port. So
what it lost would show in three places. What a RAM image must equal, and why that is fair:

- The main memory is a shared file; the image is compared with that file, which *is* the source's
  memory. Asking the source to write its physical memory would show the firmware below 1 MiB
  instead of the RAM behind it.
- The other blocks (firmware, its tables) are not in any file, and only in part mapped. They are
  compared with another migration of the same QEMU, recorded and read by `support.streams`.
"""

from __future__ import annotations

import json
import os
import random
import signal
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
import trio
from qemu_peer.boot import assert_consecutive, assert_memory_consistent, sweeps
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import MIB, RAM_BLOCK, QemuProcess
from support.checkpoints import differences, files, leftovers
from support.commands import Outcome, VerbProcess, transship
from support.passages import (
    EAGER,
    NO_OPTIONS,
    SLOW,
    guest,
    listen,
    play,
    receiving,
    take,
    waiting_guest,
)
from support.streams import read_ram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.qemu

QEMUS = qemu_binaries()
OLD = [qemu for qemu in QEMUS if qemu.label == "7.2"]
NEW = [qemu for qemu in QEMUS if qemu.version >= (8,)]
PC_OF_7_2 = "pc-i440fx-7.2"
UUID = "c0ffee00-0123-4567-89ab-cdef01234567"
CLOCK_REGISTERS_BYTES = 14
ROUNDS = 12

each_qemu = pytest.mark.parametrize("qemu", QEMUS, ids=lambda qemu: qemu.label)
each_machine = pytest.mark.parametrize("machine", ["pc", "q35"])


def _ways(in_short: Callable[[bool, bool, bool], bool]) -> pytest.MarkDecorator:
    """Parametrise a test with all ways from a QEMU into a folder.

    Args:
        in_short: Says of a way (is it a pc, over a unix socket, with a return path) whether it
            is walked in every run; the others belong to the soak.
    """
    ways = []
    for qemu, machine, scheme, return_path in product(
        QEMUS, ("pc", "q35"), ("unix", "tcp"), (True, False)
    ):
        is_short = in_short(machine == "pc", scheme == "unix", return_path)
        name = f"{qemu.label}-{machine}-{scheme}-{'with' if return_path else 'no'}-rp"
        marks = () if is_short else pytest.mark.soak
        ways.append(pytest.param(qemu, machine, scheme, return_path, id=name, marks=marks))
    return pytest.mark.parametrize(("qemu", "machine", "scheme", "return_path"), ways)


# Of each pair of choices every combination.
each_way = _ways(lambda is_pc, is_unix, return_path: is_pc ^ is_unix ^ return_path)
# Each choice once.
two_ways = _ways(lambda is_pc, is_unix, return_path: is_pc == is_unix == return_path)


# --- there and back -------------------------------------------------------------------------------


@each_way
async def test_running_guest_moves_through_a_checkpoint_and_counts_on(
    qemu: QemuBinary, machine: str, scheme: str, return_path: bool, place: Path
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", machine) as source:
        await source.wait_sweeps(3)
        capabilities = {"return-path": return_path}
        received = await take(source, place, folder, scheme, capabilities=capabilities)
        assert await source.run_state() == "postmigrate"
        image = _main_memory(folder)
        assert image == source.ram()
        assert_memory_consistent(image)
        life = source.serial_bytes()
    assert received.facts["status"] == "completed"
    assert leftovers(place, "vm") == ["vm"]
    assert json.loads((folder / "machine.json").read_text())["machine"] == source.machine

    before = files(folder)
    async with waiting_guest(qemu, place, "destination", machine) as destination:
        assert await destination.run_state() == "inmigrate"
        sent = await play(folder, destination, place, scheme)
        await destination.wait_run_state("running")
        await destination.wait_sweeps(3)
        await destination.stop()
        assert sweeps(destination.serial_bytes()[-90:])[-1] > sweeps(life)[-1]
        assert_consecutive(life + destination.serial_bytes())
        assert_memory_consistent(destination.ram())
    assert sent.facts["status"] == "completed"
    assert files(folder) == before


@two_ways
async def test_stopped_guest_is_the_same_after_a_checkpoint_and_counts_on(
    qemu: QemuBinary, machine: str, scheme: str, return_path: bool, place: Path
) -> None:
    first, second = place / "first", place / "second"
    capabilities = {"return-path": return_path}
    async with guest(qemu, place, "source", machine) as source:
        await source.wait_sweeps(3)
        await source.stop()
        memory, life = source.ram(), source.serial_bytes()
        await take(source, place, first, scheme, capabilities=capabilities)
        assert source.ram() == memory
    assert _main_memory(first) == memory

    async with waiting_guest(qemu, place, "destination", machine) as destination:
        await play(first, destination, place, scheme)
        await destination.wait_run_state("paused")
        assert destination.ram() == memory
        await take(destination, place, second, scheme, capabilities=capabilities)
        await _assert_same_state(first, second)

        await destination.cont()
        await destination.wait_sweeps(3)
        assert_consecutive(life + destination.serial_bytes())


async def _assert_same_state(first: Path, second: Path) -> None:
    """Fail unless two checkpoints of one guest, which did not run in between, hold the same.

    Two things differ, and so they do when the guest goes from QEMU to QEMU without us: the clock
    goes with the host's, also while the guest stands still; and QEMU's IDE controller forgets
    upon loading the sector that it would retry, with nothing to be retried.
    """
    one, other = files(first), files(second)
    differing = {name for name in one if name != "machine.json" and one[name] != other.get(name)}
    assert one.keys() == other.keys()
    assert {name.partition("-")[2] for name in differing} <= {
        "mc146818rtc-0",
        "0000:00:01.1%2Fide-0",
    }
    devices, again = await _devices(first), await _devices(second)
    assert {place for place in differences(devices, again) if "mc146818rtc/0" not in place} <= {
        ("0000:00:01.1/ide/0", "fields", "bmdma", 0, "migration_retry_sector_num")
    }
    cmos, cmos_again = (
        bytes.fromhex(both["mc146818rtc/0"]["fields"]["cmos_data"]) for both in (devices, again)
    )
    assert cmos[CLOCK_REGISTERS_BYTES:] == cmos_again[CLOCK_REGISTERS_BYTES:]


@each_qemu
@each_machine
async def test_firmware_of_a_stopped_guest_is_what_another_migration_holds(
    qemu: QemuBinary, machine: str, place: Path
) -> None:
    recorded, folder = place / "recorded.stream", place / "vm"
    async with guest(qemu, place, "source", machine) as source:
        await source.wait_sweeps(3)
        await source.stop()
        await source.migrate(f"exec:cat > {recorded}", NO_OPTIONS, EAGER)
        await source.wait_migration()
        assert read_ram(recorded)[RAM_BLOCK] == source.ram()
        # QEMU does not migrate a stopped guest twice; while it runs it leaves its firmware alone.
        await source.cont()
        await source.stop()
        await take(source, place, folder)
        memory = source.ram()
    recorded_blocks = read_ram(recorded)
    images = json.loads((folder / "machine.json").read_text())["ram"]
    assert [image["idstr"] for image in images] == list(recorded_blocks)
    assert {RAM_BLOCK, "pc.bios", "pc.rom"} < recorded_blocks.keys()
    for image in images:
        expected = memory if image["idstr"] == RAM_BLOCK else recorded_blocks[image["idstr"]]
        assert (folder / "ram" / image["file"]).read_bytes() == expected, image["idstr"]


# --- load, size, versions -------------------------------------------------------------------------


def _encodings() -> Iterator[Any]:
    """The encodings of pages that each QEMU can be told to use."""
    for qemu in QEMUS:
        for capability, records in (
            (None, "normal"),
            ("xbzrle", "xbzrle"),
            ("compress", "compressed"),
        ):
            if capability != "compress" or qemu.version < (9, 1):
                yield pytest.param(qemu, capability, records, id=f"{qemu.label}-{records}")


@pytest.mark.parametrize(("qemu", "capability", "records"), [*_encodings()])
async def test_guest_that_writes_faster_than_the_link_survives_many_rounds(
    qemu: QemuBinary, capability: str | None, records: str, place: Path
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with receiving(place, folder) as (receive, uri):
            capabilities = {"return-path": True} | ({capability: True} if capability else {})
            await source.migrate(uri, capabilities, SLOW)
            # Encoded, half a MiB of changes is 2 KiB, and QEMU may well be through before.
            rounds = await _wait_rounds(source, ROUNDS, may_end=capability is not None)
            await source.set_migration({}, EAGER)
            await source.wait_migration()
            received = (await receive.outcome()).expect(0)
        assert rounds >= (2 if capability else ROUNDS)
        image = _main_memory(folder)
        assert image == source.ram()
        assert_memory_consistent(image)
        life = source.serial_bytes()
    assert received.facts["statistics"]["sections"]["ram"][records] > 0

    async with waiting_guest(qemu, place, "destination", "pc") as destination:
        await play(folder, destination, place)
        await destination.wait_sweeps(3)
        assert_consecutive(life + destination.serial_bytes())


@each_qemu
async def test_large_guest_with_content_arrives_whole(qemu: QemuBinary, place: Path) -> None:
    folder, ram_bytes = place / "vm", 256 * MIB
    content = random.Random(256)
    async with guest(qemu, place, "source", "q35", ram_bytes=ram_bytes) as source:
        await source.wait_sweeps(3)
        await source.stop()
        with source.ram_path.open("r+b") as memory:  # above all that the guest and firmware use
            for start in range(4 * MIB, ram_bytes - 8 * MIB, 3 * MIB):
                memory.seek(start)
                memory.write(content.randbytes(MIB))
        await source.cont()
        await take(source, place, folder, capabilities={"return-path": True})
        assert _equal(folder / "ram" / RAM_BLOCK, source.ram_path)
        life = source.serial_bytes()
    assert (folder / "ram" / RAM_BLOCK).stat().st_blocks * 512 < 128 * MIB, "the image is sparse"

    async with waiting_guest(qemu, place, "destination", "q35", ram_bytes=ram_bytes) as destination:
        await play(folder, destination, place)
        await destination.wait_sweeps(3)
        await destination.stop()
        assert_consecutive(life + destination.serial_bytes())
        # The guest has run on, in the first MiB alone.
        assert _equal(folder / "ram" / RAM_BLOCK, destination.ram_path, start=4 * MIB)


@pytest.mark.skipif(
    not OLD or not NEW,
    reason="needs QEMU 7.2 and a later one: tests/qemu_peer/fetch-qemu.sh unpacks 10.0",
)
async def test_guest_moves_between_versions_of_qemu_and_back(place: Path) -> None:
    life = b""
    folder: Path | None = None
    for number, qemu in enumerate((NEW[0], OLD[0], NEW[0])):
        name = f"qemu{number}"
        make = guest if folder is None else waiting_guest
        async with make(qemu, place, name, PC_OF_7_2) as one:
            if folder is not None:
                await play(folder, one, place)
                await one.wait_run_state("running")
            await one.wait_sweeps(3)
            folder = place / f"vm{number}"
            await take(one, place, folder, capabilities={"return-path": True})
            assert _main_memory(folder) == one.ram()
            life += one.serial_bytes()
            assert_consecutive(life)


@each_qemu
async def test_uuid_of_a_machine_goes_along_and_is_validated(qemu: QemuBinary, place: Path) -> None:
    folder, validate = place / "vm", {"validate-uuid": True}
    async with guest(qemu, place, "source", "pc", arguments=["-uuid", UUID]) as source:
        await source.wait_sweeps(3)
        await source.stop()
        await take(source, place, folder, capabilities=validate)
    assert json.loads((folder / "machine.json").read_text())["uuid"] == UUID.replace("-", "")

    other_uuid = UUID.replace("c", "d")
    async with waiting_guest(qemu, place, "other", "pc", arguments=["-uuid", other_uuid]) as other:
        uri = await listen(other, place, capabilities=validate)
        sent = (await transship("send", folder, uri)).expect(1)
        assert sent.error["source_may_resume"] is not False
    async with waiting_guest(qemu, place, "same", "pc", arguments=["-uuid", UUID]) as same:
        await play(folder, same, place, capabilities=validate)
        await same.wait_run_state("paused")


@each_qemu
async def test_receive_waits_for_a_source_that_pauses_before_switchover(
    qemu: QemuBinary, place: Path
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with receiving(place, folder) as (receive, uri):
            capabilities = {"pause-before-switchover": True, "return-path": True}
            await source.migrate(uri, capabilities, EAGER)
            await source.wait_migration("pre-switchover")
            await trio.sleep(1)
            assert receive.exit_code is None
            assert leftovers(place, "vm") != ["vm"]
            await source.execute("migrate-continue", state="pre-switchover")
            await source.wait_migration()
            (await receive.outcome()).expect(0)
        assert _main_memory(folder) == source.ram()


# --- a destination that refuses -------------------------------------------------------------------


def _refusals() -> Iterator[Any]:
    """Each QEMU; a later one can also be told to stay when a migration into it fails."""
    for qemu in QEMUS:
        yield pytest.param(qemu, None, id=f"{qemu.label}-ends")
        if qemu.version >= (9, 1):
            yield pytest.param(qemu, False, id=f"{qemu.label}-stays")


@pytest.mark.parametrize(("qemu", "exit_on_error"), [*_refusals()])
async def test_send_to_a_qemu_that_is_no_such_machine_fails_and_says_so(
    qemu: QemuBinary, exit_on_error: bool | None, place: Path
) -> None:
    folder = place / "vm"
    uhci = ["-device", "piix3-usb-uhci"]
    async with guest(qemu, place, "source", "pc", arguments=uhci) as source:
        await source.wait_sweeps(1)
        await source.stop()
        await take(source, place, folder)
    before = files(folder)
    closed, failed = "PeerClosedError", "PeerFailedError"
    refusing: list[tuple[str, str, dict[str, Any], str]] = [
        ("machine", "q35", {"arguments": uhci}, closed),
        ("memory", "pc", {"arguments": uhci, "ram_bytes": 32 * MIB}, failed),
        ("devices", "pc", {}, failed),
    ]
    for name, machine, options, kind in refusing:
        async with waiting_guest(qemu, place, name, machine, **options) as destination:
            uri = await listen(destination, place, exit_on_error=exit_on_error)
            sent = (await transship("send", folder, uri, timeout_s=10)).expect(1)
            # QEMU 7.2 may end before it has said over the return path that it failed.
            kinds = {kind} if qemu.version >= (9, 1) else {kind, closed}
            assert sent.error["kind"] in kinds, (name, sent.error)
            assert sent.error["source_may_resume"] is not False
            assert destination.name in sent.error["cause"], "the address of the peer"
            if exit_on_error is None:
                assert await destination.wait_exit() == 1
            else:
                await destination.wait_migration("failed")
    assert files(folder) == before


@each_qemu
async def test_send_to_a_qemu_that_is_killed_midway_can_be_repeated(
    qemu: QemuBinary, place: Path
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        await take(source, place, folder)
        life = source.serial_bytes()
    before = files(folder)
    async with waiting_guest(qemu, place, "killed", "pc") as killed:
        uri = await listen(killed, place)
        async with VerbProcess("send", folder, uri, "--bandwidth", "256KiB/s") as send:
            await killed.wait_migration("active")
            await trio.sleep(0.5)
            os.kill(killed.pid, signal.SIGKILL)
            sent = (await send.outcome(timeout_s=10)).expect(1)
    assert sent.error["kind"] == "PeerClosedError"
    assert sent.error["source_may_resume"] is not False
    assert files(folder) == before

    async with waiting_guest(qemu, place, "fresh", "pc") as fresh:
        await play(folder, fresh, place)
        await fresh.wait_sweeps(3)
        assert_consecutive(life + fresh.serial_bytes())


# --- a source whose migration fails ---------------------------------------------------------------


def test_receive_into_a_folder_that_is_not_empty_is_refused_before_it_listens(place: Path) -> None:
    folder = place / "vm"
    folder.mkdir()
    (folder / "letter").write_text("mine")
    refused = trio.run(transship, "receive", f"unix:{place / 'in'}", "--to", folder)
    assert refused.expect(3).error["kind"] == "BlockedError"
    assert "listening" not in refused.stderr
    assert files(place).keys() == {"vm/letter"}


@each_qemu
async def test_machine_with_more_ram_than_accepted_is_refused_and_runs_on(
    qemu: QemuBinary, place: Path
) -> None:
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with receiving(place, place / "vm", "unix", "--max-ram", "8MiB") as (receive, uri):
            await source.migrate(uri, {"return-path": True}, EAGER)
            received = (await receive.outcome(timeout_s=10)).expect(1)
        assert received.error["expected"] == f"at most {8 * MIB} bytes of RAM"
        await _assert_runs_on(source, place)


@each_qemu
@pytest.mark.parametrize("return_path", [True, False], ids=["with-rp", "no-rp"])
async def test_cancelled_receive_gives_the_guest_back(
    qemu: QemuBinary, return_path: bool, place: Path
) -> None:
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with receiving(place, place / "vm") as (receive, uri):
            await source.migrate(uri, {"return-path": return_path}, SLOW)
            await _wait_rounds(source, 2)
            receive.interrupt()
            received = (await receive.outcome(timeout_s=5)).expect(5)
        assert received.error["kind"] == "CancelledError"
        assert received.error["source_may_resume"] is True
        await _assert_runs_on(source, place)


@each_qemu
async def test_killed_receive_leaves_the_guest_where_it_was(qemu: QemuBinary, place: Path) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with receiving(place, folder) as (receive, uri):
            await source.migrate(uri, {"return-path": True}, SLOW)
            await _wait_rounds(source, 2)
            receive.kill()
        assert not folder.exists()
        begun, socket = leftovers(place, "vm")
        assert begun.startswith(".vm.partial-")
        assert socket == "vm.sock"
        await _assert_runs_on(source, place, leaves=[begun, socket])

        # Again, at the same address and to the same place: the remains are in nobody's way.
        await take(source, place, folder, capabilities={"return-path": True})
        assert _main_memory(folder) == source.ram()
        assert_consecutive(source.serial_bytes())


@each_qemu
@pytest.mark.parametrize("how", ["cancelled", "killed"])
async def test_receive_from_a_qemu_that_gives_up_midway_keeps_nothing(
    qemu: QemuBinary, how: str, place: Path
) -> None:
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with receiving(place, place / "vm") as (receive, uri):
            await source.migrate(uri, {"return-path": True}, SLOW)
            await _wait_rounds(source, 2)
            if how == "cancelled":
                await source.execute("migrate_cancel")
            else:
                os.kill(source.pid, signal.SIGKILL)
            received = (await receive.outcome(timeout_s=10)).expect(1)
        assert received.error["source_may_resume"] is True
        assert leftovers(place, "vm") == []


def _unsupported() -> Iterator[Any]:
    """What a source may be told to do that `receive` does not, and a word of the answer.

    Without a return path a source that has sent everything is content, whatever becomes of it. Of
    shared memory that is left out so little remains to be sent that it has, before it is refused.
    """
    for qemu in QEMUS:
        for capability, word in (
            ("postcopy-ram", "postcopy"),
            ("x-colo", "COLO"),
            ("x-ignore-shared", "x-ignore-shared"),
        ):
            for scheme, return_path in (("unix", True), ("tcp", True), ("unix", False)):
                if capability == "x-ignore-shared" and not return_path:
                    continue
                is_short = (scheme, return_path) == ("unix", True) and capability != "x-colo"
                name = f"{qemu.label}-{capability}-{scheme}-{'with' if return_path else 'no'}-rp"
                yield pytest.param(
                    *(qemu, capability, word, scheme, return_path),
                    id=name,
                    marks=() if is_short else pytest.mark.soak,
                )


@pytest.mark.parametrize(("qemu", "capability", "word", "scheme", "return_path"), [*_unsupported()])
async def test_source_that_wants_more_than_precopy_is_refused_and_runs_on(
    qemu: QemuBinary, capability: str, word: str, scheme: str, return_path: bool, place: Path
) -> None:
    await _assert_refused(qemu, capability, word, scheme, return_path, place)


@each_qemu
@pytest.mark.parametrize("scheme", ["unix", "tcp"])
async def test_source_that_opens_multifd_channels_is_refused_and_runs_on(
    qemu: QemuBinary, scheme: str, place: Path
) -> None:
    await _assert_refused(qemu, "multifd", "multifd", scheme, True, place)


async def _assert_refused(
    qemu: QemuBinary, capability: str, word: str, scheme: str, return_path: bool, place: Path
) -> None:
    options = ("--stall-timeout", "3s")
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with receiving(place, place / "vm", scheme, *options) as (receive, uri):
            capabilities = {capability: True, "return-path": return_path}
            await source.migrate(uri, capabilities, EAGER)
            received = (await receive.outcome(timeout_s=10)).expect(1)
        assert word in received.stderr
        assert received.error["source_may_resume"] is True
        await _assert_runs_on(source, place)


async def _assert_runs_on(
    source: QemuProcess, place: Path, *, leaves: list[str] | None = None
) -> None:
    """Fail unless a failed migration has left the guest running, and no checkpoint."""
    await source.wait_migration("failed")
    await source.wait_run_state("running")
    await source.wait_sweeps(3)
    assert_consecutive(source.serial_bytes())
    assert leftovers(place, "vm") == (leaves or [])


# --- looking --------------------------------------------------------------------------------------


def _main_memory(folder: Path) -> bytes:
    return (folder / "ram" / RAM_BLOCK).read_bytes()


def _equal(first: Path, second: Path, *, start: int = 0) -> bool:
    """Whether two files hold the same from a place on, a mebibyte at a time."""
    with first.open("rb") as one, second.open("rb") as other:
        one.seek(start)
        other.seek(start)
        while part := one.read(MIB):
            if part != other.read(MIB):
                return False
        return not other.read(1)


async def _wait_rounds(source: QemuProcess, rounds: int, *, may_end: bool = False) -> int:
    """Wait until a source has looked for dirty pages so many times; return how many."""
    with trio.fail_after(30):
        while True:
            info = await source.migration()
            done: int = info.get("ram", {}).get("dirty-sync-count", 0)
            is_over = info["status"] not in ("setup", "active")
            if done >= rounds or (is_over and may_end):
                return done
            assert not is_over, info
            await trio.sleep(0.02)


async def _devices(folder: Path) -> Mapping[str, Any]:
    """The devices of a checkpoint, decoded, by name and instance."""
    report: Outcome = (await transship("inspect", folder)).expect(0)
    return {f"{one['idstr']}/{one['instance_id']}": one for one in report.facts["devices"]}
