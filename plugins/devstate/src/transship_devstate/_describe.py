"""The stream's description of a saved device, in exactly the form that QEMU 10.0 writes.

Elements that look alike are described once, with ``array_len``; where a predicate may make them
differ, each is described, with its ``index``, and the last one without.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from transship.wire.elements import NULLPTR
from transship.wire.fields import Field, Struct, Validate
from transship.wire.vmdesc import Object, Value, serialise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.wire.fields import VMState
    from transship_devstate._layout import Layout, Piece, SavedField

_STRUCT = "struct"


def describe(idstr: str, instance_id: int, layout: Layout) -> str:
    """A device's object in the VMDESCRIPTION, as JSON text."""
    head = Object([("name", idstr), ("instance_id", instance_id)])
    return serialise(Object([*head, *_vmstate(layout)]))


def _vmstate(layout: Layout) -> Object:
    names = _unique_names(layout.description)
    fields = [one for field in layout.fields for one in _field(field, names[id(field.field)])]
    members: list[tuple[str, Value]] = [
        ("vmsd_name", layout.description.name),
        ("version", layout.version_id),
        ("fields", fields),
    ]
    if layout.subsections:
        members.append(("subsections", [_vmstate(one) for one in layout.subsections]))
    return Object(members)


def _unique_names(description: VMState) -> dict[int, str]:
    """Names by identity of the field: those that occur more than once are numbered."""
    total = Counter(field.name for field in description.fields)
    seen: Counter[str] = Counter()
    names = {}
    for field in description.fields:
        is_shared = total[field.name] > 1
        names[id(field)] = f"{field.name}[{seen[field.name]}]" if is_shared else field.name
        seen[field.name] += 1
    return names


def _field(saved: SavedField, name: str) -> Iterator[Object]:
    if not _is_alike(saved):
        pieces = [piece for piece in saved.pieces for _ in range(piece.count)]
        for index, piece in enumerate(pieces):
            is_last = index == len(pieces) - 1
            yield _piece(name, piece, ("index", None if is_last else index))
        return
    for _, same in groupby(saved.pieces, key=lambda piece: piece.type_name == NULLPTR.type_name):
        first, *others = same
        count = first.count + sum(other.count for other in others)
        if count:
            yield _piece(name, first, ("array_len", count if count > 1 else None))


def _piece(name: str, piece: Piece, place: tuple[str, int | None]) -> Object:
    members: list[tuple[str, Value]] = [("name", name)]
    if place[1] is not None:
        members.append((place[0], place[1]))
    members.append(("type", piece.type_name))
    if piece.type_name == _STRUCT:
        members.append((_STRUCT, _vmstate(piece.nested[0])))
    else:
        for layout in piece.nested:
            members += _vmstate(layout)
    members.append(("size", piece.size))
    return Object(members)


def _is_alike(saved: SavedField) -> bool:
    """Whether one element may stand for all: by declaration, and by what was measured."""
    if not _is_compressible(saved.field):
        return False
    present = [piece for piece in saved.pieces if piece.type_name != NULLPTR.type_name]
    return all(
        (piece.size, piece.nested) == (present[0].size, present[0].nested) for piece in present
    )


def _is_compressible(field: Field | Validate) -> bool:
    if isinstance(field, Validate) or field.exists is not None:
        return False
    if not isinstance(field.content, Struct):
        return True
    description = field.content.description
    return not description.subsections and all(map(_is_compressible, description.fields))
