"""What a migration owes to whoever else has a say over its guest, and asks of him."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transship.engine.attempt import Attempt
    from transship.engine.status import MigrationStatus


class Custodian:
    """Has the guest before the migration, and may have it again after.

    Unlike a notifier it is no onlooker. It hears of everything at the very moment in which it
    happens, before anybody else; what it raises fails the migration. This one is for a guest over
    which nobody else has a say.
    """

    async def begin_handover(self) -> None:
        """The guest is about to be paused: from now on nobody else may pause or resume it.

        Source side, at most once. May wait until what somebody has begun has come to its end.

        Cancellation: as if it had not been called; :meth:`ended` follows.
        """

    def guest_paused(self) -> None:
        """The migration has paused the guest (source)."""

    def may_resume(self) -> bool:
        """Whether the guest is to run here: because it has arrived, or because it stays."""
        return True

    def guest_resumed(self) -> None:
        """The migration has let the guest run."""

    async def ended(self, attempt: Attempt, status: MigrationStatus) -> None:
        """The migration comes to its end, on either side: it is about to enter a final status.

        Must not raise; may pause or resume the guest, if it is here.

        Cancellation: shielded.
        """
