"""Puts pages where they belong, once they are all there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.buffers import Buffer


def fill_targets(targets: Sequence[memoryview], pages: Buffer) -> None:
    """Copy ``pages`` into ``targets``, one after the other.

    Raises:
        ValueError: They are not exactly as long together; nothing was copied.
    """
    wanted = sum(map(len, targets))
    if len(pages) != wanted:
        raise ValueError(f"{'less' if len(pages) < wanted else 'more'} than {wanted} bytes")
    start = 0
    for target in targets:
        end = start + len(target)
        target[:] = memoryview(pages)[start:end]
        start = end
