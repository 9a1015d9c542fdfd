"""The contracts: what a transport, a channel, a section and a guest are."""

from __future__ import annotations

from transship.abc.channel import Channel, ReturnPath
from transship.abc.guest import Blocker, Device, DirtyLog, Guest
from transship.abc.section import LiveCounters, Pending, Section, SectionSet, Segments
from transship.abc.settings import Capability, Parameters, Settings
from transship.abc.transport import Address, Incoming, Listener, Options, Outgoing
from transship.wire.vmdesc import DeviceRecord

__all__ = [
    "Address",
    "Blocker",
    "Capability",
    "Channel",
    "Device",
    "DeviceRecord",
    "DirtyLog",
    "Guest",
    "Incoming",
    "Listener",
    "LiveCounters",
    "Options",
    "Outgoing",
    "Parameters",
    "Pending",
    "ReturnPath",
    "Section",
    "SectionSet",
    "Segments",
    "Settings",
]
