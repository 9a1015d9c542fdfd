"""What arrived in guest RAM, block by block."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from transship.inspection.report import BlockEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc.section import SectionSet
    from transship.guests.scratch import ScratchGuest
    from transship.memory.ramblock import RAMBlock

_HASHED_AT_ONCE = 16 * 1024 * 1024


class LoadedBlock(Protocol):
    """What a section has loaded into one block.

    Attributes:
        idstr: The block.
        counts: A dataclass of numbers: pages by the kind of record that they came in.
    """

    @property
    def idstr(self) -> str: ...

    @property
    def counts(self) -> Any: ...


@runtime_checkable
class CountsPages(Protocol):
    """A section that loads RAM and can tell what came: an optional capability."""

    @property
    def loaded_blocks(self) -> Sequence[LoadedBlock]: ...


def describe_ram(guest: ScratchGuest, sections: SectionSet, *, is_final: bool) -> list[BlockEntry]:
    """The blocks in stream order.

    Args:
        guest: Where they were loaded.
        sections: What loaded them.
        is_final: Whether the stream has been read to its end; otherwise the contents are none
            that the guest ever had, and get no checksum.
    """
    counts = {
        block.idstr: asdict(block.counts)
        for section in sections
        if isinstance(section, CountsPages)
        for block in section.loaded_blocks
    }
    return [
        BlockEntry(
            block.idstr,
            block.used_length,
            sha256(block) if is_final and block.is_whole else None,
            counts.get(block.idstr, {}),
        )
        for block in guest.ram_blocks()
    ]


def sha256(block: RAMBlock) -> str:
    """Checksum of a block's contents, in hexadecimal digits."""
    digest = hashlib.sha256()
    with block.view as view:
        for start in range(0, len(view), _HASHED_AT_ONCE):
            with view[start : start + _HASHED_AT_ONCE] as part:
                digest.update(part)
    return digest.hexdigest()
