"""What a transport into a medium must do, as a class to inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.abc.transport import Address
from transship.testing import capability_checks, endurance_checks, stored_checks
from transship.testing.conformance.endurance import Endurance
from transship.testing.conformance.transport_plugins import TransportPluginConformance

if TYPE_CHECKING:
    from collections.abc import Collection

    from transship.plugin.transport import PluginTransport
    from transship.testing.stored_checks import Read, Write


@pytest.mark.trio
class StoredTransportConformance(TransportPluginConformance, Endurance):
    """What a transport into a medium must do, where a stream is written whole and read later."""

    # Required

    @pytest.fixture
    def uri(self) -> str:
        """An address to write to, and to read from."""
        raise NotImplementedError("override the fixture uri")

    # Overridable

    @pytest.fixture
    def incoming_uri(self, uri: str) -> str:
        """The same address; it is written to as well."""
        return uri

    @pytest.fixture
    def write(self, transport: PluginTransport, uri: str) -> Write:
        return lambda: transport.start_outgoing(Address.parse(uri), {})

    @pytest.fixture
    def read(self, transport: PluginTransport, uri: str) -> Read:
        return lambda: transport.start_incoming(Address.parse(uri), {})

    # Checks

    async def test_medium_keeps_segments_in_order(self, write: Write, read: Read) -> None:
        await stored_checks.check_keeps_segments_in_order(write, read)

    async def test_medium_keeps_every_buffer(self, write: Write, read: Read) -> None:
        await stored_checks.check_keeps_every_buffer(write, read)

    async def test_medium_keeps_nothing_of_empty_sends(self, write: Write, read: Read) -> None:
        await stored_checks.check_keeps_nothing_of_empty_sends(write, read)

    async def test_medium_ends_where_writing_ended(self, write: Write, read: Read) -> None:
        await stored_checks.check_ends_where_writing_ended(write, read)

    async def test_medium_refuses_to_write_after_the_end(self, write: Write, read: Read) -> None:
        await stored_checks.check_refuses_to_write_after_the_end(write, read)

    async def test_medium_detects_two_writers(self, write: Write, read: Read) -> None:
        await stored_checks.check_detects_two_writers(write, read)

    async def test_medium_is_cancellable_before_it_begins(self, write: Write, read: Read) -> None:
        await stored_checks.check_is_cancellable_before_it_begins(write, read)

    async def test_medium_keeps_no_views(self, write: Write, read: Read) -> None:
        await stored_checks.check_keeps_no_views(write, read)

    async def test_medium_writing_closes_for_good(self, write: Write, read: Read) -> None:
        await stored_checks.check_writing_closes_for_good(write, read)

    async def test_medium_can_be_read_again(self, write: Write, read: Read) -> None:
        await stored_checks.check_can_be_read_again(write, read)

    async def test_medium_second_accept_waits(self, write: Write, read: Read) -> None:
        await stored_checks.check_second_accept_waits(write, read)

    async def test_medium_does_nothing_before_entered(self, write: Write, read: Read) -> None:
        await stored_checks.check_does_nothing_before_entered(write, read)

    async def test_medium_nobody_answers(self, write: Write, read: Read) -> None:
        await stored_checks.check_nobody_answers(write, read)

    async def test_medium_places_and_gaps(self, write: Write, read: Read) -> None:
        await stored_checks.check_places_and_gaps(write, read)

    async def test_medium_threads_carry_the_same(self, write: Write, read: Read) -> None:
        await stored_checks.check_threads_carry_the_same(write, read)

    async def test_medium_failed_writing_leaves_no_stream(self, write: Write, read: Read) -> None:
        await stored_checks.check_failed_writing_leaves_no_stream(write, read)

    async def test_medium_leaves_nothing_behind(
        self, write: Write, read: Read, endurance_bytes: int
    ) -> None:
        await endurance_checks.check_medium_leaves_nothing_behind(write, read, endurance_bytes)

    async def test_medium_has_declared_capabilities(
        self, write: Write, read: Read, capabilities: Collection[type] | None
    ) -> None:
        await capability_checks.check_medium_has_declared_capabilities(write, read, capabilities)
