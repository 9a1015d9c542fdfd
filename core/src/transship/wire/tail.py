"""The end of a stream whose devices nobody here knows, recognised while it arrives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.errors import StreamError
from transship.wire.encoder import section_header
from transship.wire.limits import DESCRIPTION_BYTES, DEVICE_BYTES
from transship.wire.vmdesc import DeviceRecord, parse_description, split_devices

if TYPE_CHECKING:
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader

TAIL_BYTES: Final = DEVICE_BYTES + DESCRIPTION_BYTES
"""Devices and their description, kept together until the end has been found."""

_HEAD: Final = re.compile(rb'(?=\x7e.{4}\x00\x06.{4}\{")', re.DOTALL)
"""Footer, EOF byte, type and length of a description, and the beginning of its text."""
_EOF_PLACE: Final = 5
_LENGTH_PLACE: Final = 7
_TEXT_PLACE: Final = 11
_HEAD_BYTES: Final = 13

_NO_TEXT: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Bytes that no JSON text holds."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The whole end of a stream.

    Args:
        records: The devices.
        description: The text of the VMDESCRIPTION.
        length: Bytes from the first device's record to the end of the description.
    """

    records: tuple[DeviceRecord, ...]
    description: bytes
    length: int


@dataclass(slots=True)
class _Candidate:
    """What looks like the last footer, the EOF byte and the head of a description.

    Args:
        devices_end: Where the devices would end, EOF byte included.
        text_start: Where the text would start.
        text_end: Where it would end.
        clean_end: How far it is known to be free of bytes that no text has.
    """

    devices_end: int
    text_start: int
    text_end: int
    clean_end: int


class EndFinder:
    """Recognises the end of a stream while it arrives.

    A source that has a return path keeps the connection open and waits for us, so the end of
    the connection does not tell the end of the stream. Here it is told by what can only be the
    end: footer, EOF byte, and a description that fits everything before it byte for byte.

    Bytes of a device may look like the head of a description, but the text after such a head
    cannot hold another one, since every head holds a zero byte. So texts that get as far as
    being parsed do not overlap, and all the work together is linear in the bytes, also for a
    hostile source.

    Args:
        offset: Where in the stream the tail begins, for the error.
    """

    def __init__(self, offset: int = 0) -> None:
        self._offset = offset
        self._searched = 0
        self._candidates: list[_Candidate] = []

    def find(self, tail: bytearray) -> Tail | None:
        """Look for the end in what has been appended since the last call.

        Args:
            tail: Everything from the first FULL record of the devices on. No view of it is
                kept.

        Returns:
            The end, as soon as all of it is there; bytes after it are left to the caller.

        Raises:
            StreamError: There are more bytes than any tail may have.
        """
        if len(tail) > TAIL_BYTES:
            raise StreamError(
                "the device sections are beyond the limit, and no description delimits them",
                offset=self._offset + TAIL_BYTES,
                expected=f"at most {TAIL_BYTES} bytes",
                found="more",
            )
        self._search(tail)
        waiting = []
        for candidate in self._candidates:
            if not _may_be_text(tail, candidate):
                continue
            if candidate.text_end > len(tail):
                waiting.append(candidate)
            elif found := self._verified(tail, candidate):
                return found
        self._candidates = waiting
        return None

    def _search(self, tail: bytearray) -> None:
        """Add the candidates whose head has arrived by now."""
        for match in list(_HEAD.finditer(tail, self._searched)):
            head = match.start()
            text = head + _TEXT_PLACE
            length = int.from_bytes(tail[head + _LENGTH_PLACE : text], "big")
            self._candidates.append(_Candidate(head + _EOF_PLACE + 1, text, text + length, text))
        self._searched = max(self._searched, len(tail) - _HEAD_BYTES + 1)

    def _verified(self, tail: bytearray, candidate: _Candidate) -> Tail | None:
        text = bytes(tail[candidate.text_start : candidate.text_end])
        try:
            description = parse_description(text)
            with memoryview(tail) as view:
                records = split_devices(view[: candidate.devices_end], description)
        except StreamError:
            return None
        return Tail(records, text, candidate.text_end)


def _may_be_text(tail: bytearray, candidate: _Candidate) -> bool:
    end = min(candidate.text_end, len(tail))
    start, candidate.clean_end = candidate.clean_end, end
    return _NO_TEXT.search(tail, start, end) is None


def read_tail(reader: StreamReader, first: SectionHeader) -> Parsing[Tail]:
    """Read the rest of a stream, or of a package, whose devices only its description delimits.

    Args:
        reader: Stands at the body of the first device; afterwards behind the description.
        first: The header of that device.

    Raises:
        StreamError: What comes ends without a description that fits.
    """
    tail = bytearray(section_header(first))
    finder = EndFinder(first.offset)
    found: Tail | None = None
    while found is None:
        try:
            yield from reader.ensure(1)
        except StreamError as error:
            raise reader.error(
                "no description fits the devices that came",
                expected="EOF byte and VMDESCRIPTION, which tells where each device ends",
                found="the end",
            ) from error
        before = len(tail)
        tail += reader.buffered()
        found = finder.find(tail)
        reader.skip((found.length if found else len(tail)) - before)
    return found
