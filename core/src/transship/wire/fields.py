"""Declarative device state: which attributes of an object travel, in which order and form.

A device author writes one :class:`VMState` out of the functions below. Saving, loading and the
stream's description of itself all come from it::

    FIFO = VMState(
        "uart/fifo",
        needed=lambda uart: uart.level > 0,
        fields=[uint8("level"), varray("fifo", UINT8, "level")],
    )
    UART = VMState(
        "uart",
        version_id=2,
        fields=[uint8("control"), uint8("status"), timer("deadline", since=2)],
        subsections=[FIFO],
    )

State objects are any objects with attributes. A value that lives elsewhere is reached through a
property, an attribute of a member by a dotted name (``"env.eip"``). Loading never changes a list
or buffer in place: it assigns a new one of the same type (list, tuple, ``array.array``, bytes,
bytearray). Objects inside are loaded into where they are, and made by their description's
``factory`` where there is none yet.

Where C needs variants there is one form here: a pointer to something is declared as the thing
itself, and a counting member may have any width. This module does no encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import attrgetter, index
from typing import Any, Protocol, TypeAlias, TypedDict, Unpack

from transship.wire import elements
from transship.wire.elements import Element
from transship.wire.limits import IDSTR_BYTES

Exists: TypeAlias = Callable[[Any, int], bool]
"""Asked with the state object and the version in use."""

Count: TypeAlias = int | str
"""A number, or the attribute that holds it; that one is a field of its own, and comes before."""


@dataclass(frozen=True, slots=True)
class VMState:
    """The declaration of a device's state, of a struct inside one, or of a subsection.

    Args:
        name: In the stream's description; of a subsection ``parent/child``, where it travels.
        version_id: Newest version, the one written.
        minimum_version_id: Oldest version that loads.
        fields: In stream order.
        subsections: Parts that are only sent when needed, in stream order.
        needed: Whether a state object has this device or subsection to send; always, if absent.
        pre_save: Called before the fields are read; may compute some of them.
        post_save: Called when ``pre_save`` had returned and saving ended, well or not.
        pre_load: Called before anything is assigned; sets what an older stream leaves out.
        post_load: Called with the version that was read, after all fields and subsections;
            derives what does not travel, or raises ``ValueError`` to refuse what did.
        factory: Makes an object to load into, where a list, queue or tree needs a new one.

    Raises:
        ValueError: The declaration contradicts itself.
    """

    name: str
    version_id: int = 1
    minimum_version_id: int = 0
    fields: Sequence[Field | Validate] = ()
    subsections: Sequence[VMState] = ()
    needed: Callable[[Any], bool] | None = None
    pre_save: Callable[[Any], None] | None = None
    post_save: Callable[[Any], None] | None = None
    pre_load: Callable[[Any], None] | None = None
    post_load: Callable[[Any, int], None] | None = None
    factory: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        object.__setattr__(self, "subsections", tuple(self.subsections))
        if not 0 < len(self.name.encode()) <= IDSTR_BYTES:
            raise ValueError(f"the name {self.name!r} does not have 1 to {IDSTR_BYTES} bytes")
        if not 0 <= self.minimum_version_id <= self.version_id < 1 << 32:
            raise ValueError(
                f"{self.name} has version {self.version_id} and loads "
                f"from version {self.minimum_version_id}"
            )
        names = [subsection.name for subsection in self.subsections]
        for name in names:
            if len(name) <= len(self.name) or not name.startswith(self.name):
                raise ValueError(f"subsection {name!r} of {self.name!r} has another's prefix")
            if names.count(name) > 1:
                raise ValueError(f"{self.name!r} has two subsections {name!r}")


@dataclass(frozen=True, slots=True)
class Struct:
    """Content: the fields of another object, and its subsections, in this place.

    Args:
        description: Of that object.
        version_id: The version of it that always travels here; its newest, if None.
    """

    description: VMState
    version_id: int | None = None

    def __post_init__(self) -> None:
        if not self.description.minimum_version_id <= self.version <= self.description.version_id:
            raise ValueError(f"{self.description.name} has no version {self.version_id}")

    @property
    def version(self) -> int:
        """The version that travels."""
        return self.description.version_id if self.version_id is None else self.version_id


@dataclass(frozen=True, slots=True)
class Scratch:
    """Content: the fields of a passing object that is made from the state object.

    Args:
        description: Of the passing object; its ``pre_save`` and ``post_load`` move values
            between it and the state object.
        make: Makes it from the state object.
    """

    description: VMState
    make: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Queue:
    """Content: objects one after another, their number told by markers alone.

    Args:
        type_name: ``qtailq`` or ``qlist``; the bytes are the same.
        description: Of one object; needs a factory.
    """

    type_name: str
    description: VMState

    def __post_init__(self) -> None:
        _needs_factory(self.description)


@dataclass(frozen=True, slots=True)
class Tree:
    """Content: a mapping, sent in the order of its keys.

    Args:
        value: Description of one value; needs a factory.
        key: Description of one key; a key is an unsigned integer of 8 bytes, if None.
        make_key: Makes a key out of the loaded fields, given by keyword.
    """

    value: VMState
    key: VMState | None = None
    make_key: Callable[..., Hashable] | None = None

    def __post_init__(self) -> None:
        _needs_factory(self.value)
        if (self.key is None) != (self.make_key is None):
            raise ValueError("a described key needs make_key, another key has none")


@dataclass(frozen=True, slots=True)
class Bytes:
    """Content: a part of a buffer, or one of a size that another attribute holds.

    Args:
        size: Bytes, or the attribute with a number.
        multiply: Bytes that this number counts.
        start: First byte that travels.
        is_part: Whether the buffer may be longer, and keeps what does not travel.
    """

    size: Count
    multiply: int = 1
    start: int = 0
    is_part: bool = False

    def length(self, state: object) -> int:
        """How many bytes travel, by the state object's attributes of this moment."""
        return _resolve(self.size, state) * self.multiply


@dataclass(frozen=True, slots=True)
class Bits:
    """Content: a bitmap of a size that another attribute holds.

    Args:
        bits: The attribute.
    """

    bits: str

    def length(self, state: object) -> int:
        """How many bits travel, by the state object's attributes of this moment."""
        return _resolve(self.bits, state)


Content: TypeAlias = Element[Any] | Struct | Scratch | Queue | Tree | Bytes | Bits


@dataclass(frozen=True, slots=True)
class Items:
    """That a field has several elements, and how many.

    Args:
        count: How many, or the attribute with their number.
        multiply: Elements that this number counts.
        start: First element that travels.
        columns: Elements of a row, where the attribute is a sequence of rows.
        is_part: Whether the sequence may be longer, and keeps what does not travel.
        is_nullable: Whether an element may be None, on both sides alike.
    """

    count: Count
    multiply: int = 1
    start: int = 0
    columns: int | None = None
    is_part: bool = False
    is_nullable: bool = False

    def length(self, state: object) -> int:
        """How many elements travel, by the state object's attributes of this moment."""
        return _resolve(self.count, state) * self.multiply


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a declaration; made by the functions of this module.

    Args:
        name: In the stream's description.
        content: What an element is.
        items: How many there are; one, if None.
        since: First version that has the field. In older streams it is absent, and keeps its
            value.
        exists: Decides in place of ``since``, if given.
        attribute: Where the value is, if not under ``name``; dots lead to members.
    """

    name: str
    content: Content
    items: Items | None = None
    since: int = 0
    exists: Exists | None = None
    attribute: str = ""

    def is_in(self, state: object, version: int) -> bool:
        """Whether a stream of that version has the field."""
        return self.since <= version if self.exists is None else self.exists(state, version)

    def holder(self, state: object) -> tuple[Any, str]:
        """The object with the attribute that the field is about, and the attribute's name."""
        members, _, name = (self.attribute or self.name).rpartition(".")
        return (attrgetter(members)(state) if members else state), name

    def value(self, state: object) -> Any:
        """What travels; the state object itself where no attribute does."""
        if isinstance(self.content, Scratch | elements.Unused):
            return state
        return attrgetter(self.attribute or self.name)(state)


@dataclass(frozen=True, slots=True)
class Validate:
    """An entry without bytes: a claim that must hold in this place, on both sides.

    Args:
        name: What is claimed, for the error.
        holds: The claim.
    """

    name: str
    holds: Exists


class Options(TypedDict, total=False):
    """What any field may be given beside its form; see :class:`Field`."""

    since: int
    exists: Exists
    attribute: str


class ScalarField(Protocol):
    """Declares a field with one value of a certain kind."""

    def __call__(self, name: str, **options: Unpack[Options]) -> Field: ...


def _scalar(element: Element[Any]) -> ScalarField:
    def declare(name: str, **options: Unpack[Options]) -> Field:
        return Field(name, element, **options)

    return declare


boolean = _scalar(elements.BOOL)
int8 = _scalar(elements.INT8)
int16 = _scalar(elements.INT16)
int32 = _scalar(elements.INT32)
int64 = _scalar(elements.INT64)
uint8 = _scalar(elements.UINT8)
uint16 = _scalar(elements.UINT16)
uint32 = _scalar(elements.UINT32)
uint64 = _scalar(elements.UINT64)
uint8_equal = _scalar(elements.UINT8_EQUAL)
uint16_equal = _scalar(elements.UINT16_EQUAL)
uint32_equal = _scalar(elements.UINT32_EQUAL)
uint64_equal = _scalar(elements.UINT64_EQUAL)
int32_equal = _scalar(elements.INT32_EQUAL)
int32_le = _scalar(elements.INT32_LE)
double = _scalar(elements.DOUBLE)
timer = _scalar(elements.TIMER)


def opaque(name: str, element: Element[Any], **options: Unpack[Options]) -> Field:
    """A value of a kind that the device defines itself."""
    return Field(name, element, **options)


def array(
    name: str,
    of: Element[Any] | VMState,
    length: int,
    columns: int | None = None,
    **options: Unpack[Options],
) -> Field:
    """A sequence of fixed length; with ``columns``, ``length`` rows of so many elements."""
    count = length * (1 if columns is None else columns)
    return Field(name, _content(of), Items(count, columns=columns), **options)


def subarray(
    name: str,
    of: Element[Any] | VMState,
    start: int,
    length: int,
    **options: Unpack[Options],
) -> Field:
    """``length`` elements of a sequence, from index ``start``; the others stay here."""
    return Field(name, _content(of), Items(length, start=start, is_part=True), **options)


def varray(
    name: str,
    of: Element[Any] | VMState,
    count: str,
    *,
    multiply: int = 1,
    alloc: bool = False,
    **options: Unpack[Options],
) -> Field:
    """As many elements as the attribute ``count`` says, times ``multiply``.

    Without ``alloc`` the sequence has room for a maximum, and its first elements travel: a
    stream with more than there is room for is refused. With it the sequence has exactly as many
    elements as it says, and a new one takes its place on load.
    """
    items = Items(count, multiply=multiply, is_part=not alloc)
    return Field(name, _content(of), items, **options)


def pointers(
    name: str, of: Element[Any] | VMState, length: Count, **options: Unpack[Options]
) -> Field:
    """A sequence whose elements may be None; both sides have None in the same places."""
    return Field(name, _content(of), Items(length, is_nullable=True), **options)


def buffer(name: str, size: int, **options: Unpack[Options]) -> Field:
    """``size`` raw bytes."""
    return Field(name, elements.Buffer(size), **options)


def partial_buffer(name: str, start: int, size: int, **options: Unpack[Options]) -> Field:
    """``size`` bytes of a longer buffer, from byte ``start``; the others stay here."""
    return Field(name, Bytes(size, start=start, is_part=True), **options)


def vbuffer(
    name: str,
    size: str,
    *,
    multiply: int = 1,
    alloc: bool = False,
    **options: Unpack[Options],
) -> Field:
    """As many raw bytes as the attribute ``size`` says, times ``multiply``.

    ``alloc`` is as with :func:`varray`.
    """
    return Field(name, Bytes(size, multiply=multiply, is_part=not alloc), **options)


def unused(size: int, **options: Unpack[Options]) -> Field:
    """``size`` bytes that once meant something: zeros are sent, anything is received."""
    return Field("unused", elements.Unused(size), **options)


def bitmap(name: str, bits: Count, **options: Unpack[Options]) -> Field:
    """A bitmap as a Python integer, of fixed size or of as many bits as an attribute says."""
    content = Bits(bits) if isinstance(bits, str) else elements.Bitmap(bits)
    return Field(name, content, **options)


def struct(name: str, description: VMState, **options: Unpack[Options]) -> Field:
    """An object with a declaration of its own, in its newest version."""
    return Field(name, Struct(description), **options)


def vstruct(name: str, description: VMState, version_id: int, **options: Unpack[Options]) -> Field:
    """An object with a declaration of its own, always in version ``version_id``."""
    return Field(name, Struct(description, version_id), **options)


def tmp(
    description: VMState,
    make: Callable[[Any], object],
    name: str = "tmp",
    **options: Unpack[Options],
) -> Field:
    """Fields of a passing object made from the state object; see :class:`Scratch`."""
    return Field(name, Scratch(description, make), **options)


def qtailq(name: str, description: VMState, **options: Unpack[Options]) -> Field:
    """A list of objects, as long as it happens to be; loading assigns a new list."""
    return Field(name, Queue("qtailq", description), **options)


def qlist(name: str, description: VMState, **options: Unpack[Options]) -> Field:
    """The same as :func:`qtailq`, under the name that the stream's description has for it."""
    return Field(name, Queue("qlist", description), **options)


def gtree(
    name: str,
    value: VMState,
    key: VMState | None = None,
    make_key: Callable[..., Hashable] | None = None,
    **options: Unpack[Options],
) -> Field:
    """A dict, sent in the order of its keys; see :class:`Tree`."""
    return Field(name, Tree(value, key, make_key), **options)


def validate(name: str, holds: Exists) -> Validate:
    """Claim something about the fields so far; see :class:`Validate`."""
    return Validate(name, holds)


def _resolve(count: Count, state: object) -> int:
    return index(attrgetter(count)(state) if isinstance(count, str) else count)


def _content(of: Element[Any] | VMState) -> Element[Any] | Struct:
    return Struct(of) if isinstance(of, VMState) else of


def _needs_factory(description: VMState) -> None:
    if description.factory is None:
        raise ValueError(f"{description.name} needs a factory, since loading makes new objects")
