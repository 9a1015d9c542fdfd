"""Reasons that forbid a migration, each with its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.abc.guest import Blocker
from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transship.abc.guest import Guest


class Blockers:
    """Reasons that come and go while a guest is here."""

    def __init__(self) -> None:
        self._blockers: list[Blocker] = []

    def add(self, reason: str, owner: str) -> Callable[[], None]:
        """Forbid migrations from now on.

        Args:
            reason: What an operator is told.
            owner: Who says so: a device, a job, a plugin.

        Returns:
            A function that takes this reason away again; idempotent.
        """
        blocker = Blocker(reason, owner)
        self._blockers.append(blocker)

        def remove() -> None:
            self._blockers[:] = [other for other in self._blockers if other is not blocker]

        return remove

    def __iter__(self) -> Iterator[Blocker]:
        return iter(tuple(self._blockers))


def blockers_of(guest: Guest, explicit: Blockers | None = None) -> Sequence[Blocker]:
    """All that forbids moving a guest: its devices, itself, and whoever else."""
    devices = [
        Blocker(f"the state of device {device.idstr!r} cannot be moved", device.idstr)
        for device in guest.devices()
        if not device.is_migratable
    ]
    return (*devices, *guest.blockers(), *(explicit or ()))


def check_blockers(guest: Guest, explicit: Blockers | None = None) -> None:
    """Refuse a migration that something forbids.

    Raises:
        BlockedError: Something does; all reasons are named, each with its owner.
    """
    if blockers := blockers_of(guest, explicit):
        raise BlockedError("; ".join(map(str, blockers)), phase="setup")
