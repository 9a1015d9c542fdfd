from __future__ import annotations

import pytest

from transship.toolkit import fill_targets


def test_targets_are_filled_one_after_the_other() -> None:
    room = bytearray(b"........")
    view = memoryview(room)
    fill_targets([view[5:8], view[0:2]], b"abcde")
    assert room == b"de...abc"


@pytest.mark.parametrize(
    ("pages", "reason"), [(b"abcd", "less than 5 bytes"), (b"abcdef", "more than 5 bytes")]
)
def test_pages_that_do_not_fit_are_refused_and_nothing_is_copied(pages: bytes, reason: str) -> None:
    room = bytearray(5)
    with pytest.raises(ValueError, match=reason):
        fill_targets([memoryview(room)], pages)
    assert room == bytes(5)
