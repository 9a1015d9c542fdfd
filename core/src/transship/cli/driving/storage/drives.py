"""The disks of two machines, and which belongs to which. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from transship.errors import BlockedError
from transship.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transship.cli.driving.peer import Peer
    from transship.cli.driving.storage.order import StorageOrder


class _BackingImage(msgspec.Struct, frozen=True, rename="kebab"):
    virtual_size: int


class _Image(msgspec.Struct, frozen=True, rename="kebab"):
    virtual_size: int
    backing_image: _BackingImage | None = None


class _Inserted(msgspec.Struct, frozen=True, rename="kebab"):
    image: _Image
    node_name: str = ""
    ro: bool = False


class Drive(msgspec.Struct, frozen=True, rename="kebab"):
    """A drive of a machine, as ``query-block`` has it."""

    device: str = ""
    qdev: str = ""
    inserted: _Inserted | None = None

    @property
    def name(self) -> str:
        """What people call it: its drive's name, or its device's if it has none."""
        return self.device or self.qdev

    @property
    def node(self) -> str:
        """The node at the top of what is inserted."""
        return self.inserted.node_name if self.inserted else ""

    @property
    def is_writable(self) -> bool:
        """Whether something is inserted that the guest can write."""
        return self.inserted is not None and not self.inserted.ro

    @property
    def size_bytes(self) -> int:
        """How large it is for the guest."""
        return self.inserted.image.virtual_size if self.inserted else 0

    @property
    def backing_bytes(self) -> int | None:
        """How large its backing file is for the guest; None if it has none."""
        if self.inserted is None or self.inserted.image.backing_image is None:
            return None
        return self.inserted.image.backing_image.virtual_size

    def is_called(self, name: str) -> bool:
        """Whether somebody who says this name means it."""
        return name in (self.device, self.qdev, self.node)

    def belongs_to(self, other: Drive) -> bool:
        """Whether it is the same drive, or the same device, of another machine."""
        return bool(self.device and self.device == other.device) or bool(
            self.qdev and self.qdev == other.qdev
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """A disk on the source, and where it is to be copied.

    Args:
        number: Counts the pairs of a copy.
        source: The disk.
        destination: The disk of the other machine that is to become the same.
    """

    number: int
    source: Drive
    destination: Drive


async def pair_disks(source: Peer, destination: Peer, order: StorageOrder) -> list[Pair]:
    """Find the disks that are to be copied, and where to.

    Raises:
        BlockedError: There are none, or the two machines do not have the same.
    """
    here = _chosen(await source.ask("query-block", list[Drive]), order.disks, source)
    there = await destination.ask("query-block", list[Drive])
    pairs: list[Pair] = []
    faults: list[str] = []
    for disk in here:
        match = next((one for one in there if disk.belongs_to(one)), None)
        if match is None:
            known = ", ".join(one.name for one in there) or "none"
            faults.append(f"{disk.name} is not there (it has {known})")
            continue
        faults += [f"{disk.name} {fault}" for fault in _faults(disk, match, order)]
        pairs.append(Pair(len(pairs), disk, match))
    if faults:
        raise BlockedError(
            f"{destination.address} does not have the disks of {source.address}",
            found="; ".join(faults),
            hint="the destination needs the same drives, with images of the same size; --disk "
            "names those that are to be copied, where both sides reach the others",
        )
    return pairs


def _chosen(disks: Sequence[Drive], names: Sequence[str], source: Peer) -> list[Drive]:
    writable = [disk for disk in disks if disk.is_writable]
    known = ", ".join(disk.name for disk in writable) or "none"
    for name in names:
        if not any(disk.is_called(name) for disk in writable):
            raise BlockedError(
                f"{source.address} has no disk {name!r} that its guest can write",
                hint=f"it has {known}",
            )
    if not writable:
        raise BlockedError(
            f"{source.address} has no disk that its guest can write",
            hint="there is nothing to copy: leave --copy-storage out",
        )
    if not names:
        return writable
    return [disk for disk in writable if any(disk.is_called(name) for name in names)]


def _faults(disk: Drive, match: Drive, order: StorageOrder) -> Iterator[str]:
    """Why a disk cannot become the same as another."""
    if match.inserted is None:
        yield "is empty there"
        return
    if not match.is_writable:
        yield "is read-only there"
    if match.size_bytes != disk.size_bytes:
        yield f"has {_size(disk.size_bytes)} here and {_size(match.size_bytes)} there"
    if order.is_incremental and match.backing_bytes != disk.backing_bytes:
        yield f"has {_backing(disk)} here and {_backing(match)} there"


def _size(size_bytes: int) -> str:
    return f"{format_size(size_bytes)} ({size_bytes} bytes)"


def _backing(disk: Drive) -> str:
    if disk.backing_bytes is None:
        return "no backing file"
    return f"a backing file of {_size(disk.backing_bytes)}"
