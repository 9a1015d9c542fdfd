"""The VMDESCRIPTION: what it says of each device, and how it delimits what has no lengths.

A device's section carries no length, so whoever does not know the device finds its end through
the description alone, which comes last. The *tail* of a stream is what that concerns: from the
first FULL record of the devices to the EOF byte. In the JSON an object is a tuple of pairs
(:class:`Object`): keys keep their order, and may occur twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.errors import StreamError
from transship.wire._decode import DecodedDevice, decode_body
from transship.wire._json import Object, Value, parse, serialise
from transship.wire.constants import RecordType
from transship.wire.encoder import subsection_header
from transship.wire.limits import DESCRIPTION_BYTES

if TYPE_CHECKING:
    from transship.buffers import Buffer

__all__ = [
    "DecodedDevice",
    "DeviceDescription",
    "DeviceRecord",
    "Object",
    "StreamDescription",
    "Value",
    "decode_fields",
    "parse_description",
    "parse_json",
    "serialise",
    "split_devices",
]

_FOOTER_BYTES: Final = 5
_EOF: Final = bytes([RecordType.EOF])


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device section kept as it came.

    Args:
        idstr: Name in the stream.
        instance_id: Which of several with the same name.
        version_id: Version of the body.
        section_id: The sender's number for it.
        body: The bytes between header and footer.
        description: Its object in the VMDESCRIPTION, as JSON text.
    """

    idstr: str
    instance_id: int
    version_id: int
    section_id: int
    body: bytes
    description: str


@dataclass(frozen=True, slots=True)
class DeviceDescription:
    """What the VMDESCRIPTION says of one device.

    Args:
        idstr: Name in the stream.
        instance_id: Which of several with the same name.
        version_id: Version of the body; None if a handler without declared fields wrote it.
        body_bytes: Length of the body.
        text: The device's object as JSON text, byte for byte as QEMU wrote it.
    """

    idstr: str
    instance_id: int
    version_id: int | None
    body_bytes: int
    text: str


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """A VMDESCRIPTION.

    Args:
        devices: In stream order.
        page_size: Bytes of a target page, if it says so.
    """

    devices: tuple[DeviceDescription, ...]
    page_size: int | None = None


def parse_json(text: Buffer | str, offset: int | None = None) -> Value:
    """Read JSON of bounded size and depth.

    Args:
        text: As it came.
        offset: Where in the stream it lies, for the error.

    Raises:
        StreamError: It is no JSON, or beyond the limits.
    """
    try:
        if len(text) > DESCRIPTION_BYTES:
            raise ValueError(f"it has more than {DESCRIPTION_BYTES} bytes")
        return parse(text if isinstance(text, str) else bytes(text).decode())
    except ValueError as error:
        raise StreamError(
            "a description cannot be read", offset=offset, expected="JSON", found=str(error)
        ) from error


def parse_description(text: Buffer | str, offset: int | None = None) -> StreamDescription:
    """Read a VMDESCRIPTION, in the form of any QEMU that writes one.

    Args:
        text: As it came.
        offset: Where in the stream it lies, for the errors.

    Raises:
        StreamError: It is none, or beyond the limits.
    """
    top = parse_json(text, offset)
    try:
        if not isinstance(top, Object) or top.get("devices") is None:
            raise ValueError("no list of devices")
        return StreamDescription(
            tuple(map(_device, top.objects("devices"))),
            None if top.get("page_size") is None else top.number("page_size"),
        )
    except ValueError as error:
        raise StreamError(
            "a description is not of a known form", offset=offset, found=str(error)
        ) from error


def _device(device: Object) -> DeviceDescription:
    return DeviceDescription(
        device.text("name"),
        device.number("instance_id"),
        None if device.get("version") is None else device.number("version"),
        _body_bytes(device),
        serialise(device),
    )


def _body_bytes(description: Object) -> int:
    """The size identity: what fields and subsections take, with the subsections' headers."""
    fields = description.objects("fields")
    subsections = description.objects("subsections")
    return sum(field.number("size") * field.number("array_len", 1) for field in fields) + sum(
        len(subsection_header(one.text("vmsd_name"), 0)) + _body_bytes(one) for one in subsections
    )


def split_devices(
    tail: Buffer, description: StreamDescription, offset: int = 0
) -> tuple[DeviceRecord, ...]:
    """Cut the tail of a stream into its devices.

    Args:
        tail: From the first FULL record of the devices to the EOF byte, both included.
        description: Of these devices.
        offset: Where in the stream the tail begins, for the errors.

    Raises:
        StreamError: The description does not fit the tail exactly.
    """
    with memoryview(tail) as view:
        spans = []
        at = 0
        for device in description.devices:
            spans.append(_span(view, at, device, offset))
            at = spans[-1].end + _FOOTER_BYTES
        rest = bytes(view[at : at + 2])
        if rest != _EOF:
            raise StreamError(
                "the devices do not end where their description says",
                offset=offset + at,
                expected="the EOF byte, and nothing more",
                found=rest.hex(" ") or "nothing",
            )
        return tuple(
            DeviceRecord(
                device.idstr,
                device.instance_id,
                span.version_id,
                span.section_id,
                bytes(view[span.start : span.end]),
                device.text,
            )
            for device, span in zip(description.devices, spans, strict=True)
        )


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a device's body lies in the tail, and what its header says."""

    start: int
    end: int
    section_id: int
    version_id: int


def _span(view: memoryview, at: int, device: DeviceDescription, offset: int) -> _Span:
    """Find the device whose record begins at ``at``."""

    def refusal(cause: str, place: int, expected: object, found: object) -> StreamError:
        return StreamError(
            cause,
            section=device.idstr,
            offset=offset + place,
            expected=str(expected),
            found=str(found),
        )

    def number(place: int) -> int:
        return int.from_bytes(view[place : place + 4], "big")

    name = device.idstr.encode()
    instance = at + 6 + len(name)
    start = instance + 8
    end = start + device.body_bytes
    if end + _FOOTER_BYTES > len(view):
        raise refusal(
            "the devices end early", at, f"{end + _FOOTER_BYTES - at} bytes", len(view) - at
        )
    kind, section_id = view[at], number(at + 1)
    if kind != RecordType.SECTION_FULL:
        raise refusal("no device begins here", at, "record type 0x04", f"{kind:#04x}")
    if view[at + 5] != len(name) or view[at + 6 : instance] != name:
        found = bytes(view[at + 6 : at + 6 + view[at + 5]])
        raise refusal("another device is described", at + 5, device.idstr, found)
    if number(instance) != device.instance_id:
        raise refusal(
            "another instance is described", instance, device.instance_id, number(instance)
        )
    version_id = number(instance + 4)
    if device.version_id not in (None, version_id):
        raise refusal("another version is described", instance + 4, device.version_id, version_id)
    if view[end] != RecordType.SECTION_FOOTER or number(end + 1) != section_id:
        raise refusal(
            "the device does not end where its description says",
            end,
            f"footer 0x7e of section {section_id}",
            bytes(view[end : end + _FOOTER_BYTES]).hex(" "),
        )
    return _Span(start, end, section_id, version_id)


def decode_fields(record: DeviceRecord) -> DecodedDevice:
    """Decode a device through its own description, without knowing the device.

    Returns:
        Plain data: ``fields`` by name, and ``subsections``, each with ``name``, ``version``,
        ``fields`` and ``subsections``. A value is an integer; a boolean; None for a missing
        element or an inactive timer; hexadecimal digits for raw bytes and for kinds that only
        the device understands; a list for an array or a list of objects; a dict for a struct,
        with its subsections by name among its fields; for a tree a list of dicts ``key`` and
        ``value``. Fields of the same name are numbered as in the description.

    Raises:
        StreamError: Body and description do not fit; offsets count from the body's start.
    """
    description = parse_json(record.description)
    if not isinstance(description, Object):
        raise StreamError("a description is no JSON object", section=record.idstr)
    return decode_body(record.idstr, record.body, description)
