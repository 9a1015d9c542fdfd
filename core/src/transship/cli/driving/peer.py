"""Who has the guest: the commands of a migration, typed, and what it answers.

Members that a peer does not know, and members that we do not know, are no error: releases differ.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from transship.control.client import (
    QmpClosedError,
    QmpCommandError,
    QmpConnectError,
    QmpError,
    QmpTimeoutError,
    open_qmp,
)
from transship.errors import (
    BlockedError,
    ConnectError,
    MigrationError,
    PeerClosedError,
    RemoteError,
    StalledError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from transship.control.address import QmpAddress
    from transship.control.client import QmpClient

T = TypeVar("T")

_GREETING_S: Final = 5.0
"""A QEMU greets at once, unless another client holds its socket."""

NEVER: Final = "none"
"""Status of a machine that has not migrated yet; a QEMU does not say it, it says nothing."""

BEFORE_SWITCHOVER: Final = "pre-switchover"
"""Status of a migration whose guest stands still, and that waits to be told to go on."""

ENDED: Final = frozenset({"completed", "failed", "cancelled"})


class Ram(msgspec.Struct, frozen=True, rename="kebab"):
    """``ram`` of ``query-migrate``."""

    transferred: int = 0
    remaining: int = 0
    total: int = 0
    duplicate: int = 0
    normal: int = 0
    mbps: float = 0.0
    dirty_sync_count: int = 0
    dirty_pages_rate: int = 0
    page_size: int = 4096


class Disk(msgspec.Struct, frozen=True):
    """``disk`` of ``query-migrate``, while disks are copied."""

    transferred: int = 0
    remaining: int = 0
    total: int = 0


class Received(msgspec.Struct, frozen=True, rename="kebab"):
    """``received`` of ``query-migrate``, which our own destinations have."""

    transferred: int = 0
    total: int = 0


class MigrationInfo(msgspec.Struct, frozen=True, rename="kebab"):
    """``query-migrate``; times in milliseconds."""

    status: str = NEVER
    ram: Ram | None = None
    disk: Disk | None = None
    received: Received | None = None
    total_time: int | None = None
    setup_time: int | None = None
    downtime: int | None = None
    cpu_throttle_percentage: int | None = None
    error_desc: str | None = None
    blocked_reasons: list[str] = []
    socket_address: list[dict[str, Any]] = []

    @property
    def is_under_way(self) -> bool:
        """Whether there is one that has not ended; a word that we do not know is no end."""
        return self.status not in ENDED and self.status != NEVER


class StatusInfo(msgspec.Struct, frozen=True):
    """``query-status``."""

    status: str
    running: bool


class _Capability(msgspec.Struct, frozen=True):
    capability: str
    state: bool


class Limits(msgspec.Struct, frozen=True, rename="kebab"):
    """What ``query-migrate-parameters`` says of the two limits that decide."""

    max_bandwidth: int = 0
    downtime_limit: int = 300
    avail_switchover_bandwidth: int = 0

    @property
    def cap_bytes_per_s(self) -> int | None:
        """The cap of the send rate; None if there is none."""
        return self.max_bandwidth if 0 < self.max_bandwidth < 1 << 63 else None

    @property
    def downtime_limit_s(self) -> float:
        """How long the guest may stand still."""
        return self.downtime_limit / 1000


class Peer:
    """Whoever answers on a QMP connection."""

    def __init__(self, client: QmpClient) -> None:
        self.client = client

    @property
    def address(self) -> QmpAddress:
        return self.client.address

    @property
    def version(self) -> str:
        """What it is, for people; empty if it does not say."""
        if self.client.package.startswith("transship "):
            return self.client.package
        return f"QEMU {self.client.version}" if self.client.version else ""

    async def status(self) -> StatusInfo:
        """What the guest does."""
        return await self.ask("query-status", StatusInfo)

    async def migration(self) -> MigrationInfo:
        """Where the migration is."""
        return await self.ask("query-migrate", MigrationInfo)

    async def capabilities(self) -> dict[str, bool]:
        """All capabilities that it knows, and whether they are on."""
        known = await self.ask("query-migrate-capabilities", list[_Capability])
        return {one.capability: one.state for one in known}

    async def parameters(self) -> dict[str, Any]:
        """All parameters that it knows."""
        return await self.ask("query-migrate-parameters", dict[str, Any])

    async def limits(self) -> Limits:
        """The limits in force."""
        return await self.ask("query-migrate-parameters", Limits)

    async def set_capabilities(self, capabilities: Mapping[str, bool]) -> None:
        """Switch capabilities on and off, all or none."""
        states = [{"capability": name, "state": state} for name, state in capabilities.items()]
        await self.client.execute("migrate-set-capabilities", capabilities=states)

    async def set_parameters(self, parameters: Mapping[str, object]) -> None:
        """Set parameters, all or none."""
        await self.client.execute("migrate-set-parameters", **parameters)

    async def migrate(
        self, uri: str, channel: Mapping[str, object] | None = None, disks: str | None = None
    ) -> None:
        """Begin to move the guest away: to a channel if there is one, else to a URI.

        Args:
            uri: Where to.
            channel: The same as ``channels`` have it.
            disks: The argument that lets the disks go along, if they are to.
        """
        how = {} if disks is None else {disks: True}
        if channel is None:
            await self.client.execute("migrate", uri=uri, **how)
        else:
            await self.client.execute("migrate", channels=[channel], **how)

    async def go_on(self) -> None:
        """Let a migration go on that waits before its switchover."""
        await self.client.execute("migrate-continue", state=BEFORE_SWITCHOVER)

    async def cancel(self, info: MigrationInfo) -> None:
        """Ask for the end of the migration; without effect if there is none.

        Args:
            info: What is known of it, as new as can be.

        Raises:
            QmpCommandError: It is in postcopy. A QEMU 7.2 would obey, and leave a guest on the
                destination without the rest of its memory.
        """
        if info.status.startswith("postcopy"):
            raise QmpCommandError(
                "migrate_cancel",
                "GenericError",
                f"a migration in {info.status} cannot be cancelled",
            )
        await self.client.execute("migrate_cancel")

    async def ask(self, command: str, kind: type[T], **arguments: object) -> T:
        """Give a command whose answer is of a kind that is known.

        Raises:
            RemoteError: It is not.
            QmpError: There is none.
        """
        answer = await self.client.execute(command, **arguments)
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise RemoteError(
                f"{self.address} answered {command} unlike a QEMU", found=str(error)
            ) from error


@asynccontextmanager
async def reach(address: QmpAddress, *, overtakes: bool = False) -> AsyncIterator[Peer]:
    """Connect to a peer.

    Args:
        address: Whom.
        overtakes: Whether it is to carry out some commands although it hangs in others.

    Raises:
        MigrationError: It cannot be reached; or the connection was lost inside, or a command
            refused, and nobody there knew better what that means.
    """
    try:
        async with open_qmp(address, timeout_s=_GREETING_S, overtakes=overtakes) as client:
            yield Peer(client)
    except QmpError as error:
        raise refusal_of(error) from error


def refusal_of(error: QmpError) -> MigrationError:
    """What a broken conversation means as long as nothing has been started in it."""
    match error:
        case QmpCommandError():
            is_said = error.error_class != "GenericError"  # which says nothing
            return BlockedError(str(error), found=error.error_class if is_said else None)
        case QmpConnectError():
            return ConnectError(str(error))
        case QmpClosedError():
            return PeerClosedError(str(error))
        case QmpTimeoutError():
            return StalledError(str(error))
        case _:
            return RemoteError(str(error))
