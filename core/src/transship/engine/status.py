"""Statuses of a migration and the table of their transitions."""

from __future__ import annotations

from enum import Enum
from typing import Final

from transship.errors import LocalError


class MigrationStatus(Enum):
    """Where a migration is; the values are the words that operators see."""

    NONE = "none"
    SETUP = "setup"
    ACTIVE = "active"
    PRE_SWITCHOVER = "pre-switchover"
    DEVICE = "device"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return not TRANSITIONS[self]


TRANSITIONS: Final[dict[MigrationStatus, frozenset[MigrationStatus]]] = {
    MigrationStatus.NONE: frozenset({MigrationStatus.SETUP}),
    MigrationStatus.SETUP: frozenset(
        {MigrationStatus.ACTIVE, MigrationStatus.CANCELLING, MigrationStatus.FAILED}
    ),
    MigrationStatus.ACTIVE: frozenset(
        {
            MigrationStatus.PRE_SWITCHOVER,
            MigrationStatus.DEVICE,
            MigrationStatus.CANCELLING,
            MigrationStatus.FAILED,
        }
    ),
    MigrationStatus.PRE_SWITCHOVER: frozenset(
        {MigrationStatus.DEVICE, MigrationStatus.CANCELLING, MigrationStatus.FAILED}
    ),
    MigrationStatus.DEVICE: frozenset(
        {MigrationStatus.COMPLETED, MigrationStatus.CANCELLING, MigrationStatus.FAILED}
    ),
    MigrationStatus.CANCELLING: frozenset({MigrationStatus.CANCELLED, MigrationStatus.FAILED}),
    MigrationStatus.COMPLETED: frozenset(),
    MigrationStatus.FAILED: frozenset(),
    MigrationStatus.CANCELLED: frozenset(),
}


def check_transition(before: MigrationStatus, after: MigrationStatus) -> None:
    """Refuse a transition that is not in the table.

    Raises:
        LocalError: It is not.
    """
    if after not in TRANSITIONS[before]:
        raise LocalError(f"a migration that is {before.value!r} cannot become {after.value!r}")
