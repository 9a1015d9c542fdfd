"""The hooks of the section ``dirty-bitmap``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl
from transship_block._bitmaps import BitmapSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Guest, Section, Settings


@hookimpl
def create_sections(guest: Guest, settings: Settings) -> Sequence[Section]:
    """Make the section ``dirty-bitmap``, for a guest that has disks or accepts any."""
    if not (guest.accepts_any or guest.disks()):
        return ()
    return (BitmapSection(guest, settings),)
