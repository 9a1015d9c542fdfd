"""What is to be done before a migration begins: look, refuse, set, and say what is in force."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from transship.cli.settings import MAX_BANDWIDTH, check_encrypts
from transship.control.client import QmpCommandError
from transship.errors import BlockedError
from transship.units import format_rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transship.cli.driving.peer import Limits, Peer
    from transship.cli.driving.storage.order import StorageOrder
    from transship.cli.settings import Value
    from transship.control.address import QmpAddress


@dataclass(frozen=True, slots=True)
class Order:
    """A migration that is asked for.

    Args:
        address: QMP server of the machine that is to leave.
        uri: Where to, as it was typed.
        channel: The same as QMP's ``channels`` have it, if it is no URI.
        capabilities: To be switched before; the others stay as they are.
        parameters: To be set before, in QMP's units; the others stay as they are.
        timeout_s: When to give up; None for never.
        poll_s: Pause between two looks.
        disks: QMP's argument that lets the disks go along, ``blk`` or ``inc``; None for neither.
        storage: How its disks are to be copied beside it; None if they are not.
    """

    address: QmpAddress
    uri: str
    channel: Mapping[str, object] | None
    capabilities: Mapping[str, bool]
    parameters: Mapping[str, Value]
    timeout_s: float | None
    poll_s: float
    disks: str | None = None
    storage: StorageOrder | None = None


async def check(peer: Peer, order: Order) -> None:
    """Make sure that a peer can migrate, and knows what is to be set. Changes nothing.

    Raises:
        BlockedError: It cannot, or does not; or something is to be set that has no effect.
    """
    info = await peer.migration()
    if info.is_under_way:
        raise BlockedError(
            f"{peer.address} is migrating already",
            found=info.status,
            hint="transship watch follows it, transship cancel ends it",
        )
    if info.blocked_reasons:
        raise BlockedError(f"{peer.address} cannot migrate: {'; '.join(info.blocked_reasons)}")
    capabilities = await peer.capabilities()
    _check_known("capability", order.capabilities, capabilities, peer)
    parameters = await peer.parameters()
    _check_known("parameter", order.parameters, parameters, peer)
    check_encrypts(order.parameters, {**parameters, **order.parameters}.get("tls-creds"))
    if order.disks is not None and "block" not in capabilities:
        raise BlockedError(
            f"{peer.address} cannot copy disks within a migration",
            expected="QEMU up to 9.0, or a guest of ours",
            found=peer.version or None,
            hint="--copy-storage copies them beside it",
        )


async def prepare(peer: Peer, order: Order) -> Limits:
    """Set what was asked for. Returns the limits in force.

    Raises:
        QmpCommandError: The peer refuses a setting. All are as they were.
    """
    before = await peer.capabilities()
    if order.capabilities:
        await peer.set_capabilities(order.capabilities)
    if order.parameters:
        try:
            await peer.set_parameters(order.parameters)
        except QmpCommandError:
            if order.capabilities:
                await peer.set_capabilities({name: before[name] for name in order.capabilities})
            raise
    return await peer.limits()


def cap_text(limits: Limits, order: Order) -> str:
    """Say which cap is in force, and how to have another."""
    cap = limits.cap_bytes_per_s
    if cap is None:
        return "no cap on the send rate"
    advice = "" if MAX_BANDWIDTH in order.parameters else " (--bandwidth changes it)"
    return f"cap {format_rate(cap)}{advice}"


def _check_known(kind: str, names: Iterable[str], known: Iterable[str], peer: Peer) -> None:
    """Refuse a name that the peer does not know.

    A parameter that was never set may be missing in what the peer lists; it is left to the peer.
    """
    known = sorted(known)
    for name in names:
        if name in known or name == "block-bitmap-mapping":
            continue
        alike = get_close_matches(name, known, n=1)
        raise BlockedError(
            f"{peer.address} knows no {kind} {name!r}",
            hint=f"{alike[0]}, perhaps?" if alike else f"it knows {', '.join(known)}",
        )
