"""The contracts: what a transport, a channel, a section and a guest are."""

from __future__ import annotations

from transship.abc.channel import (
    Blocking,
    BlockingReceiver,
    BlockingSender,
    Channel,
    DescriptorPassing,
    ExtraChannels,
    ReturnPath,
)
from transship.abc.compression import Compression, Compressor, Decompressor
from transship.abc.guest import Blocker, Device, DirtyLog, Guest
from transship.abc.section import (
    NO_DESCRIPTOR,
    Body,
    ChannelParsing,
    ChannelWork,
    FromDescriptor,
    LiveCounters,
    Pending,
    Section,
    SectionSet,
    Segments,
)
from transship.abc.settings import Capability, Parameters, Settings
from transship.abc.transport import Address, Incoming, Listener, Options, Outgoing
from transship.wire.vmdesc import DeviceRecord

__all__ = [
    "NO_DESCRIPTOR",
    "Address",
    "Blocker",
    "Blocking",
    "BlockingReceiver",
    "BlockingSender",
    "Body",
    "Capability",
    "Channel",
    "ChannelParsing",
    "ChannelWork",
    "Compression",
    "Compressor",
    "Decompressor",
    "DescriptorPassing",
    "Device",
    "DeviceRecord",
    "DirtyLog",
    "ExtraChannels",
    "FromDescriptor",
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
