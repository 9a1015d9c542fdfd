"""The hooks of the section ``block``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl
from transship_block._block import BlockSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Guest, Section, Settings


@hookimpl
def create_sections(guest: Guest, settings: Settings) -> Sequence[Section]:
    """Make the section ``block``, for a guest that has disks or accepts any."""
    if not (guest.accepts_any or guest.disks()):
        return ()
    return (BlockSection(guest, settings),)
