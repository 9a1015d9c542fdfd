"""The section ``block``: what is on the disks of a guest, live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl
from transship.abc import Capability, Guest, LiveCounters, Pending, Section, Segments, Settings
from transship_block._load import DiskLoader
from transship_block._save import DiskSaver

if TYPE_CHECKING:
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader


class BlockSection(Section):
    """Carries the contents of one guest's disks in one migration, to it or from it.

    Args:
        guest: The machine that moves, or that is filled.
        settings: Of the migration.
    """

    idstr = "block"
    is_live = True
    is_optional = True

    def __init__(self, guest: Guest, settings: Settings) -> None:
        self._settings = settings
        self._saver = DiskSaver(guest, settings)
        self._loader = DiskLoader(guest)

    def is_needed(self) -> bool:
        """Whether the operator wants the disks to be copied; else both sides share them."""
        return self._settings.has(Capability.BLOCK)

    @hookimpl
    def begin(self) -> Segments:
        """Begin to log what the guest writes to its disks; yields nothing of them."""
        return self._saver.begin()

    @hookimpl
    def iterate(self, budget_bytes: int) -> Segments:
        """Yield chunks up to the budget; the return value says whether none is left."""
        return self._saver.iterate(budget_bytes)

    @hookimpl
    def pending(self, exact: bool) -> Pending:
        """Say how many bytes of disks are still to be sent, and whether the first copy is on."""
        return self._saver.pending(exact)

    @hookimpl
    def complete(self) -> Segments:
        """Yield all that is still to be sent, and end the logging."""
        return self._saver.complete()

    @hookimpl
    def cancel(self) -> None:
        """End the logging, and wait for reads that have begun."""
        self._saver.end()

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        """Parse the body of a record, and write chunks to the guest's disks."""
        return self._loader.load(header, reader)

    def statistics(self) -> dict[str, int]:
        """Counters.

        On the source: ``total`` bytes of all disks; ``remaining``, of them that are still to be
        sent; ``transferred``, of them that were, a part that was sent twice twice; ``chunks`` sent
        in full, ``zero_chunks`` as a mark, ``skipped_chunks`` that the destination has from the
        base. On the destination: ``total`` bytes of the disks that were named, ``chunks`` and
        ``zero_chunks`` received.
        """
        return self._loader.statistics() if self._loader.has_begun else self._saver.statistics()

    def live_counters(self) -> LiveCounters:
        """What is left, and no more: rates and throttling are about memory (source)."""
        return LiveCounters(remaining_bytes=self._saver.remaining_bytes)
