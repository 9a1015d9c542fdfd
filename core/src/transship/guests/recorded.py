"""RecordedGuest: takes the state of any machine, whatever it is, and never runs it."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from transship.abc.guest import DeviceRecord, DirtyLog, Guest
from transship.errors import LocalError, RemoteError
from transship.guests.nolog import NoDirtyLog
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.wire.events import Configuration

B = TypeVar("B", bound=RAMBlock)


class RecordedGuest(Guest, Generic[B]):
    """What a checkpoint folder and a guest that is only looked at have in common.

    Args:
        max_ram_bytes: How much RAM is accepted.

    Attributes:
        records: Device sections that have arrived.
    """

    machine = ""
    accepts_any = True

    def __init__(self, max_ram_bytes: int) -> None:
        self.records: list[DeviceRecord] = []
        self._max_ram_bytes = max_ram_bytes
        self._blocks: list[B] = []

    def configure(self, configuration: Configuration) -> None:
        """Become the machine that the source is."""
        self.machine = configuration.machine
        self.page_size = configuration.page_size
        self.uuid = configuration.uuid

    def attach_ram_block(self, idstr: str, used_length: int) -> B:
        """Make room for a block.

        Raises:
            RemoteError: It is there already with another length, has no whole pages, or is
                beyond what is accepted.
            LocalError: There is no room.
        """
        known = next((block for block in self._blocks if block.idstr == idstr), None)
        if known is not None and known.used_length == used_length:
            return known
        if known is not None or used_length <= 0 or used_length % self.page_size:
            raise RemoteError(
                f"RAM block {idstr!r} cannot be taken",
                expected=f"a new name, and whole pages of {self.page_size} bytes",
                found=f"{used_length} bytes" + (", a known name" if known else ""),
            )
        total = used_length + sum(block.used_length for block in self._blocks)
        if total > self._max_ram_bytes:
            raise RemoteError(
                f"RAM block {idstr!r} is beyond what is accepted",
                expected=f"at most {self._max_ram_bytes} bytes of RAM",
                found=f"{total} bytes",
            )
        self._blocks.append(self._make_block(idstr, used_length))
        return self._blocks[-1]

    @abstractmethod
    def _make_block(self, idstr: str, length: int) -> B:
        """Room for a block of ``length`` bytes, all zero.

        Raises:
            LocalError: There is none.
        """

    def add_device_records(self, records: Sequence[DeviceRecord]) -> None:
        """Take device sections, in stream order."""
        self.records += records

    def ram_blocks(self) -> Sequence[B]:
        """In stream order."""
        return self._blocks

    def dirty_log(self) -> DirtyLog:
        """One that never logs: nothing writes here."""
        return NoDirtyLog()

    @property
    def is_running(self) -> bool:
        """Never."""
        return False

    async def pause(self) -> None:
        """Do nothing: it does not run."""

    async def resume(self) -> None:
        """Refuse: this has no processors, and a guest that seems to run would be a lie.

        Raises:
            LocalError: Always.
        """
        raise LocalError("a recorded machine cannot run", hint="send it to one that can")

    def close(self) -> None:
        """Give the memory back; idempotent. What is still looked at goes with its last view."""
        for block in self._blocks:
            with suppress(BufferError):
                block.close()
        self._blocks = []
