"""Multifd as both sides of the section see it: which rules hold, which packets there are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from transship.abc import Capability
from transship.wire.multifd import CHANNELS

if TYPE_CHECKING:
    from transship.abc import Settings

_VERSIONED: Final = re.compile(r"(?:pc|virt|pseries|s390-ccw-virtio)[a-z0-9-]*-(\d+)\.(\d+)")
"""QEMU's machine types that end in the version of QEMU that they behave as."""


class Rules(NamedTuple):
    """How a machine type wants multifd; both sides know it from the type's name.

    Args:
        syncs_each_record: Channels and stream meet before the end of every record, and no word
            says so; else where the stream has one.
        zeros_in_stream: Zero pages are records of the stream; else they are in packets.
    """

    syncs_each_record: bool
    zeros_in_stream: bool


def rules_of(machine: str) -> Rules:
    """The rules of a machine type; of one that is not QEMU's, those of QEMU 10.0.

    Source: QEMU's ``multifd-flush-after-each-section`` is on up to 8.0, and its
    ``zero-page-detection`` is ``legacy`` up to 8.2.
    """
    found = _VERSIONED.fullmatch(machine)
    version = (int(found[1]), int(found[2])) if found else (10, 0)
    return Rules(syncs_each_record=version <= (8, 0), zeros_in_stream=version <= (8, 2))


def channel_count(settings: Settings) -> int:
    """Over how many extra channels memory goes; 0 without multifd, and into a file."""
    if not settings.has(Capability.MULTIFD) or settings.has(Capability.MAPPED_RAM):
        return 0
    return min(settings.parameters.multifd_channels, CHANNELS)


def file_threads(settings: Settings) -> int:
    """How many threads read or write a file at once: as many as there would be channels."""
    if not settings.has(Capability.MULTIFD):
        return 1
    return min(settings.parameters.multifd_channels, CHANNELS)
