"""What a transport says that its channels can do, against what they can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.abc.channel import CHANNEL_CAPABILITIES
from transship.testing.checking import MakePair, require

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from transship.abc.channel import Channel
    from transship.testing.stored_checks import Read, Write


async def check_has_declared_capabilities(
    make_pair: MakePair, declared: Collection[type] | None
) -> None:
    """What the hook ``channel_capabilities`` names is there at one end, and nothing else at either.

    Does not apply to a transport without the hook: ``declared`` is None.
    """
    if declared is None:
        return
    async with make_pair() as ends:
        _require_as_declared(_found_at(ends, declared), declared)


async def check_medium_has_declared_capabilities(
    write: Write, read: Read, declared: Collection[type] | None
) -> None:
    """The same for a medium, which is written and then read."""
    if declared is None:
        return
    async with write() as channel:
        found = _found_at([channel], declared)
        await channel.send_segments((b"x",))
        await channel.send_eof()
    async with read() as listener:
        channel = await listener.accept()
        try:
            found |= _found_at([channel], declared)
        finally:
            await channel.aclose()
    _require_as_declared(found, declared)


def _found_at(ends: Iterable[Channel], declared: Collection[type]) -> set[type]:
    kinds = {*CHANNEL_CAPABILITIES, *declared}
    return {kind for end in ends for kind in kinds if end.capability(kind) is not None}


def _require_as_declared(found: set[type], declared: Collection[type]) -> None:
    complaints = sorted(
        f"{kind.__name__} is {'not ' * (kind not in found)}there, and "
        f"{'not ' * (kind not in declared)}declared"
        for kind in found.symmetric_difference(declared)
    )
    require(not complaints, "; ".join(complaints))
