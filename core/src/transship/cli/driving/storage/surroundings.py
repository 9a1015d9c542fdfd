"""What two machines must be, beside having the same disks, before these can be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transship.cli.driving.peer import Peer

PAUSE: Final = "pause-before-switchover"
EVENTS: Final = "events"
"""Without them the guest would stand still until we happen to look."""

_POSTCOPY: Final = "postcopy-ram"

_OF_SOURCE: Final = (
    "blockdev-add",
    "blockdev-mirror",
    "query-jobs",
    "job-dismiss",
    "migrate-continue",
)
_OF_DESTINATION: Final = ("nbd-server-start", "block-export-add", "query-block-exports")


class _Command(msgspec.Struct, frozen=True):
    name: str


class _Encryption(msgspec.Struct, frozen=True, rename="kebab"):
    """What ``query-migrate-parameters`` says of TLS; empty for none."""

    tls_creds: str = ""
    tls_hostname: str = ""
    tls_authz: str = ""


async def check_peers(source: Peer, destination: Peer, capabilities: Mapping[str, bool]) -> None:
    """Refuse a source that cannot mirror, and a destination that cannot export or does not wait.

    Args:
        source: The one.
        destination: The other.
        capabilities: What will be switched at the source.

    Raises:
        BlockedError: One of them.
    """
    await _check_commands(source, _OF_SOURCE)
    await _check_commands(destination, _OF_DESTINATION)
    known = await source.capabilities()
    for name in (PAUSE, EVENTS):
        if name not in known:
            raise BlockedError(f"{source.address} cannot copy disks: it knows no {name}")
    if {**known, **capabilities}.get(_POSTCOPY):
        raise BlockedError(
            f"{source.address} may go on in postcopy",
            hint=f"disks are handed over before the guest is: --cap {_POSTCOPY}=off",
        )
    state = await destination.status()
    if state.status != "inmigrate":
        raise BlockedError(
            f"{destination.address} does not wait for a guest",
            found=state.status,
            hint="one waits that was started with -incoming, or --incoming: its guest must not run "
            "while its disks are written",
        )


async def encryption(source: Peer, destination: Peer) -> tuple[dict[str, str], dict[str, str]]:
    """How the disks' connection is secured: as the migration's own.

    Returns:
        Arguments for the source's end, and for the destination's; empty for none.

    Raises:
        BlockedError: One side encrypts its migration, and the other does not.
    """
    here = await source.ask("query-migrate-parameters", _Encryption)
    there = await destination.ask("query-migrate-parameters", _Encryption)
    if bool(here.tls_creds) != bool(there.tls_creds):
        plain, secured = (destination, source) if here.tls_creds else (source, destination)
        raise BlockedError(
            f"{secured.address} encrypts its migration, and {plain.address} does not",
            hint="set tls-creds on both sides, or on none",
        )
    if not here.tls_creds:
        return {}, {}
    return (
        _given({"tls-creds": here.tls_creds, "tls-hostname": here.tls_hostname}),
        _given({"tls-creds": there.tls_creds, "tls-authz": there.tls_authz}),
    )


async def _check_commands(peer: Peer, wanted: Iterable[str]) -> None:
    known = {one.name for one in await peer.ask("query-commands", list[_Command])}
    if missing := [name for name in wanted if name not in known]:
        raise BlockedError(
            f"{peer.address} cannot copy disks beside a migration",
            found=f"no {', '.join(missing)}",
            hint="QEMU 6.0 and later can" + (f"; this is {peer.version}" if peer.version else ""),
        )


def _given(arguments: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in arguments.items() if value}
