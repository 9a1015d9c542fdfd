"""Element types: how one value of a kind lies in the stream.

An element has no tag and no length of its own; both sides know from the declaration
(:mod:`transship.wire.fields`) what comes next. Integers are big-endian. A new kind, such as a
device's opaque blob, is a subclass of :class:`Element`.
"""

from __future__ import annotations

import operator
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from transship import buffers
from transship.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.wire.reader import Parsing, StreamReader

T = TypeVar("T")


class Element(ABC, Generic[T]):
    """One kind of value; subclasses are frozen dataclasses.

    Attributes:
        type_name: What the VMDESCRIPTION calls it.
    """

    __slots__ = ()
    type_name: str

    @abstractmethod
    def encode(self, value: T) -> bytes:
        """The value's bytes.

        Raises:
            LocalError: The value is not of this kind, or does not fit.
        """

    @abstractmethod
    def decode(self, reader: StreamReader, local: T | None) -> Parsing[T]:
        """Read one value.

        Args:
            reader: Where from; nothing in it may be trusted.
            local: The value that this side has there now, for the kinds that compare.

        Raises:
            StreamError: The bytes are no such value.
        """

    def refusal(self, value: object, expected: str) -> LocalError:
        """The error for a value that :meth:`encode` cannot take."""
        return LocalError(f"a value is no {self.type_name}", expected=expected, found=repr(value))


@dataclass(frozen=True, slots=True)
class Integer(Element[int]):
    """An integer of 1, 2, 4 or 8 bytes.

    Args:
        type_name: What the VMDESCRIPTION calls it.
        size: Bytes.
        signed: Whether it is in two's complement.
    """

    type_name: str
    size: int
    signed: bool = False

    def encode(self, value: int) -> bytes:
        try:
            return operator.index(value).to_bytes(self.size, "big", signed=self.signed)
        except (OverflowError, TypeError):
            raise self.refusal(value, self._range()) from None

    def decode(self, reader: StreamReader, local: int | None = None) -> Parsing[int]:
        return int.from_bytes((yield from reader.take(self.size)), "big", signed=self.signed)

    def pack(self, values: Sequence[int]) -> bytes:
        """Encode many at once.

        Raises:
            LocalError: One of them does not fit.
        """
        try:
            return struct.pack(self._format(len(values)), *values)
        except struct.error:
            return b"".join(map(self.encode, values))

    def unpack(self, raw: buffers.Buffer) -> list[int]:
        """Decode the bytes of many at once."""
        return list(struct.unpack(self._format(len(raw) // self.size), raw))

    def _format(self, count: int) -> str:
        code = {1: "b", 2: "h", 4: "i", 8: "q"}[self.size]
        return f">{count}{code if self.signed else code.upper()}"

    def _range(self) -> str:
        bits = self.size * 8
        if self.signed:
            return f"an integer from {-(1 << bits - 1)} to {(1 << bits - 1) - 1}"
        return f"an integer from 0 to {(1 << bits) - 1}"


@dataclass(frozen=True, slots=True)
class Equal(Element[int]):
    """An integer that must have the same value on both sides, such as a number of lines.

    Args:
        type_name: What the VMDESCRIPTION calls it.
        integer: How it is encoded.
    """

    type_name: str
    integer: Integer

    def encode(self, value: int) -> bytes:
        return self.integer.encode(value)

    def decode(self, reader: StreamReader, local: int | None) -> Parsing[int]:
        offset = reader.offset
        value = yield from self.integer.decode(reader)
        if value != local:
            raise reader.error(
                "a value differs from this side's",
                offset=offset,
                expected=str(local),
                found=str(value),
            )
        return value


@dataclass(frozen=True, slots=True)
class AtMostLocal(Element[int]):
    """``int32 le``: an integer that loads only between 0 and this side's value."""

    type_name = "int32 le"

    def encode(self, value: int) -> bytes:
        return INT32.encode(value)

    def decode(self, reader: StreamReader, local: int | None) -> Parsing[int]:
        offset = reader.offset
        value = yield from INT32.decode(reader)
        if local is None or not 0 <= value <= local:
            raise reader.error(
                "a value is beyond this side's",
                offset=offset,
                expected=f"0 to {local}",
                found=str(value),
            )
        return value


@dataclass(frozen=True, slots=True)
class Boolean(Element[bool]):
    """A byte: 0 or 1 is written, anything but 0 is read as true."""

    type_name = "bool"

    def encode(self, value: bool) -> bytes:
        return b"\x01" if value else b"\x00"

    def decode(self, reader: StreamReader, local: bool | None = None) -> Parsing[bool]:
        return (yield from reader.u8()) != 0


@dataclass(frozen=True, slots=True)
class Timer(Element["int | None"]):
    """When a timer expires, in nanoseconds of its clock; None while it is inactive."""

    type_name = "timer"

    def encode(self, value: int | None) -> bytes:
        if value is None:
            return _INACTIVE
        raw = UINT64.encode(value)
        if raw == _INACTIVE:
            raise self.refusal(value, "an expiry time below 2**64 - 1, or None")
        return raw

    def decode(self, reader: StreamReader, local: int | None = None) -> Parsing[int | None]:
        raw = yield from reader.take(8)
        return None if raw == _INACTIVE else int.from_bytes(raw, "big")


_INACTIVE: Final = b"\xff" * 8


@dataclass(frozen=True, slots=True)
class Buffer(Element[buffers.Buffer]):
    """Raw bytes.

    Args:
        size: How many; of a declaration, or bounded by
            :data:`~transship.wire.limits.BUFFER_BYTES`.
    """

    size: int
    type_name = "buffer"

    def encode(self, value: buffers.Buffer) -> bytes:
        try:
            raw = memoryview(value).tobytes()
        except TypeError:
            raise self.refusal(value, "something with bytes") from None
        if len(raw) != self.size:
            raise LocalError(
                "a buffer has another size than declared",
                expected=f"{self.size} bytes",
                found=f"{len(raw)} bytes",
            )
        return raw

    def decode(
        self, reader: StreamReader, local: buffers.Buffer | None = None
    ) -> Parsing[buffers.Buffer]:
        return bytes((yield from reader.take_large(self.size)))


@dataclass(frozen=True, slots=True)
class Unused(Element[object]):
    """Room that an older version used: zeros are written whatever the value, anything is read.

    Args:
        size: Bytes.
    """

    size: int
    type_name = "unused_buffer"

    def encode(self, value: object = None) -> bytes:
        return bytes(self.size)

    def decode(self, reader: StreamReader, local: object = None) -> Parsing[None]:
        yield from reader.take_large(self.size)


@dataclass(frozen=True, slots=True)
class Bitmap(Element[int]):
    """Bits, as a Python integer whose bit ``i`` is bit ``i``; whole words of 64 bits travel.

    Args:
        bits: How many; bits of the last word beyond them are dropped when read.
    """

    bits: int
    type_name = "bitmap"

    @property
    def size(self) -> int:
        """Bytes in the stream."""
        return -(-self.bits // 64) * 8

    def encode(self, value: int) -> bytes:
        try:
            if value >> self.bits:
                raise self.refusal(hex(value), f"no bit beyond the first {self.bits}")
            little = value.to_bytes(self.size, "little")
        except TypeError:
            raise self.refusal(value, f"an integer of {self.bits} bits") from None
        return _with_words_reversed(little)

    def decode(self, reader: StreamReader, local: int | None = None) -> Parsing[int]:
        raw = yield from reader.take_large(self.size)
        value = int.from_bytes(_with_words_reversed(raw), "little")
        return value & ((1 << self.bits) - 1)


def _with_words_reversed(raw: buffers.Buffer) -> bytes:
    result = bytearray(len(raw))
    for place in range(8):
        result[place::8] = raw[7 - place :: 8]
    return bytes(result)


@dataclass(frozen=True, slots=True)
class NullPointer(Element[None]):
    """What stands for a missing element of an array of pointers: the byte ``'0'``."""

    type_name = "nullptr"

    def encode(self, value: None = None) -> bytes:
        return b"0"

    def decode(self, reader: StreamReader, local: None = None) -> Parsing[None]:
        offset = reader.offset
        marker = yield from reader.take(1)
        if marker != b"0":
            raise reader.error(
                "an element is there that this side does not have",
                offset=offset,
                expected="0x30, no element",
                found=f"{marker[0]:#04x}",
            )


@dataclass(frozen=True, slots=True)
class CountedString(Element[str]):
    """A name of at most 255 bytes behind its length; among QEMU's own kinds, ``capability``.

    Args:
        type_name: What the VMDESCRIPTION calls it.
    """

    type_name: str = "capability"

    def encode(self, value: str) -> bytes:
        raw = value.encode()
        if len(raw) > 255:
            raise self.refusal(value, "a text of at most 255 bytes")
        return bytes([len(raw)]) + raw

    def decode(self, reader: StreamReader, local: str | None = None) -> Parsing[str]:
        return (yield from reader.counted_string())


BOOL: Final = Boolean()
INT8: Final = Integer("int8", 1, signed=True)
INT16: Final = Integer("int16", 2, signed=True)
INT32: Final = Integer("int32", 4, signed=True)
INT64: Final = Integer("int64", 8, signed=True)
UINT8: Final = Integer("uint8", 1)
UINT16: Final = Integer("uint16", 2)
UINT32: Final = Integer("uint32", 4)
UINT64: Final = Integer("uint64", 8)
UINT8_EQUAL: Final = Equal("uint8 equal", UINT8)
UINT16_EQUAL: Final = Equal("uint16 equal", UINT16)
UINT32_EQUAL: Final = Equal("uint32 equal", UINT32)
INT32_EQUAL: Final = Equal("int32 equal", INT32)
UINT64_EQUAL: Final = Equal("int64 equal", UINT64)
"""Unsigned, whatever its name in the description says."""
INT32_LE: Final = AtMostLocal()
DOUBLE: Final = Integer("CPU_Double_U", 8)
"""A floating-point register as its 64 bits: what is in it need not be a number."""
TIMER: Final = Timer()
NULLPTR: Final = NullPointer()

_BY_NAME: Final[dict[str, tuple[int, Element[Any]]]] = {
    **{one.type_name: (one.size, one) for one in (INT8, INT16, INT32, INT64)},
    **{one.type_name: (one.size, one) for one in (UINT8, UINT16, UINT32, UINT64, DOUBLE)},
    **{
        one.type_name: (one.integer.size, one.integer)
        for one in (UINT8_EQUAL, UINT16_EQUAL, UINT32_EQUAL, INT32_EQUAL, UINT64_EQUAL)
    },
    INT32_LE.type_name: (4, INT32),
    BOOL.type_name: (1, BOOL),
    TIMER.type_name: (8, TIMER),
    NULLPTR.type_name: (1, NULLPTR),
}


def element_named(type_name: str, size: int) -> Element[Any]:
    """The element to read a described value with, on a side that has no value to compare.

    Args:
        type_name: As in the VMDESCRIPTION.
        size: Bytes of one, as in the VMDESCRIPTION. A type of another size than ours, or one
            that we do not know, is raw bytes.
    """
    known_size, element = _BY_NAME.get(type_name, (None, None))
    return element if element is not None and known_size == size else Buffer(size)
