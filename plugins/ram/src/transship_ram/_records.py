"""The records of pages: their tags and sizes, as both sides know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from transship.wire.constants import PageFlag

if TYPE_CHECKING:
    from transship.memory.arrays import Numbers

WORD_BYTES: Final = 8
"""A record begins with a word: the offset of its page, and in the bits below a page its tag."""

FULL_TAG: Final = int(PageFlag.PAGE | PageFlag.CONTINUE)
ZERO_TAG: Final = int(PageFlag.ZERO | PageFlag.CONTINUE)
CHANGE_TAG: Final = int(PageFlag.XBZRLE | PageFlag.CONTINUE)

ZERO_RECORD_BYTES: Final = WORD_BYTES + 1

CHANGE_HEAD_BYTES: Final = 3
"""Between the word and the encoding of a change: its kind and its length."""


def full_record_bytes(page_size: int) -> int:
    """Bytes of a record of a page in full."""
    return WORD_BYTES + page_size


def change_record_bytes(page_size: int) -> int:
    """Bytes of the longest record of a change: an encoding may be as long as a page."""
    return WORD_BYTES + CHANGE_HEAD_BYTES + page_size


def count_within(ends: Numbers, budget_bytes: float) -> int:
    """How many records it takes to reach a budget; all of them, if they do not.

    Args:
        ends: Where each of them ends, never less than the one before.
        budget_bytes: More than nothing.
    """
    if ends[-1] <= budget_bytes:
        return len(ends)
    return int(np.searchsorted(ends, budget_bytes)) + 1
