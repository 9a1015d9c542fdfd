"""What saving a device produced, piece by piece, with measured sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transship.wire.fields import Field, VMState


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements of a field that lie one behind the other and look the same.

    Args:
        type_name: What the stream's description calls them.
        size: Bytes of one.
        count: How many.
        nested: What one consists of: of a struct its layout, of a list those of its elements.
    """

    type_name: str
    size: int
    count: int = 1
    nested: tuple[Layout, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedField:
    """A field and its elements."""

    field: Field
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A declaration and what of it was saved."""

    description: VMState
    version_id: int
    fields: tuple[SavedField, ...]
    subsections: tuple[Layout, ...]
