"""Capabilities: all that QEMU 10.0 knows, and those of them that can be switched on here."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from transship.abc.settings import Capability
from transship.control.errors import generic
from transship.control.qapi.declaring import Object
from transship.control.registry import CommandTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.control.registry import Context

TABLE = CommandTable()


class MigrationCapability(enum.Enum):
    """QEMU's capabilities, in its order, and ``block``, which QEMU had up to 9.0."""

    XBZRLE = "xbzrle"
    RDMA_PIN_ALL = "rdma-pin-all"
    AUTO_CONVERGE = "auto-converge"
    ZERO_BLOCKS = "zero-blocks"
    EVENTS = "events"
    POSTCOPY_RAM = "postcopy-ram"
    X_COLO = "x-colo"
    RELEASE_RAM = "release-ram"
    RETURN_PATH = "return-path"
    PAUSE_BEFORE_SWITCHOVER = "pause-before-switchover"
    MULTIFD = "multifd"
    DIRTY_BITMAPS = "dirty-bitmaps"
    POSTCOPY_BLOCKTIME = "postcopy-blocktime"
    LATE_BLOCK_ACTIVATE = "late-block-activate"
    X_IGNORE_SHARED = "x-ignore-shared"
    VALIDATE_UUID = "validate-uuid"
    BACKGROUND_SNAPSHOT = "background-snapshot"
    ZERO_COPY_SEND = "zero-copy-send"
    POSTCOPY_PREEMPT = "postcopy-preempt"
    SWITCHOVER_ACK = "switchover-ack"
    DIRTY_LIMIT = "dirty-limit"
    MAPPED_RAM = "mapped-ram"
    BLOCK = "block"


_POSTCOPY: Final = "there is no postcopy yet"

LACKING: Final[Mapping[MigrationCapability, str]] = {
    MigrationCapability.POSTCOPY_RAM: _POSTCOPY,
    MigrationCapability.X_COLO: "there is no lock-step replication",
    MigrationCapability.RELEASE_RAM: _POSTCOPY,
    MigrationCapability.POSTCOPY_BLOCKTIME: _POSTCOPY,
    MigrationCapability.LATE_BLOCK_ACTIVATE: "disks are activated with the guest, always",
    MigrationCapability.X_IGNORE_SHARED: "all RAM is sent",
    MigrationCapability.VALIDATE_UUID: "a guest's UUID is sent and compared whenever it has one",
    MigrationCapability.BACKGROUND_SNAPSHOT: "a snapshot is taken of a paused guest",
    MigrationCapability.ZERO_COPY_SEND: "memory is sent through the kernel's buffers",
    MigrationCapability.POSTCOPY_PREEMPT: _POSTCOPY,
    MigrationCapability.SWITCHOVER_ACK: "a destination is always asked before the hand-over",
    MigrationCapability.DIRTY_LIMIT: "auto-converge is what slows a guest down",
}
"""Why a capability cannot be switched on; those that are not here can be."""


class CapabilityStatus(Object):
    """A capability, and whether it is on."""

    capability: MigrationCapability
    state: bool


class SetCapabilities(Object):
    """What to switch on or off; of two entries for one capability the later counts."""

    capabilities: list[CapabilityStatus]


@TABLE.command("migrate-set-capabilities")
async def set_capabilities(context: Context, arguments: SetCapabilities) -> None:
    """Switch capabilities on and off, all of them or none."""
    change_capabilities(context, {one.capability: one.state for one in arguments.capabilities})


def change_capabilities(context: Context, changes: Mapping[MigrationCapability, bool]) -> None:
    """Switch capabilities, all of them or none.

    Raises:
        CommandError: One of them does not exist here.
        BlockedError: A migration is under way, or they exclude each other.
    """
    for capability, is_on in changes.items():
        if is_on and capability in LACKING:
            raise generic(
                f"capability {capability.value!r} is not available: {LACKING[capability]}"
            )
    if changes.get(MigrationCapability.AUTO_CONVERGE) and not context.host.guest.can_throttle:
        raise generic(
            "capability 'auto-converge' is not available: the guest cannot be slowed down"
        )
    context.host.set_capabilities({one.value: is_on for one, is_on in changes.items()})


@TABLE.command("query-migrate-capabilities")
async def query_capabilities(context: Context) -> list[CapabilityStatus]:
    """All capabilities, in QEMU's order."""
    has = context.host.settings.has
    return [CapabilityStatus(one, has(one.value)) for one in MigrationCapability]


assert {one.value for one in MigrationCapability if one not in LACKING} == set(Capability)
