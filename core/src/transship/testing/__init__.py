"""The public test kit: checks for authors of plugins, and channels for tests of what uses them.

Nothing here needs a test framework; :mod:`transship.testing.pytest_plugin`, imported on its own,
has the checks as classes for pytest.
"""

from __future__ import annotations

from transship.testing.channel_checks import CHANNEL_CHECKS, check_transport
from transship.testing.checking import MakePair
from transship.testing.compression_checks import (
    COMPRESSION_CHECKS,
    MakeMethod,
    check_compression,
)
from transship.testing.faults import (
    ChannelWrapper,
    CloseAfter,
    ShortReads,
    ShortWrites,
    StallAfter,
    one_byte_at_a_time,
)
from transship.testing.guests import FakeGuest, GuestWrite
from transship.testing.listener_checks import LISTENER_CHECKS, Connect, Listen, check_listener
from transship.testing.memory import MemoryChannel, memory_channel_pair

__all__ = [
    "CHANNEL_CHECKS",
    "COMPRESSION_CHECKS",
    "LISTENER_CHECKS",
    "ChannelWrapper",
    "CloseAfter",
    "Connect",
    "FakeGuest",
    "GuestWrite",
    "Listen",
    "MakeMethod",
    "MakePair",
    "MemoryChannel",
    "ShortReads",
    "ShortWrites",
    "StallAfter",
    "check_compression",
    "check_listener",
    "check_transport",
    "memory_channel_pair",
    "one_byte_at_a_time",
]
