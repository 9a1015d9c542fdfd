"""The section of one declared device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl
from transship.abc.section import Body, Section
from transship.errors import MigrationError
from transship_devstate._describe import describe
from transship_devstate._load import load
from transship_devstate._save import save

if TYPE_CHECKING:
    from transship.abc.guest import Device
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader
    from transship_devstate._layout import Layout


class DeviceSection(Section):
    """Carries one device in one FULL record.

    Args:
        device: Name, declaration and state.
    """

    def __init__(self, device: Device) -> None:
        self.idstr = device.idstr
        self.instance_id = device.instance_id
        self.version_id = device.description.version_id
        self.minimum_version_id = device.description.minimum_version_id
        self.is_optional = device.description.needed is not None
        self._device = device
        self._layout: Layout | None = None

    def is_needed(self) -> bool:
        """What the declaration's ``needed`` says of the state."""
        needed = self._device.description.needed
        return needed is None or needed(self._device.state)

    def description(self) -> str | None:
        """The JSON text of what was saved; None before."""
        if self._layout is None:
            return None
        return describe(self.idstr, self.instance_id, self._layout)

    @hookimpl
    def complete(self) -> Body:
        """Yield the device's fields and subsections."""
        try:
            body, self._layout = save(self._device.description, self._device.state)
        except MigrationError as error:
            error.add_context(section=self.idstr)
            raise
        yield body
        return True

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        """Parse the device's fields and subsections into its state object.

        When it fails, the object is as it was; what hooks of the declaration did elsewhere is
        not undone.
        """
        yield from load(self._device.description, self._device.state, header.version_id, reader)
