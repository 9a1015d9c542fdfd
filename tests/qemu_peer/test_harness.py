"""QEMU to QEMU: if these fail, look here before looking at Transship."""

from pathlib import Path

import pytest
import trio

from .boot import assert_consecutive, assert_memory_consistent, sweeps
from .find import NO_QEMU, QemuBinary, inspect_binary, qemu_binaries
from .process import QemuDied, QemuProcess
from .qmp import QmpError

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(not qemu_binaries(), reason=NO_QEMU),
]

each_qemu = pytest.mark.parametrize("binary", qemu_binaries(), ids=lambda binary: binary.label)
each_machine = pytest.mark.parametrize("machine", ["pc", "q35"])


@each_qemu
@each_machine
async def test_guest_migrated_between_two_qemus_counts_on(
    binary: QemuBinary, machine: str, tmp_path: Path
) -> None:
    uri = f"unix:{tmp_path / 'migration'}"
    async with (
        QemuProcess(binary, tmp_path, name="source", machine=machine) as source,
        QemuProcess(binary, tmp_path, name="dest", machine=machine, incoming=uri) as destination,
    ):
        await source.wait_sweeps(3)
        assert await destination.run_state() == "inmigrate"

        await source.migrate(uri, {"return-path": True})
        await source.wait_migration("completed")
        await destination.wait_migration("completed")
        assert await source.run_state() == "postmigrate"
        await destination.wait_run_state("running")
        await destination.wait_sweeps(3)
        await destination.stop()

        life = source.serial_bytes() + destination.serial_bytes()
        assert_consecutive(life)
        assert sweeps(destination.serial_bytes()[-90:])[-1] > sweeps(source.serial_bytes())[-1]
        assert_memory_consistent(destination.ram())


@each_qemu
async def test_stopped_guest_has_consistent_memory(binary: QemuBinary, tmp_path: Path) -> None:
    async with QemuProcess(binary, tmp_path) as qemu:
        for _ in range(5):
            await qemu.wait_sweeps(1)
            await qemu.stop()
            assert_memory_consistent(qemu.ram())
            await qemu.cont()


@each_qemu
async def test_qemu_started_paused_does_not_run(binary: QemuBinary, tmp_path: Path) -> None:
    async with QemuProcess(binary, tmp_path, paused=True) as qemu:
        assert await qemu.run_state() == "prelaunch"
        assert qemu.serial_text() == ""
        await qemu.cont()
        counters = await qemu.wait_sweeps(2)
        assert counters[:2] == [1, 2]


@each_qemu
async def test_refused_command_says_why(binary: QemuBinary, tmp_path: Path) -> None:
    async with QemuProcess(binary, tmp_path, paused=True) as qemu:
        with pytest.raises(QmpError, match="sideways"):
            await qemu.execute("migrate-set-parameters", sideways=1)


@each_qemu
async def test_qemu_that_does_not_start_is_reported_with_its_own_words(
    binary: QemuBinary, tmp_path: Path
) -> None:
    with pytest.raises(QemuDied, match="no-such-device"):
        async with QemuProcess(binary, tmp_path, arguments=["-device", "no-such-device"]):
            pass


@each_qemu
async def test_qemu_that_ends_meanwhile_is_reported(binary: QemuBinary, tmp_path: Path) -> None:
    async with QemuProcess(binary, tmp_path, paused=True) as qemu:
        await qemu.execute("quit")
        assert await qemu.wait_exit() == 0
        with pytest.raises(QemuDied, match="status 0"):
            await qemu.run_state()


@each_qemu
async def test_exception_in_the_block_leaves_no_process(binary: QemuBinary, tmp_path: Path) -> None:
    with trio.move_on_after(0.5) as scope:
        async with QemuProcess(binary, tmp_path) as qemu:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert qemu.returncode == -9


@each_qemu
def test_machine_names_are_resolved(binary: QemuBinary) -> None:
    assert binary.machine("pc").startswith("pc-i440fx-")
    assert binary.machine("q35").startswith("pc-q35-")
    with pytest.raises(ValueError, match="no machine 'vax'"):
        binary.machine("vax")


def test_binary_that_is_no_qemu_is_reported() -> None:
    with pytest.raises(RuntimeError, match="which version of QEMU"):
        inspect_binary(Path("/bin/echo"))
