"""A guest on its way between two sides of ours, both in this process."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import trio

from transship.assembly import migrate, receive
from transship.errors import HandoverError, MigrationError

if TYPE_CHECKING:
    from transship.abc import Parameters
    from transship.engine.incoming import IncomingMigration
    from transship.engine.migration import Migration
    from transship.guests.synthetic import SyntheticGuest


class Passage:
    """A guest that leaves one side, and what became of it.

    Args:
        here: The guest.
        there: Where it goes.
        uri: Where the destination listens.
        parameters: Of the destination.
        source_parameters: Of the source, where they are others.
        capabilities: Of both.

    Attributes:
        target: Where the source connects; the address that is listened on, if not changed.
        errors: Of both sides.
    """

    def __init__(
        self,
        here: SyntheticGuest,
        there: SyntheticGuest,
        uri: str,
        parameters: Parameters,
        source_parameters: Parameters | None = None,
        capabilities: frozenset[str] = frozenset(),
    ) -> None:
        self.here = here
        self.there = there
        self.uri = uri
        self.target: str | None = None
        self.listening = trio.Event()
        self.errors: list[MigrationError] = []
        self._source_parameters = source_parameters or parameters
        self._capabilities = capabilities
        self.incoming: IncomingMigration = receive(
            there,
            uri,
            parameters=parameters,
            capabilities=capabilities,
            on_listening=self._on_listening,
        )

    def _on_listening(self, uri: str) -> None:
        self.target = self.target or uri
        self.listening.set()

    @cached_property
    def outgoing(self) -> Migration:
        """The source's side."""
        return migrate(
            self.here,
            self.target or self.uri,
            parameters=self._source_parameters,
            capabilities=self._capabilities,
        )

    async def run(self) -> None:
        """Both sides, to whatever end."""
        await self.here.resume()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, self.incoming)
            await self.listening.wait()
            nursery.start_soon(self._run, self.outgoing)

    async def _run(self, side: IncomingMigration | Migration) -> None:
        try:
            await side.run()
        except MigrationError as error:
            self.errors.append(error)
            self.listening.set()  # it may have failed before that
            other = self.outgoing if side is self.incoming else self.incoming
            if other.status.value in ("none", "setup"):
                other.cancel()

    @property
    def is_unconfirmed(self) -> bool:
        """Whether a side does not know who has the guest, so that it may run nowhere."""
        return any(isinstance(error, HandoverError) for error in self.errors)

    async def verdict(self) -> str:
        """Which side has the guest, which is whole there; it may run on one at most."""
        running = [self.here.is_running, self.there.is_running]
        assert running.count(True) <= 1
        assert self.is_unconfirmed or any(running)
        has_moved = self.there.is_running
        guest, other = (self.there, self.here) if has_moved else (self.here, self.there)
        await guest.pause()
        self.disturb(other)
        assert (await trio.to_thread.run_sync(guest.verify)).ok
        self.look_at_memory()
        self.here.close()
        self.there.close()
        return "there" if has_moved else "here"

    def disturb(self, other: SyntheticGuest) -> None:
        """Do something to the side that does not have the guest, before the guest is verified."""

    def look_at_memory(self) -> None:
        """Look at the guests' memory while it is there."""
