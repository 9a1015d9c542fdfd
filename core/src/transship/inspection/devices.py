"""Devices as plain data, as long as there is not too much of it."""

from __future__ import annotations

from typing import Final

from transship.inspection.report import DeviceEntry
from transship.wire.vmdesc import DeviceRecord, Object, decode_fields, parse_json

VALUES: Final = 1 << 18
"""Values that one report shows; a machine with 100 processors has some 100 000."""

BODY_BYTES: Final = 8 * 1024 * 1024
"""Device state that one report shows."""


class DeviceReader:
    """Decodes the devices of one report.

    A few bytes of description can ask for millions of values. What would be too much, together
    with the devices before it, is listed without its fields.
    """

    def __init__(self) -> None:
        self._values = VALUES
        self._bytes = BODY_BYTES

    def read(self, record: DeviceRecord) -> DeviceEntry:
        """Decode a device.

        Raises:
            StreamError: Body and description do not fit; the offset counts from the body.
        """
        description = parse_json(record.description)
        values = _count(description) if isinstance(description, Object) else 0
        entry = DeviceEntry(record.idstr, record.instance_id, record.version_id, None, [])
        if values <= self._values and len(record.body) <= self._bytes:
            self._values -= values
            self._bytes -= len(record.body)
            decoded = decode_fields(record)
            entry.fields, entry.subsections = decoded["fields"], decoded["subsections"]
        return entry


def _count(value: object) -> int:
    """How many values a description, or a part of it, asks for; at least as many as it has."""
    if isinstance(value, Object):
        length = value.get("array_len")
        elements = length if isinstance(length, int) else 1
        return max(elements, 1) * (1 + sum(_count(part) for _, part in value))
    if isinstance(value, list):
        return sum(map(_count, value))
    return 0
