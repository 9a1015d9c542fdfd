"""The section ``dirty-bitmap``: what was written to disks since somebody began to care."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl
from transship.abc import Capability, Guest, Section, Segments, Settings
from transship.wire.storage import BITMAP_EOS
from transship_block._aliases import bitmaps_to_send
from transship_block._bitmap_load import BitmapLoader
from transship_block._bitmap_save import BitmapSaver

if TYPE_CHECKING:
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader


class BitmapSection(Section):
    """Carries the dirty bitmaps of one guest's disks in one migration, to it or from it.

    Args:
        guest: The machine that moves, or that is filled.
        settings: Of the migration.
    """

    idstr = "dirty-bitmap"
    is_live = True
    is_optional = True

    def __init__(self, guest: Guest, settings: Settings) -> None:
        self._guest = guest
        self._settings = settings
        self._saver: BitmapSaver | None = None
        self._loader: BitmapLoader | None = None

    def is_needed(self) -> bool:
        """Whether the operator wants them to be sent, and there are any."""
        if not self._settings.has(Capability.DIRTY_BITMAPS):
            return False
        mapping = self._settings.parameters.block_bitmap_mapping
        return next(bitmaps_to_send(self._guest.disks(), mapping), None) is not None

    @hookimpl
    def begin(self) -> Segments:
        """Announce the bitmaps."""
        mapping = self._settings.parameters.block_bitmap_mapping
        self._saver = BitmapSaver(bitmaps_to_send(self._guest.disks(), mapping))
        return self._saver.begin()

    @hookimpl
    def iterate(self) -> Segments:
        """Yield nothing of them: they change as long as the guest runs."""
        return _nothing()

    @hookimpl
    def complete(self) -> Segments:
        """Yield all bits, now that the guest stands still."""
        assert self._saver is not None
        return self._saver.complete()

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        """Parse the body of a record; a bitmap is there once all of it has come."""
        if self._loader is None:
            mapping = self._settings.parameters.block_bitmap_mapping
            self._loader = BitmapLoader(self._guest, mapping)
        return self._loader.load(reader)

    def statistics(self) -> dict[str, int]:
        """Counters: ``bitmaps``, how many are sent, or have been taken; ``dropped`` that have not.

        Why one was dropped is in the log.
        """
        if self._loader is not None:
            return {"bitmaps": self._loader.bitmaps, "dropped": self._loader.dropped}
        return {"bitmaps": self._saver.bitmaps if self._saver else 0, "dropped": 0}


def _nothing() -> Segments:
    yield BITMAP_EOS
    return True
