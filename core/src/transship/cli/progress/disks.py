"""How far a copy of disks is, for people and for programs. Knows neither QMP nor clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transship.units import counted, format_rate, format_size


@dataclass(frozen=True, slots=True)
class DiskProgress:
    """How far the copy of one disk is.

    Args:
        name: The disk.
        copied_bytes: All that was copied; what the guest writes again counts again.
        total_bytes: The same, and what is left.
        is_ready: Whether it is in step with the disk, and only follows the guest's writes.
    """

    name: str
    copied_bytes: int
    total_bytes: int
    is_ready: bool


@dataclass(frozen=True, slots=True)
class StorageProgress:
    """How far a copy of several disks is.

    Args:
        disks: They.
        took_s: Since the copy began.
    """

    disks: tuple[DiskProgress, ...] = ()
    took_s: float = 0.0

    @property
    def copied_bytes(self) -> int:
        """All that was copied."""
        return sum(disk.copied_bytes for disk in self.disks)

    @property
    def total_bytes(self) -> int:
        """The same, and what is left."""
        return sum(disk.total_bytes for disk in self.disks)

    @property
    def done(self) -> float:
        """How much of it is done, from 0 to 1."""
        return min(self.copied_bytes / self.total_bytes, 1.0) if self.total_bytes else 0.0

    @property
    def is_ready(self) -> bool:
        """Whether all disks are in step."""
        return all(disk.is_ready for disk in self.disks)

    def facts(self) -> dict[str, Any]:
        """It as plain data."""
        return {
            "took_s": round(self.took_s, 3),
            "copied_bytes": self.copied_bytes,
            "total_bytes": self.total_bytes,
            "disks": [
                {
                    "name": disk.name,
                    "copied_bytes": disk.copied_bytes,
                    "total_bytes": disk.total_bytes,
                    "is_ready": disk.is_ready,
                }
                for disk in self.disks
            ],
        }

    def text(self) -> str:
        """It for people."""
        parts = [f"{format_size(self.copied_bytes)} of {format_size(self.total_bytes)} of disks"]
        if self.took_s > 0:
            parts.append(f"copies {format_rate(self.copied_bytes / self.took_s)}")
        ready = sum(disk.is_ready for disk in self.disks)
        parts.append(f"{ready} of {counted(len(self.disks), 'disk', 'disks')} in step")
        return " · ".join(parts)
