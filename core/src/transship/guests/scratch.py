"""ScratchGuest: takes the state of any machine into memory, to be looked at, and forgets it."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from transship.abc.guest import DeviceRecord, DirtyLog, Guest
from transship.errors import LocalError, RemoteError
from transship.guests.nolog import NoDirtyLog
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.wire.events import Configuration


def physical_memory_bytes() -> int:
    """RAM of this computer."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class ScratchBlock(RAMBlock):
    """Memory that costs something only where something came, and that knows where that was.

    Whoever loads into a block reserves the pages that it writes, and asks for the holes among
    those that are to be zero; so every page that comes is noticed here.
    """

    def __init__(self, idstr: str, mapping: mmap.mmap, *, page_size: int) -> None:
        super().__init__(idstr, mapping, page_size=page_size)
        self._is_hole = bytearray(b"\x01" * self.pages)
        self._has_come = bytearray(self.pages)

    @classmethod
    def make(cls, idstr: str, length: int, page_size: int) -> ScratchBlock:
        """A block of ``length`` bytes, all zero.

        Raises:
            OSError: There are no such stretches of addresses left.
        """
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        return cls(idstr, mmap.mmap(-1, length, flags=flags), page_size=page_size)

    @property
    def is_whole(self) -> bool:
        """Whether every page has come at least once."""
        return 0 not in self._has_come

    def reserve(self, first: int, count: int) -> None:
        """Pages are about to be written."""
        self._is_hole[first : first + count] = bytes(count)
        self._has_come[first : first + count] = b"\x01" * count

    def find_holes(self, first: int, count: int) -> bytes:
        """Find the pages that nothing was ever written to, among some that are to be zero."""
        self._has_come[first : first + count] = b"\x01" * count
        return bytes(self._is_hole[first : first + count])


class ScratchGuest(Guest):
    """Holds whatever arrives. Memory is used only for pages that are not zero.

    Args:
        max_ram_bytes: How much RAM is accepted; as much as this computer has, if None.

    Attributes:
        records: Device sections that have arrived.
    """

    machine = ""
    accepts_any = True

    def __init__(self, max_ram_bytes: int | None = None) -> None:
        self.records: list[DeviceRecord] = []
        self._max_ram_bytes = physical_memory_bytes() if max_ram_bytes is None else max_ram_bytes
        self._blocks: dict[str, ScratchBlock] = {}

    def configure(self, configuration: Configuration) -> None:
        """Become the machine that the source is.

        Raises:
            RemoteError: It enabled a capability that changes what is in the stream.
        """
        if configuration.capabilities:
            raise RemoteError(
                "the source enabled capabilities that change the stream",
                section="configuration",
                offset=configuration.offset,
                expected="none",
                found=", ".join(configuration.capabilities),
            )
        self.machine = configuration.machine
        self.page_size = configuration.page_size
        self.uuid = configuration.uuid

    def attach_ram_block(self, idstr: str, used_length: int) -> ScratchBlock:
        """Make room for a block.

        Raises:
            RemoteError: It is there already with another length, has no whole pages, or is
                beyond what is accepted.
        """
        known = self._blocks.get(idstr)
        if known is not None and known.used_length == used_length:
            return known
        if known is not None or used_length <= 0 or used_length % self.page_size:
            raise RemoteError(
                f"RAM block {idstr!r} cannot be",
                expected=f"a new name, and whole pages of {self.page_size} bytes",
                found=f"{used_length} bytes" + (", a known name" if known else ""),
            )
        total = used_length + sum(block.used_length for block in self._blocks.values())
        if total > self._max_ram_bytes:
            raise RemoteError(
                f"RAM block {idstr!r} is beyond what is accepted",
                expected=f"at most {self._max_ram_bytes} bytes of RAM",
                found=f"{total} bytes",
            )
        try:
            block = ScratchBlock.make(idstr, used_length, self.page_size)
        except (OSError, OverflowError, ValueError) as error:
            raise LocalError(
                f"there is no memory for RAM block {idstr!r}",
                expected=f"{used_length} bytes",
                found=str(error),
            ) from error
        self._blocks[idstr] = block
        return block

    def add_device_records(self, records: Sequence[DeviceRecord]) -> None:
        """Keep device sections."""
        self.records += records

    def ram_blocks(self) -> Sequence[ScratchBlock]:
        """Those that have arrived, in order."""
        return list(self._blocks.values())

    def dirty_log(self) -> DirtyLog:
        """One that never logs."""
        return NoDirtyLog()

    @property
    def is_running(self) -> bool:
        """Never."""
        return False

    async def pause(self) -> None:
        """Do nothing: it does not run."""

    async def resume(self) -> None:
        """Refuse.

        Raises:
            LocalError: Always.
        """
        raise LocalError("what is only looked at cannot run")

    async def discard(self) -> None:
        """Forget everything."""
        self.close()

    def close(self) -> None:
        """Give the memory back; memory still looked at goes with its last view."""
        for block in self._blocks.values():
            with suppress(BufferError):
                block.close()
        self._blocks = {}
        self.records = []
