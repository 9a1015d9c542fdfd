"""Words of the RAM section."""

from __future__ import annotations

import pytest

from transship.wire.constants import PageFlag
from transship.wire.pages import KINDS, PageWord, split_word


@pytest.mark.parametrize("kind", list(KINDS))
def test_word_of_each_kind_is_split(kind: PageFlag) -> None:
    assert split_word(0x5000 | kind, 4096) == PageWord(kind, 0x5000, continues=False)


def test_page_that_continues_its_block_says_so() -> None:
    word = split_word(0x1000 | PageFlag.PAGE | PageFlag.CONTINUE, 4096)
    assert word == PageWord(PageFlag.PAGE, 0x1000, continues=True)


def test_every_other_combination_of_flags_is_refused() -> None:
    legal = {int(kind) for kind in KINDS}
    legal |= {
        int(kind | PageFlag.CONTINUE)
        for kind in (PageFlag.ZERO, PageFlag.PAGE, PageFlag.XBZRLE, PageFlag.COMPRESS_PAGE)
    }
    accepted = {flags for flags in range(4096) if split_word(flags, 4096) is not None}
    assert accepted == legal
