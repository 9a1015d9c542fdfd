"""From a state object to its bytes, by its declaration. Knows nothing of streams and sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transship.errors import LocalError, MigrationError
from transship.wire.elements import NULLPTR, UINT32, UINT64, Bitmap, Buffer, CountedString, Integer
from transship.wire.fields import (
    Bits,
    Bytes,
    Content,
    Field,
    Items,
    Queue,
    Scratch,
    Struct,
    Tree,
    Validate,
    VMState,
)
from transship.wire.limits import BUFFER_BYTES, ELEMENTS
from transship_devstate._layout import Layout, Piece, SavedField

if TYPE_CHECKING:
    from collections.abc import Iterable

MORE = b"\x01"
END = b"\x00"
SUBSECTION = b"\x05"


def save(description: VMState, state: object) -> tuple[bytes, Layout]:
    """Encode a state object.

    Returns:
        The body of its section, and how it is laid out.

    Raises:
        LocalError: An attribute is missing or does not fit its declaration, or a hook failed.
            The error names the field.
    """
    saver = _Saver()
    try:
        layout = saver.vmstate(description, state, description.version_id)
    except Exception as error:
        where = description.name + "".join(saver.path)
        if isinstance(error, MigrationError):
            raise LocalError(
                f"{where}: {error.cause}", expected=error.expected, found=error.found
            ) from error
        raise LocalError(f"{where} cannot be saved", found=repr(error)) from error
    return bytes(saver.out), layout


class _Saver:
    """One run of :func:`save`.

    Attributes:
        out: The bytes so far.
        path: The field being saved; left as it is when something is raised.
    """

    def __init__(self) -> None:
        self.out = bytearray()
        self.path: list[str] = []

    def vmstate(self, description: VMState, state: object, version: int) -> Layout:
        """Save what a declaration says about one object."""
        if description.pre_save:
            description.pre_save(state)
        try:
            fields = tuple(self._fields(description, state, version))
            subsections = tuple(self._subsections(description, state))
        finally:
            if description.post_save:
                description.post_save(state)
        return Layout(description, version, fields, subsections)

    def _fields(self, description: VMState, state: object, version: int) -> Iterable[SavedField]:
        for field in description.fields:
            self.path.append(f".{field.name}")
            if isinstance(field, Validate):
                if not field.holds(state, version):
                    raise LocalError("what the device declares about itself does not hold")
            elif field.is_in(state, version):
                if field.items:
                    pieces = self._items(field, field.items, state)
                else:
                    pieces = [self._one(field.content, field.value(state), state)]
                yield SavedField(field, tuple(pieces))
            self.path.pop()

    def _subsections(self, description: VMState, state: object) -> Iterable[Layout]:
        for subsection in description.subsections:
            if subsection.needed is None or subsection.needed(state):
                self.path.append(f":{subsection.name}")
                self.out += SUBSECTION + CountedString().encode(subsection.name)
                self.out += UINT32.encode(subsection.version_id)
                yield self.vmstate(subsection, state, subsection.version_id)
                self.path.pop()

    def _items(self, field: Field, items: Items, state: object) -> list[Piece]:
        values = _travelling(items, field.value(state), items.length(state))
        if isinstance(field.content, Integer) and not items.is_nullable:
            self.out += field.content.pack(values)
            return [Piece(field.content.type_name, field.content.size, len(values))]
        pieces = []
        for place, value in enumerate(values, items.start):
            self.path.append(f"[{place}]")
            is_missing = items.is_nullable and value is None
            pieces.append(self._one(NULLPTR if is_missing else field.content, value, state))
            self.path.pop()
        return pieces

    def _one(self, content: Content, value: Any, state: object) -> Piece:
        start = len(self.out)
        nested: list[Layout] = []
        match content:
            case Struct(description, version_id):
                type_name = "struct" if version_id is None else "vstruct"
                nested.append(self.vmstate(description, value, content.version))
            case Scratch(description):
                type_name = "tmp"
                scratch = content.make(state)
                nested.append(self.vmstate(description, scratch, description.version_id))
            case Queue(type_name, description):
                for place, element in enumerate(value):
                    self.path.append(f"[{place}]")
                    self.out += MORE
                    nested.append(self.vmstate(description, element, description.version_id))
                    self.path.pop()
                self.out += END
            case Tree():
                type_name = "gtree"
                nested += self._nodes(content, value)
            case Bytes():
                type_name = Buffer.type_name
                self.out += _bytes_travelling(content, value, content.length(state))
            case Bits():
                type_name = Bitmap.type_name
                self.out += Bitmap(content.length(state)).encode(value)
            case _:
                type_name = content.type_name
                self.out += content.encode(value)
        return Piece(type_name, len(self.out) - start, nested=tuple(nested))

    def _nodes(self, tree: Tree, mapping: dict[Any, object]) -> Iterable[Layout]:
        self.out += UINT32.encode(len(mapping))
        for key in sorted(mapping):
            self.path.append(f"[{key!r}]")
            self.out += MORE
            if tree.key is None:
                self.out += UINT64.encode(key)
            else:
                yield self.vmstate(tree.key, key, tree.key.version_id)
            yield self.vmstate(tree.value, mapping[key], tree.value.version_id)
            self.path.pop()
        self.out += END


def _travelling(items: Items, value: Any, count: int) -> list[Any]:
    """The elements that travel, flat."""
    values = list(value)
    if items.columns is not None:
        if any(len(row) != items.columns for row in values):
            raise LocalError("a row has another length", expected=f"{items.columns} elements")
        values = [element for row in values for element in row]
    _check_room(count, items.start, len(values), items.is_part, ELEMENTS, "elements")
    return values[items.start : items.start + count]


def _bytes_travelling(content: Bytes, value: Any, size: int) -> memoryview:
    """The bytes of a buffer that travel."""
    view = memoryview(value).cast("B")
    _check_room(size, content.start, len(view), content.is_part, BUFFER_BYTES, "bytes")
    return view[content.start : content.start + size]


def _check_room(count: int, start: int, present: int, is_part: bool, limit: int, what: str) -> None:
    if not 0 <= count <= limit:
        raise LocalError(f"so many {what} never load", expected=f"0 to {limit}", found=str(count))
    if (present < start + count) if is_part else (present != count):
        raise LocalError(
            f"it has another number of {what} than declared",
            expected=f"{'at least ' * is_part}{start + count}",
            found=str(present),
        )
