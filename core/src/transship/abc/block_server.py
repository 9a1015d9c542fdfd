"""What lets others have block devices: a server, to which exports come and from which they go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transship.abc.disk import BlockDevice


class BlockServer(ABC):
    """A server that listens; what it exports changes meanwhile.

    An author of a kind of disks implements it.
    """

    @abstractmethod
    def export(self, name: str, device: BlockDevice, *, is_writable: bool) -> None:
        """Let clients have a device from now on, under a name that is not in use.

        Args:
            name: What clients ask for.
            device: Called in worker threads, by several at once; stays the caller's.
            is_writable: Whether clients may write; only if the device can be written.
        """

    @abstractmethod
    def is_used(self, name: str) -> bool:
        """Whether a client has an export."""

    @abstractmethod
    async def withdraw(self, name: str) -> None:
        """Let no client have an export any more; returns when nobody has it. Idempotent.

        Requests that have begun are done first, the clients' connections are closed.

        Cancellation: no client gets it anew; some may have it for a moment.
        """


Serving = AbstractAsyncContextManager[BlockServer]
"""Listens when entered, raising ``ConnectError``; serves nobody when left, and leaves nothing
behind, not even a socket file."""
