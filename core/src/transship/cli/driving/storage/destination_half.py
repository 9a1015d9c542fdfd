"""The destination's half of a copy: its disks, exported over NBD."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from transship.cli.driving.storage.remains import PREFIX, clear_exports, exports_of
from transship.control.client import QmpCommandError
from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.cli.driving.peer import Peer
    from transship.cli.driving.storage.drives import Pair
    from transship.control.address import QmpAddress


class DestinationHalf:
    """An NBD server on the destination, which somebody may write to.

    Args:
        peer: The destination.
        address: Where it is to listen.
        prefix: How the names of its exports begin.
    """

    def __init__(self, peer: Peer, address: QmpAddress, prefix: str) -> None:
        self._peer = peer
        self._address = address
        self._prefix = prefix
        self._may_listen = False

    async def start(self, tls: Mapping[str, str]) -> None:
        """Have it listen.

        A server without any export is taken for one that an earlier copy has left.

        Raises:
            BlockedError: The destination serves something else.
            QmpError: It does not do it.
        """
        await clear_exports(self._peer, PREFIX)
        if others := await exports_of(self._peer):
            raise BlockedError(
                f"{self._peer.address} exports disks already",
                found=", ".join(one.id for one in others),
                hint="it has one NBD server, at one address: end the other export first",
            )
        with suppress(QmpCommandError):  # it had none
            await self._peer.client.execute("nbd-server-stop")
        self._may_listen = True
        await self._peer.client.execute("nbd-server-start", addr=_nested(self._address), **tls)

    async def export(self, pair: Pair) -> None:
        """Let a disk be written there, under the name that the source's half knows."""
        name = f"{self._prefix}{pair.number}"
        await self._peer.client.execute(
            "block-export-add",
            type="nbd",
            id=name,
            name=name,
            node_name=pair.destination.node,
            writable=True,
        )

    async def stop(self) -> None:
        """End the exports and the server; nobody writes to the disks then but their guest.

        Raises:
            QmpError: The destination does not do it.
            StalledError: An export does not end.
        """
        if not self._may_listen:
            return
        await clear_exports(self._peer, self._prefix)
        if not await exports_of(self._peer):
            with suppress(QmpCommandError):  # it had not come about
                await self._peer.client.execute("nbd-server-stop")
        self._may_listen = False


def _nested(address: QmpAddress) -> dict[str, Any]:
    """An address as ``nbd-server-start`` takes it."""
    if address.path:
        return {"type": "unix", "data": {"path": address.path}}
    return {"type": "inet", "data": {"host": address.host, "port": str(address.port)}}
