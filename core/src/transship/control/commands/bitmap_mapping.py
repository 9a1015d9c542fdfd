"""``block-bitmap-mapping``: what disks and dirty bitmaps are called in the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.abc.settings import BitmapAlias, NodeAlias, check_mapping
from transship.control.errors import generic
from transship.control.qapi.declaring import Object

if TYPE_CHECKING:
    from collections.abc import Iterable


class BitmapMigrationBitmapAliasTransform(Object):
    """What becomes of a bitmap on its way."""

    persistent: bool | None = None


class BitmapMigrationBitmapAlias(Object):
    """A bitmap, and its name in the stream."""

    name: str
    alias: str
    transform: BitmapMigrationBitmapAliasTransform | None = None


class BitmapMigrationNodeAlias(Object):
    """A disk by its node name, its name in the stream, and its bitmaps that are sent or taken."""

    node_name: str
    alias: str
    bitmaps: list[BitmapMigrationBitmapAlias]


def node_aliases(mapping: Iterable[BitmapMigrationNodeAlias]) -> tuple[NodeAlias, ...]:
    """A mapping in the engine's words.

    Raises:
        CommandError: A name is there twice, or does not fit the stream.
    """
    aliases = tuple(
        NodeAlias(node.node_name, node.alias, tuple(map(_bitmap_alias, node.bitmaps)))
        for node in mapping
    )
    try:
        check_mapping(aliases)
    except ValueError as error:
        raise generic(f"parameter 'block-bitmap-mapping': {error}") from None
    return aliases


def shown_mapping(aliases: Iterable[NodeAlias]) -> list[BitmapMigrationNodeAlias]:
    """A mapping in the operator's words."""
    return [
        BitmapMigrationNodeAlias(node.node_name, node.alias, list(map(_shown_bitmap, node.bitmaps)))
        for node in aliases
    ]


def _bitmap_alias(bitmap: BitmapMigrationBitmapAlias) -> BitmapAlias:
    is_persistent = None if bitmap.transform is None else bitmap.transform.persistent
    return BitmapAlias(bitmap.name, bitmap.alias, is_persistent)


def _shown_bitmap(alias: BitmapAlias) -> BitmapMigrationBitmapAlias:
    transform = None
    if alias.is_persistent is not None:
        transform = BitmapMigrationBitmapAliasTransform(alias.is_persistent)
    return BitmapMigrationBitmapAlias(alias.name, alias.alias, transform)
