"""The dirty log of a guest that never writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.abc.guest import DirtyLog

if TYPE_CHECKING:
    from transship.memory.bitmap import DirtyBitmap
    from transship.memory.ramblock import RAMBlock


class NoDirtyLog(DirtyLog):
    """Has nothing to log."""

    name = "none"

    def start(self) -> None:
        """Do nothing."""

    def sync(self, block: RAMBlock, bitmap: DirtyBitmap) -> int:
        """Nothing has become dirty."""
        return 0

    def stop(self) -> None:
        """Do nothing."""
