"""What a contestant is: somebody who moves a guest from one process to another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bench.measuring import Move
    from bench.place import Place
    from bench.workloads import Workload

MAIN_STREAM: Final = 0
"""Channels besides the main one, when memory goes over the main one."""


@dataclass(frozen=True)
class Contestant(ABC):
    """One way to move a guest.

    Args:
        channels: Over how many channels memory goes besides that of the stream; 0 for none.
    """

    channels: int = MAIN_STREAM

    @property
    @abstractmethod
    def sides(self) -> str:
        """Who sends to whom."""

    @property
    def name(self) -> str:
        """For results."""
        return f"{self.sides}, {self.setting}"

    def own_bytes(self, work: Workload) -> int:
        """Memory that its guests need besides the place's images."""
        return 2 * work.ram_bytes

    @property
    def setting(self) -> str:
        """How memory goes."""
        return f"multifd {self.channels}" if self.channels else "main stream"

    def obstacle(self, work: Workload, scheme: str) -> str | None:
        """Why it cannot take part in this; None if it can."""
        return None

    @abstractmethod
    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        """Move a fresh guest once, and look whether it arrived.

        Raises:
            Exception: It did not.
        """
