"""What disks and dirty bitmaps are called in the stream: by themselves, or as an operator says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transship.abc import BitmapAlias, Disk, DiskBitmap, NodeAlias

    Mapping = Sequence[NodeAlias] | None


class NamedBitmap(NamedTuple):
    """A dirty bitmap, as the stream names it.

    Args:
        disk: Whose it is.
        bitmap: The bitmap.
        node_alias: The disk's name in the stream.
        bitmap_alias: The bitmap's.
        is_persistent: Whether it is to be stored with its disk.
    """

    disk: Disk
    bitmap: DiskBitmap
    node_alias: str
    bitmap_alias: str
    is_persistent: bool


class Target(NamedTuple):
    """Where a bitmap that comes belongs.

    Args:
        disk: Whose it becomes.
        name: What it is called there.
        is_persistent: Whether it is to be stored with the disk; None for what the source says.
    """

    disk: Disk
    name: str
    is_persistent: bool | None


def bitmaps_to_send(disks: Iterable[Disk], mapping: Mapping) -> Iterator[NamedBitmap]:
    """All that go into the stream; what a mapping does not name stays here."""
    for disk in disks:
        node = _node_of(disk, mapping)
        if mapping is not None and node is None:
            continue
        for bitmap in list(disk.bitmaps.values()):
            if node is None:
                yield NamedBitmap(disk, bitmap, disk.name, bitmap.name, bitmap.is_persistent)
                continue
            for alias in node.bitmaps:
                if alias.name == bitmap.name:
                    is_persistent = bitmap.is_persistent
                    if alias.is_persistent is not None:
                        is_persistent = alias.is_persistent
                    yield NamedBitmap(disk, bitmap, node.alias, alias.alias, is_persistent)


def target_of(
    disks: Iterable[Disk], mapping: Mapping, node_alias: str, bitmap_alias: str
) -> Target | str:
    """Where a bitmap from the stream belongs, or why it belongs nowhere here."""
    if mapping is None:
        for disk in disks:
            if node_alias in (disk.name, disk.node_name):
                return Target(disk, bitmap_alias, None)
        return f"there is no disk {node_alias!r} here"
    node = next((one for one in mapping if one.alias == node_alias), None)
    if node is None:
        return f"block-bitmap-mapping has no alias {node_alias!r}"
    bitmap = _bitmap_of(node.bitmaps, bitmap_alias)
    if bitmap is None:
        return f"block-bitmap-mapping has no alias {bitmap_alias!r} of {node_alias!r}"
    for disk in disks:
        if disk.node_name == node.node_name:
            return Target(disk, bitmap.name, bitmap.is_persistent)
    return f"there is no disk with the node name {node.node_name!r} here"


def _node_of(disk: Disk, mapping: Mapping) -> NodeAlias | None:
    return next((node for node in mapping or () if node.node_name == disk.node_name), None)


def _bitmap_of(bitmaps: Iterable[BitmapAlias], alias: str) -> BitmapAlias | None:
    return next((bitmap for bitmap in bitmaps if bitmap.alias == alias), None)
