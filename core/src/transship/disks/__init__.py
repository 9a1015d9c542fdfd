"""Disks that the core brings along: raw images, the lock on them, and views of a guest's disks."""

from __future__ import annotations

from transship.disks.raw import RawImage
from transship.disks.views import GuestView, LoadView

__all__ = ["GuestView", "LoadView", "RawImage"]
