"""Disks of a guest: what holds their bytes, and what is to be known of writes to them.

A :class:`BlockDevice` is bytes at places: a raw image, an export of a server, what an embedder has.
A :class:`Disk` is a device that a guest has, under the name by which the stream calls it. It knows
who may write on this side, and logs what the guest writes. Nothing here knows of streams.
"""

from __future__ import annotations

from transship.abc.disk.device import BlockDevice, Extent
from transship.abc.disk.disk import Disk, DiskLoad, DiskState
from transship.abc.disk.log import DiskBitmap, DiskLog

__all__ = [
    "BlockDevice",
    "Disk",
    "DiskBitmap",
    "DiskLoad",
    "DiskLog",
    "DiskState",
    "Extent",
]
