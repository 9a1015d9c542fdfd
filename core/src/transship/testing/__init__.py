"""The public test kit: checks for authors of plugins, and channels for tests of what uses them.

Nothing here needs a test framework; :mod:`transship.testing.pytest_plugin`, imported on its own,
has the checks as classes for pytest.
"""

from __future__ import annotations

from transship.testing.belongings import Belongings
from transship.testing.channel_checks import CHANNEL_CHECKS, check_transport
from transship.testing.checking import Connect, Listen, MakePair
from transship.testing.compression_checks import (
    COMPRESSION_CHECKS,
    MakeMethod,
    check_compression,
)
from transship.testing.disk_checks import (
    BLOCK_DEVICE_CHECKS,
    OpenDevice,
    check_block_device,
)
from transship.testing.endurance_checks import (
    Endured,
    check_leaves_nothing_behind,
    check_medium_leaves_nothing_behind,
    check_remote_memory_leaves_nothing_behind,
)
from transship.testing.faults import (
    ChannelWrapper,
    CloseAfter,
    ExtraFaults,
    ShortReads,
    ShortWrites,
    SlowLink,
    StallAfter,
    one_byte_at_a_time,
)
from transship.testing.guests import FakeGuest, GuestWrite
from transship.testing.listener_checks import LISTENER_CHECKS, check_listener
from transship.testing.live_section_checks import LIVE_SECTION_CHECKS
from transship.testing.memory import MemoryChannel, memory_channel_pair
from transship.testing.section_case import (
    GoldenSection,
    MakeGuest,
    MakeSection,
    SavedRecord,
    SectionCase,
    StateOf,
    ram_and_devices,
)
from transship.testing.section_checks import SECTION_CHECKS, check_section
from transship.testing.stored_checks import STORED_CHECKS, Read, Write, check_stored_transport

__all__ = [
    "BLOCK_DEVICE_CHECKS",
    "CHANNEL_CHECKS",
    "COMPRESSION_CHECKS",
    "LISTENER_CHECKS",
    "LIVE_SECTION_CHECKS",
    "SECTION_CHECKS",
    "STORED_CHECKS",
    "Belongings",
    "ChannelWrapper",
    "CloseAfter",
    "Connect",
    "Endured",
    "ExtraFaults",
    "FakeGuest",
    "GoldenSection",
    "GuestWrite",
    "Listen",
    "MakeGuest",
    "MakeMethod",
    "MakePair",
    "MakeSection",
    "MemoryChannel",
    "OpenDevice",
    "Read",
    "SavedRecord",
    "SectionCase",
    "ShortReads",
    "ShortWrites",
    "SlowLink",
    "StallAfter",
    "StateOf",
    "Write",
    "check_block_device",
    "check_compression",
    "check_leaves_nothing_behind",
    "check_listener",
    "check_medium_leaves_nothing_behind",
    "check_remote_memory_leaves_nothing_behind",
    "check_section",
    "check_stored_transport",
    "check_transport",
    "memory_channel_pair",
    "one_byte_at_a_time",
    "ram_and_devices",
]
