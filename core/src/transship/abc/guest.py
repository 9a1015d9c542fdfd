"""A guest: the machine that moves. What an embedder implements.

The engine asks a guest for its RAM blocks, a log of what it writes to them, its devices, and to
pause and resume. Nothing here knows of streams or channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transship.errors import RemoteError
from transship.wire.constants import TARGET_PAGE_SIZE
from transship.wire.vmdesc import DeviceRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc.disk import Disk
    from transship.abc.section import Section
    from transship.memory.bitmap import DirtyBitmap
    from transship.memory.ramblock import RAMBlock
    from transship.wire.events import Configuration
    from transship.wire.fields import VMState

__all__ = ["Blocker", "Device", "DeviceRecord", "DirtyLog", "Guest"]


@dataclass(frozen=True, slots=True)
class Blocker:
    """A reason that forbids moving a guest.

    Args:
        reason: What an operator is told.
        owner: Who says so.
    """

    reason: str
    owner: str

    def __str__(self) -> str:
        return f"{self.reason} (says {self.owner})"


@dataclass(frozen=True, slots=True)
class Device:
    """A device whose state is declared as fields.

    Args:
        idstr: Name in the stream; for a device on a bus, its path, a slash, and the name of
            the description.
        description: How the state is laid out.
        state: The object whose attributes are saved and loaded.
        instance_id: Which of several with the same idstr.
        is_migratable: Whether its state can be moved at all; a guest with a device that says no
            stays where it is.
    """

    idstr: str
    description: VMState
    state: object
    instance_id: int = 0
    is_migratable: bool = True


class DirtyLog(ABC):
    """Which pages the guest has written since they were last asked for.

    A log serves one migration at a time: two that take from it would each miss what the other
    has taken.

    Attributes:
        name: What kind of log it is, for operators.
    """

    name: str = "custom"

    @abstractmethod
    def start(self) -> None:
        """Begin to log: from now on no write is missed. Called once a migration.

        Raises:
            LocalError: It logs already, for another migration, which goes on undisturbed.
        """

    def readable(self, block: RAMBlock) -> RAMBlock:
        """Where the pages of a block are to be read while it logs; asked after :meth:`start`.

        Most logs notice every write, and then pages are read where the guest writes them. One
        that compares only knows what it has seen: it has a copy, and that is what must be sent.
        """
        return block

    @abstractmethod
    def sync(self, block: RAMBlock, bitmap: DirtyBitmap) -> int:
        """Move what was logged for a block into ``bitmap``, and forget it.

        A page is forgotten *before* it is read by the caller, so a write that happens meanwhile
        is logged again.

        Returns:
            How many pages of the block have become dirty that were not in ``bitmap``.
        """

    @abstractmethod
    def stop(self) -> None:
        """Log no more; idempotent. Called only by the migration that started the log."""


class Guest(ABC):
    """A machine that can be moved.

    Attributes:
        machine: Its type, as both sides must know it.
        page_size: Bytes of a target page.
        uuid: 16 bytes, sent and compared if set.
        accepts_any: Whether it can hold the state of any machine: RAM blocks and devices that
            it has never heard of (a checkpoint folder does).
        can_throttle: Whether :meth:`throttle` does something.
    """

    machine: str
    page_size: int = TARGET_PAGE_SIZE
    uuid: bytes | None = None
    accepts_any: bool = False
    can_throttle: bool = False

    @abstractmethod
    def ram_blocks(self) -> Sequence[RAMBlock]:
        """The blocks of guest RAM, in the order in which they are sent."""

    @abstractmethod
    def dirty_log(self) -> DirtyLog:
        """The log of the guest's writes."""

    def devices(self) -> Sequence[Device]:
        """Devices with declared state, in stream order."""
        return ()

    def disks(self) -> Sequence[Disk]:
        """Its disks, inactive at first.

        A host activates them before it lets the guest run, and a migration inactivates them here
        before they become active on the other side. Who runs a guest without a host activates
        them first.
        """
        return ()

    def sections(self) -> Sequence[Section]:
        """Sections that this guest brings along, besides those made by plugins."""
        return ()

    def blockers(self) -> Sequence[Blocker]:
        """What forbids moving this guest at the moment; asked before it is touched."""
        return ()

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether the guest's processors run."""

    @abstractmethod
    async def pause(self) -> None:
        """Stop the processors: after the return nothing writes to RAM or to device state.

        The disks refuse writes soon afterwards; what was written before that is still copied.

        Cancellation: shielded by the engine, for ``guest_timeout_s``; all of it is downtime.
        """

    @abstractmethod
    async def resume(self) -> None:
        """Let the processors run; the disks are active. Never called on both sides of a migration.

        Cancellation: shielded by the engine, for ``guest_timeout_s``.
        """

    def throttle(self, percent: int) -> None:
        """Withhold a share of their time from the processors, until told otherwise.

        Called on the source while the guest runs, and with 0 at the end of every migration that
        has called it. Must be quick.

        Args:
            percent: From 1 to 99; 0 lets the guest run at full speed.
        """

    async def wake(self) -> None:
        """Wake a machine that sleeps, so that it can be paused; called before it is handed over."""

    def announce(self) -> None:
        """Tell the network where the guest is now; called a few times after it has arrived.

        Must be quick, and send one packet for each network card at most.
        """

    def report(self) -> dict[str, str | int | float | bool | None]:
        """What the guest says of itself when its host stops; called while it is paused.

        May take seconds (a consistency check); runs in a worker thread.
        """
        return {}

    # As a destination. The defaults suit a machine that was built before the stream arrives.

    def configure(self, configuration: Configuration) -> None:
        """Compare this machine with the source's, or, if it accepts any, become it.

        Raises:
            RemoteError: The source is another machine.
        """
        if configuration.machine != self.machine:
            raise RemoteError(
                "the source is another machine",
                section="configuration",
                offset=configuration.offset,
                expected=f"machine type {self.machine!r}",
                found=f"{configuration.machine!r}",
            )
        if configuration.page_size != self.page_size:
            raise RemoteError(
                "the source has another page size",
                section="configuration",
                offset=configuration.offset,
                expected=f"{self.page_size} bytes",
                found=f"{configuration.page_size} bytes",
            )
        if None not in (self.uuid, configuration.uuid) and self.uuid != configuration.uuid:
            raise RemoteError(
                "the source has another UUID",
                section="configuration",
                offset=configuration.offset,
                expected=self.uuid.hex() if self.uuid else "none",
                found=configuration.uuid.hex() if configuration.uuid else "none",
            )

    def attach_ram_block(self, idstr: str, used_length: int) -> RAMBlock:
        """The block that the source calls ``idstr``, resized to ``used_length`` bytes.

        Raises:
            RemoteError: There is none, or it cannot have that length.
        """
        for block in self.ram_blocks():
            if block.idstr == idstr:
                block.resize(used_length)
                return block
        raise RemoteError(
            f"the source has a RAM block {idstr!r} that this machine lacks",
            expected=" or ".join(repr(block.idstr) for block in self.ram_blocks()),
            found=repr(idstr),
        )

    def attach_disk(self, name: str) -> Disk:
        """The disk that the source calls ``name``.

        Raises:
            RemoteError: There is none.
        """
        for disk in self.disks():
            if disk.name == name:
                return disk
        raise RemoteError(
            f"the source has a disk {name!r} that this machine lacks",
            expected=" or ".join(repr(disk.name) for disk in self.disks()) or "no disks",
            found=repr(name),
        )

    def add_device_records(self, records: Sequence[DeviceRecord]) -> None:
        """Take device sections that no section here knows; only called if it accepts any."""
        raise NotImplementedError

    def set_description(self, text: bytes) -> None:
        """Take the VMDESCRIPTION that came with those, as it came."""

    async def prepare(self) -> None:
        """Everything has loaded: make sure that it outlives this process, if it is to.

        Called before the destination tells the source that it has the guest. May block long
        (a checkpoint is written to disk); must not make the result look complete yet.
        """

    async def commit(self) -> None:
        """The source has given the guest up: it is ours."""

    async def discard(self) -> None:
        """The migration failed before that: forget what was loaded."""

    async def keep_unconfirmed(self) -> str:
        """The channel broke when the source may have given the guest up: keep it, do not run it.

        Returns:
            Where it is, for the operator.
        """
        return "the guest is here, paused"
