"""What a server exports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transship.abc import BlockDevice


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """A device as clients see it; for a guest's disk, one of the views in ``transship.disks``.

    Args:
        device: What is exported; opened, acquired, released and closed by whoever exports it.
        is_read_only: Whether clients may not write, even if the device could be written.
        description: For people who list the exports.
    """

    device: BlockDevice
    is_read_only: bool = False
    description: str = ""

    @property
    def is_writable(self) -> bool:
        """Whether clients may write."""
        return not (self.is_read_only or self.device.is_read_only)
