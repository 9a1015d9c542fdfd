"""A disk of a synthetic guest: what writes to it, and what travels of that."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from transship.abc.guest import Device
from transship.guests.diskpattern import BLOCK, DiskTraits
from transship.wire.fields import VMState, uint64

if TYPE_CHECKING:
    from transship.abc.disk import Disk


class DiskWriter:
    """Writes to one disk at each tick of its guest.

    Args:
        disk: Where to.
        traits: What, and how fast.
    """

    def __init__(self, disk: Disk, traits: DiskTraits) -> None:
        self.disk = disk
        self.traits = traits

    def tick(self, counter: int) -> None:
        """Write what belongs to this counter; when this returns, it may be relied on."""
        for block, content in self.traits.written_by(counter):
            self.disk.write(block * BLOCK, content)

    def first_wrong_block(self, counter: int) -> int | None:
        """The first block that is not as it must be, or None."""
        return self.traits.first_wrong_block(self.disk.read_into, counter)

    def device(self, number: int) -> Device:
        """What travels of it with the guest's devices."""
        return Device("synthetic-disk", _DESCRIPTION, _State(self), instance_id=number)


class _State:
    """Copied from the writer to be saved, adopted after loading."""

    seed: int
    size_bytes: int
    rate_bytes_per_s: int
    tick_ns: int
    working_bytes: int

    def __init__(self, writer: DiskWriter) -> None:
        self._writer = writer
        self.copy()

    def copy(self) -> None:
        for one in dataclasses.fields(DiskTraits):
            setattr(self, one.name, getattr(self._writer.traits, one.name))

    def adopt(self) -> None:
        """Go on as the source would have.

        Raises:
            ValueError: The disk is another.
        """
        disk = self._writer.disk
        if self.size_bytes != disk.size_bytes:
            raise ValueError(
                f"disk {disk.name!r} has {disk.size_bytes} bytes here, {self.size_bytes} there"
            )
        names = [one.name for one in dataclasses.fields(DiskTraits)]
        self._writer.traits = DiskTraits(*(getattr(self, name) for name in names))


_DESCRIPTION: Final = VMState(
    "synthetic-disk",
    version_id=1,
    minimum_version_id=1,
    fields=[
        uint64("seed"),
        uint64("size_bytes"),
        uint64("rate_bytes_per_s"),
        uint64("tick_ns"),
        uint64("working_bytes"),
    ],
    pre_save=lambda state: state.copy(),
    post_load=lambda state, version_id: state.adopt(),
)
