"""A device section of a checkpoint: bytes that nobody here understands, sent as they came."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from transship.abc.section import Body, Section
from transship.guests.stored.files import open_plain, read_plain
from transship.plugin.markers import hookimpl

if TYPE_CHECKING:
    from pathlib import Path


class StoredSection(Section):
    """Plays the file of one device; it loads nothing.

    Args:
        idstr: Name in the stream.
        instance_id: Which of several with the same name.
        version_id: Version of the body.
        path: The file with the body.
        size: Bytes that the file must have.
        description: The device's object in the VMDESCRIPTION, as JSON text.
    """

    def __init__(
        self,
        idstr: str,
        instance_id: int,
        version_id: int,
        path: Path,
        size: int,
        description: str,
    ) -> None:
        self.idstr = idstr
        self.instance_id = instance_id
        self.version_id = self.minimum_version_id = version_id
        self.path = path
        self.size = size
        self._description = description

    def check(self) -> None:
        """Make sure that the body can be read, without reading it.

        Raises:
            CheckpointError: It cannot.
        """
        os.close(open_plain(self.path, self.size))

    def body(self) -> bytes:
        """The bytes between header and footer.

        Raises:
            CheckpointError: The file is not what it was when the checkpoint was opened.
        """
        return read_plain(self.path, self.size)

    @hookimpl
    def complete(self) -> Body:
        """Yield the body, as it came."""
        yield self.body()
        return True

    def description(self) -> str:
        """The object of the VMDESCRIPTION, as it came."""
        return self._description
