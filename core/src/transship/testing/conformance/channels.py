"""What a channel must do, as a class to inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.testing import (
    blocking_checks,
    channel_checks,
    descriptor_checks,
    endurance_checks,
    remote_memory_checks,
)
from transship.testing.conformance.endurance import Endurance

if TYPE_CHECKING:
    from transship.testing.checking import MakePair


@pytest.mark.trio
class ChannelConformance(Endurance):
    """What every channel must do, whoever made it; inherit it, and override ``make_pair``."""

    # Required

    @pytest.fixture
    def make_pair(self) -> MakePair:
        """Makes a connected source and destination; see :data:`MakePair`."""
        raise NotImplementedError("override the fixture make_pair")

    # Checks

    async def test_channel_names_its_peer(self, make_pair: MakePair) -> None:
        await channel_checks.check_names_its_peer(make_pair)

    async def test_channel_carries_segments_in_order(self, make_pair: MakePair) -> None:
        await channel_checks.check_carries_segments_in_order(make_pair)

    async def test_channel_accepts_every_buffer(self, make_pair: MakePair) -> None:
        await channel_checks.check_accepts_every_buffer(make_pair)

    async def test_channel_tolerates_empty_sends(self, make_pair: MakePair) -> None:
        await channel_checks.check_tolerates_empty_sends(make_pair)

    async def test_channel_resumes_after_short_writes(self, make_pair: MakePair) -> None:
        await channel_checks.check_resumes_after_short_writes(make_pair)

    async def test_channel_bounds_its_buffers(self, make_pair: MakePair) -> None:
        await channel_checks.check_bounds_its_buffers(make_pair)

    async def test_channel_receives_exactly(self, make_pair: MakePair) -> None:
        await channel_checks.check_receives_exactly(make_pair)

    async def test_channel_ends_one_direction(self, make_pair: MakePair) -> None:
        await channel_checks.check_ends_one_direction(make_pair)

    async def test_channel_notices_lost_destination(self, make_pair: MakePair) -> None:
        await channel_checks.check_notices_lost_destination(make_pair)

    async def test_channel_notices_lost_source(self, make_pair: MakePair) -> None:
        await channel_checks.check_notices_lost_source(make_pair)

    async def test_channel_detects_two_senders(self, make_pair: MakePair) -> None:
        await channel_checks.check_detects_two_senders(make_pair)

    async def test_channel_detects_two_receivers(self, make_pair: MakePair) -> None:
        await channel_checks.check_detects_two_receivers(make_pair)

    async def test_channel_cancelled_send_poisons(self, make_pair: MakePair) -> None:
        await channel_checks.check_cancelled_send_poisons(make_pair)

    async def test_channel_cancelled_receive_ends(self, make_pair: MakePair) -> None:
        await channel_checks.check_cancelled_receive_ends(make_pair)

    async def test_channel_is_cancellable_at_once(self, make_pair: MakePair) -> None:
        await channel_checks.check_is_cancellable_at_once(make_pair)

    async def test_channel_closing_breaks_blocked_send(self, make_pair: MakePair) -> None:
        await channel_checks.check_closing_breaks_blocked_send(make_pair)

    async def test_channel_closing_breaks_blocked_receive(self, make_pair: MakePair) -> None:
        await channel_checks.check_closing_breaks_blocked_receive(make_pair)

    async def test_channel_closes_for_good(self, make_pair: MakePair) -> None:
        await channel_checks.check_closes_for_good(make_pair)

    async def test_channel_holds_no_views(self, make_pair: MakePair) -> None:
        await channel_checks.check_holds_no_views(make_pair)

    async def test_channel_return_path(self, make_pair: MakePair) -> None:
        await channel_checks.check_return_path(make_pair)

    async def test_channel_passes_descriptors(self, make_pair: MakePair) -> None:
        await descriptor_checks.check_passes_descriptors(make_pair)

    async def test_channel_blocks_with_the_same_bytes(self, make_pair: MakePair) -> None:
        await blocking_checks.check_blocks_with_the_same_bytes(make_pair)

    async def test_channel_blocks_over_a_descriptor(self, make_pair: MakePair) -> None:
        await blocking_checks.check_blocks_over_a_descriptor(make_pair)

    async def test_channel_blocking_call_times_out(self, make_pair: MakePair) -> None:
        await blocking_checks.check_blocking_call_times_out(make_pair)

    async def test_channel_interrupt_breaks_one_half(self, make_pair: MakePair) -> None:
        await blocking_checks.check_interrupt_breaks_one_half(make_pair)

    async def test_channel_blocking_call_notices_lost_peer(self, make_pair: MakePair) -> None:
        await blocking_checks.check_blocking_call_notices_lost_peer(make_pair)

    async def test_channel_writes_remote_memory(self, make_pair: MakePair) -> None:
        await remote_memory_checks.check_writes_remote_memory(make_pair)

    async def test_channel_refuses_other_memory(self, make_pair: MakePair) -> None:
        await remote_memory_checks.check_refuses_other_memory(make_pair)

    async def test_channel_refuses_runs_outside_memory(self, make_pair: MakePair) -> None:
        await remote_memory_checks.check_refuses_runs_outside_memory(make_pair)

    async def test_channel_lets_go_of_memory(self, make_pair: MakePair) -> None:
        await remote_memory_checks.check_lets_go_of_memory(make_pair)

    async def test_channel_writes_nothing_when_left(self, make_pair: MakePair) -> None:
        await remote_memory_checks.check_writes_nothing_when_left(make_pair)

    async def test_channel_cancelled_write_ends(self, make_pair: MakePair) -> None:
        await remote_memory_checks.check_cancelled_write_ends(make_pair)

    async def test_channel_stops_writing_when_closed(self, make_pair: MakePair) -> None:
        await remote_memory_checks.check_stops_writing_when_closed(make_pair)

    async def test_channel_leaves_nothing_behind(
        self, make_pair: MakePair, endurance_bytes: int
    ) -> None:
        await endurance_checks.check_leaves_nothing_behind(make_pair, endurance_bytes)

    async def test_channel_remote_memory_leaves_nothing_behind(
        self, make_pair: MakePair, endurance_bytes: int
    ) -> None:
        await endurance_checks.check_remote_memory_leaves_nothing_behind(make_pair, endurance_bytes)
