"""What is said where one side alone has the capability multifd; the other side hears it too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc.section import Section
from transship.engine.channels.loading import ChannelLoaders
from transship.errors import StalledError, StreamError
from transship.plugin.registry import SectionRegistry
from transship.wire.reader import RENDEZVOUS, Parsing, StreamReader, drive

if TYPE_CHECKING:
    from trio.testing import MockClock


class Many(Section):
    idstr = "ram"
    version_id = 1
    extra_channels = 2


def waits_for_others() -> Parsing[None]:
    yield RENDEZVOUS


def test_source_alone_is_told_where_to_switch_it_on_and_off() -> None:
    with pytest.raises(StreamError) as caught:
        drive(waits_for_others(), StreamReader(), lambda _: 0)
    assert caught.value.hint == (
        "switch the capability multifd on at the destination, or off at the source"
    )


async def test_destination_alone_is_told_where_to_switch_it_on_and_off(
    autojump_clock: MockClock,
) -> None:
    loaders = ChannelLoaders(SectionRegistry([]), Many(), None, 30.0)
    with pytest.raises(StalledError) as caught, trio.fail_after(60):
        await loaders.meet()
    assert caught.value.hint == (
        "switch the capability multifd on at the source, or off at the destination"
    )
