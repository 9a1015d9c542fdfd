"""The hooks of the RAM section.

Importing it imports the section and numpy: a host does so as it starts, and no migration waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl
from transship_ram._section import RAMSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Guest, Section, Settings


@hookimpl
def create_sections(guest: Guest, settings: Settings) -> Sequence[Section]:
    """Make the section ``ram``, for a guest that has RAM blocks or accepts any."""
    if not (guest.accepts_any or guest.ram_blocks()):
        return ()
    return (RAMSection(guest, settings),)
