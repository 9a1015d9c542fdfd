"""Hook implementations: one section for each device that a guest declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl
from transship_devstate._section import DeviceSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc.guest import Guest
    from transship.abc.section import Section


@hookimpl
def create_sections(guest: Guest) -> Sequence[Section]:
    """The sections of the guest's devices, in the guest's order."""
    return [DeviceSection(device) for device in guest.devices()]
