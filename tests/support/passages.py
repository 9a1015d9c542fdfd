"""A real QEMU's guest into a checkpoint folder, and from there into another QEMU."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from qemu_peer.process import RAM_BLOCK, QemuProcess

from support.boot import write_forgetful_boot_image
from support.commands import Outcome, VerbProcess, transship

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from qemu_peer.find import QemuBinary

    from transship.abc import Guest

NO_OPTIONS: Final[Mapping[str, bool]] = {}

EAGER: Final[Mapping[str, object]] = {"max-bandwidth": 0, "downtime-limit": 2000}
"""Migration parameters of a QEMU that is to switch over as soon as it can."""

SLOW: Final[Mapping[str, object]] = {"max-bandwidth": 1 << 20, "downtime-limit": 1}
"""Migration parameters of a QEMU that is to be still at it when something happens: the guest
writes to half a MiB at once, also on a busy machine, and no page fits into the downtime. (A limit
of 0 is none at all.)"""


def guest(qemu: QemuBinary, place: Path, name: str, machine: str, **options: Any) -> QemuProcess:
    """Describe a QEMU with the counting guest; see :class:`QemuProcess`."""
    boot_image = place / "boot.img"
    if not boot_image.exists():
        write_forgetful_boot_image(boot_image)
    return QemuProcess(qemu, place, name=name, machine=machine, **options)


def waiting_guest(
    qemu: QemuBinary, place: Path, name: str, machine: str, **options: Any
) -> QemuProcess:
    """Describe a QEMU that awaits such a guest; :func:`listen` has it listen."""
    return guest(qemu, place, name, machine, incoming="defer", **options)


def ram_of(guest: Guest) -> bytes:
    """Return the memory of a guest of ours, for comparison with :meth:`QemuProcess.ram`."""
    return next(bytes(one.view) for one in guest.ram_blocks() if one.idstr == RAM_BLOCK)


async def listen(
    destination: QemuProcess,
    place: Path,
    scheme: str = "unix",
    *,
    capabilities: Mapping[str, bool] = NO_OPTIONS,
    exit_on_error: bool | None = None,
) -> str:
    """Have a waiting QEMU listen; return the address to send to."""
    if scheme == "unix":
        uri = f"unix:{place / destination.name}.in"
        await destination.migrate_incoming(uri, capabilities, exit_on_error=exit_on_error)
        return uri
    await destination.migrate_incoming("tcp:127.0.0.1:0", capabilities, exit_on_error=exit_on_error)
    (address,) = (await destination.migration())["socket-address"]
    return f"tcp:{address['host']}:{address['port']}"


@asynccontextmanager
async def receiving(
    place: Path, folder: Path, scheme: str = "unix", *options: str
) -> AsyncIterator[tuple[VerbProcess, str]]:
    """Run `transship receive`; gives the process and the address at which it listens."""
    uri = f"unix:{place / folder.name}.sock" if scheme == "unix" else "tcp:127.0.0.1:0"
    async with VerbProcess("receive", uri, "--to", folder, *options) as receive:
        yield receive, await receive.listening()


async def take(
    source: QemuProcess,
    place: Path,
    folder: Path,
    scheme: str = "unix",
    *,
    capabilities: Mapping[str, bool] = NO_OPTIONS,
    parameters: Mapping[str, object] = EAGER,
) -> Outcome:
    """Migrate a QEMU's guest into a checkpoint folder; both sides must be content."""
    async with receiving(place, folder, scheme) as (receive, uri):
        await source.migrate(uri, capabilities, parameters)
        await source.wait_migration()
        return (await receive.outcome()).expect(0)


async def play(
    folder: Path, destination: QemuProcess, place: Path, scheme: str = "unix", **options: Any
) -> Outcome:
    """Send a checkpoint folder into a QEMU; both sides must be content."""
    uri = await listen(destination, place, scheme, **options)
    sent = (await transship("send", folder, uri)).expect(0)
    await destination.wait_migration()
    return sent
