"""A guest's disk by what operators call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.errors import BlockedError

if TYPE_CHECKING:
    from transship.abc.disk import Disk
    from transship.abc.guest import Guest


def find_disk(guest: Guest, name: str) -> Disk:
    """The disk of that node name, or else of that name.

    Raises:
        BlockedError: The guest has none.
    """
    disks = guest.disks()
    by_name = {disk.name: disk for disk in disks} | {disk.node_name: disk for disk in disks}
    if name in by_name:
        return by_name[name]
    known = ", ".join(disk.node_name for disk in disks)
    raise BlockedError(f"the guest has no disk {name!r}", hint=f"it has: {known or 'none'}")
