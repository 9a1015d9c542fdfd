"""PreparedGuest: takes the state of any machine into memory that is in place beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.images import pages_unlike
from transship.guests.recorded import RecordedGuest
from transship.guests.scratch import physical_memory_bytes
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class PreparedGuest(RecordedGuest[RAMBlock]):
    """Holds whatever arrives, in memory.

    Args:
        blocks: Length of each block whose memory is to be in place before it comes, by idstr.
    """

    def __init__(self, blocks: Mapping[str, int]) -> None:
        super().__init__(physical_memory_bytes())
        self._prepared = {
            idstr: RAMBlock.allocate(idstr, length, backing="anonymous", prefault=True)
            for idstr, length in blocks.items()
        }

    def _make_block(self, idstr: str, length: int) -> RAMBlock:
        block = self._prepared.get(idstr)
        if block is not None and block.used_length == length:
            return block
        return RAMBlock.anonymous(idstr, length, page_size=self.page_size)

    def wrong_pages(self, idstr: str, expected: Path) -> int:
        """How many pages of a prepared block are not as in a file."""
        with self._prepared[idstr].view as view:
            return len(pages_unlike(expected, view))
