"""From bytes to a state object, by its declaration. Nothing that the bytes say is trusted.

How deep a load nests is given by the declaration; how many elements and bytes it takes is
bounded by :mod:`transship.wire.limits`.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from transship.errors import LocalError, MigrationError, StreamError
from transship.wire.constants import RecordType
from transship.wire.elements import (
    NULLPTR,
    UINT64,
    Bitmap,
    Buffer,
    Equal,
    Integer,
    Unused,
)
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
from transship.wire.limits import BUFFER_BYTES, DEVICE_BYTES, ELEMENTS
from transship_devstate._undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transship.wire.reader import Parsing, StreamReader

_STAYS: Final = (Struct, Scratch, Unused, Equal)
"""Contents whose loading leaves the attribute as it is, unless it was None."""


def load(description: VMState, state: object, version: int, reader: StreamReader) -> Parsing[None]:
    """Decode into a state object.

    Args:
        description: Its declaration.
        state: The object; when the load fails, its attributes are put back to what they were.
        version: The one that the stream names.
        reader: Where the bytes come from.

    Raises:
        StreamError: The bytes do not fit the declaration, or the device refuses them. The error
            names the field.
        LocalError: The state object does not fit the declaration, or a hook is broken.
    """
    loader = _Loader(reader)
    try:
        yield from loader.vmstate(description, state, version)
    except BaseException as error:
        loader.undo.roll_back()
        where = description.name + "".join(loader.path)
        if isinstance(error, MigrationError):
            error.cause = f"{where}: {error.cause}"
            raise
        if isinstance(error, Exception):
            raise LocalError(
                f"{where} cannot be loaded",
                section=reader.section,
                offset=reader.offset,
                found=repr(error),
            ) from error
        raise


class _Loader:
    """One run of :func:`load`.

    Attributes:
        path: The field being loaded; left as it is when something is raised.
        undo: What was written to.
    """

    def __init__(self, reader: StreamReader) -> None:
        self.path: list[str] = []
        self.undo = Undo()
        self._reader = reader
        self._start = reader.offset

    def vmstate(self, description: VMState, state: object, version: int) -> Parsing[None]:
        """Load what a declaration says about one object."""
        if not description.minimum_version_id <= version <= description.version_id:
            raise self._reader.error(
                "unsupported version",
                expected=f"{description.minimum_version_id} to {description.version_id}",
                found=str(version),
            )
        self.undo.remember(state)
        if description.pre_load:
            description.pre_load(state)
        for field in description.fields:
            self.path.append(f".{field.name}")
            if isinstance(field, Validate):
                if not field.holds(state, version):
                    raise self._reader.error("what must hold here does not")
            elif field.is_in(state, version):
                yield from self._field(field, state)
            self.path.pop()
        yield from self._subsections(description, state)
        if description.post_load:
            self._unless_refused(description.post_load, state, version)

    def _field(self, field: Field, state: object) -> Parsing[None]:
        local = field.value(state)
        if field.items:
            value = yield from self._items(field.content, field.items, local, state)
        else:
            value = yield from self._one(field.content, local, state)
        if value is not local or not isinstance(field.content, _STAYS):
            owner, name = field.holder(state)
            self.undo.remember(owner, name)
            self._unless_refused(setattr, owner, name, value)
        if self._reader.offset - self._start > DEVICE_BYTES:
            raise self._reader.error(
                "the device's state is beyond the limit",
                expected=f"at most {DEVICE_BYTES} bytes",
                found=f"{self._reader.offset - self._start} bytes",
            )

    def _unless_refused(self, act: Callable[..., None], *arguments: object) -> None:
        try:
            act(*arguments)
        except ValueError as error:
            raise self._reader.error(f"the device refuses it: {error}") from error

    def _one(self, content: Content, local: Any, state: object) -> Parsing[Any]:
        """Load one element; ``local`` is what this side has in its place."""
        match content:
            case Struct(description):
                target = _object(local, description)
                yield from self.vmstate(description, target, content.version)
                return target
            case Scratch(description):
                scratch = content.make(state)
                yield from self.vmstate(description, scratch, description.version_id)
                return local
            case Queue(_, description):
                return _like(local, (yield from self._queue(description)))
            case Tree():
                return (yield from self._tree(content))
            case Bytes():
                return (yield from self._bytes(content, local, state))
            case Bits():
                bits = self._checked(content.length(state), BUFFER_BYTES * 8, "bits")
                return (yield from Bitmap(bits).decode(self._reader))
            case Buffer():
                return _like(local, (yield from content.decode(self._reader)))
            case Unused():
                yield from content.decode(self._reader)
                return local
            case _:
                return (yield from content.decode(self._reader, local))

    def _items(self, content: Content, items: Items, local: Any, state: object) -> Parsing[Any]:
        before = [] if local is None else list(local)
        if items.columns is not None:
            before = [element for row in before for element in row]
        count = self._checked(items.length(state), ELEMENTS, "elements")
        end = items.start + count
        if items.is_part and end > len(before):
            raise self._reader.error(
                "there are more elements than this side has room for",
                expected=f"at most {len(before) - items.start}",
                found=str(count),
            )
        if items.is_nullable and count != len(before):
            raise self._reader.error(
                "there is another number of elements than on this side",
                expected=str(len(before)),
                found=str(count),
            )
        if isinstance(content, Integer) and not items.is_nullable:
            values: list[Any] = yield from self._integers(content, count, items.start)
        else:
            values = yield from self._elements(content, items, before, count, state)
        if items.is_part:
            values = before[: items.start] + values + before[end:]
        if items.columns is not None:
            return _rows(local, values, items.columns)
        return _like(local, values)

    def _elements(
        self, content: Content, items: Items, before: list[Any], count: int, state: object
    ) -> Parsing[list[Any]]:
        values: list[Any] = []
        for place in range(items.start, items.start + count):
            self.path.append(f"[{place}]")
            local = before[place] if place < len(before) else None
            if items.is_nullable and local is None:
                yield from NULLPTR.decode(self._reader)
                values.append(None)
            else:
                values.append((yield from self._one(content, local, state)))
            self.path.pop()
        return values

    def _integers(self, integer: Integer, count: int, first: int) -> Parsing[list[int]]:
        offset = self._reader.offset
        try:
            return integer.unpack((yield from self._reader.take_large(count * integer.size)))
        except StreamError as error:
            place = first + ((error.offset or 0) - offset) // integer.size
            self.path.append(f"[{place}]")
            raise

    def _bytes(self, content: Bytes, local: Any, state: object) -> Parsing[Any]:
        size = self._checked(content.length(state), BUFFER_BYTES, "bytes")
        if not content.is_part:
            return _like(local, (yield from self._reader.take_large(size)))
        whole = bytearray(local)
        end = content.start + size
        if end > len(whole):
            raise self._reader.error(
                "there are more bytes than this side has room for",
                expected=f"at most {len(whole) - content.start}",
                found=str(size),
            )
        whole[content.start : end] = yield from self._reader.take_large(size)
        return _like(local, whole)

    def _queue(self, description: VMState) -> Parsing[list[object]]:
        result: list[object] = []
        while True:
            self.path.append(f"[{len(result)}]")
            if not (yield from self._more(len(result))):
                self.path.pop()
                return result
            element = _object(None, description)
            yield from self.vmstate(description, element, description.version_id)
            result.append(element)
            self.path.pop()

    def _tree(self, tree: Tree) -> Parsing[dict[Any, object]]:
        reader = self._reader
        offset = reader.offset
        count = self._checked((yield from reader.be32()), ELEMENTS, "nodes")
        result: dict[Any, object] = {}
        while True:
            self.path.append(f"[{len(result)}]")
            if not (yield from self._more(len(result))):
                break
            key_offset = reader.offset
            if tree.key is None or tree.make_key is None:
                key: Any = yield from UINT64.decode(reader)
            else:
                fresh = _Fresh()
                yield from self.vmstate(tree.key, fresh, tree.key.version_id)
                key = tree.make_key(**vars(fresh))
            if key in result:
                raise reader.error(
                    "a key comes twice", offset=key_offset, expected="another", found=repr(key)
                )
            result[key] = _object(None, tree.value)
            yield from self.vmstate(tree.value, result[key], tree.value.version_id)
            self.path.pop()
        self.path.pop()
        if count != len(result):
            raise reader.error(
                "a tree has another number of nodes than it said",
                offset=offset,
                expected=str(count),
                found=str(len(result)),
            )
        return result

    def _more(self, so_far: int) -> Parsing[bool]:
        """Read the marker that says whether another element follows."""
        offset = self._reader.offset
        marker = yield from self._reader.u8()
        if marker > 1:
            raise self._reader.error(
                "no marker of a list",
                offset=offset,
                expected="1, another element, or 0, the end",
                found=str(marker),
            )
        if marker:
            self._checked(so_far + 1, ELEMENTS, "elements")
        return marker == 1

    def _subsections(self, description: VMState, state: object) -> Parsing[None]:
        reader = self._reader
        left = {subsection.name: subsection for subsection in description.subsections}
        while (yield from self._at_subsection_of(description.name.encode())):
            offset = reader.offset
            yield from reader.take(1)
            name = yield from reader.counted_string()
            version = yield from reader.be32()
            subsection = left.pop(name, None)
            if subsection is None:
                raise reader.error(
                    "a subsection is unknown, or comes twice",
                    offset=offset,
                    expected=" or ".join(left) or "none",
                    found=name,
                )
            self.path.append(f":{name}")
            yield from self.vmstate(subsection, state, version)
            self.path.pop()

    def _at_subsection_of(self, parent: bytes) -> Parsing[bool]:
        """Whether what comes next is a subsection with the parent's name before its own.

        Only as many bytes are waited for as have looked like one: what follows may be anything,
        also the last bytes that the source sends before it waits for us.
        """
        if (yield from self._reader.at_end()):
            return False
        for count in range(1, len(parent) + 3):
            yield from self._reader.ensure(count)
            head = bytes(self._reader.buffered()[:count])
            if head[0] != RecordType.SUBSECTION or not parent.startswith(head[2:]):
                return False
            if count > 1 and head[1] <= len(parent):
                return False
        return True

    def _checked(self, number: int, limit: int, what: str) -> int:
        if not 0 <= number <= limit:
            raise self._reader.error(
                f"the number of {what} is beyond the limit",
                expected=f"0 to {limit}",
                found=str(number),
            )
        return number


class _Fresh:
    """An object without attributes yet, into which a key is loaded."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _object(local: Any, description: VMState) -> object:
    if local is not None:
        return local
    if description.factory is None:
        raise LocalError(
            "there is no object to load into",
            expected=f"one, or a factory in the declaration of {description.name!r}",
        )
    return description.factory()


def _like(local: Any, values: Any) -> Any:
    """The values in a container of the type that this side has."""
    if isinstance(local, array):
        return array(local.typecode, values)
    if type(local) in (bytes, bytearray, tuple, deque):
        return type(local)(values)
    return values if isinstance(values, list) else bytes(values)


def _rows(local: Iterable[Any], values: list[Any], columns: int) -> Any:
    rows = [values[start : start + columns] for start in range(0, len(values), columns)]
    return _like(local, [_like(row, part) for row, part in zip(local, rows, strict=True)])
