"""A section and guests to try it on: what an author gives to the checks of sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from transship.abc.guest import Guest
from transship.abc.section import Section
from transship.testing.guests import FakeGuest

if TYPE_CHECKING:
    from transship.wire.constants import RecordType

MakeSection = Callable[[Guest], Section]
"""Makes the section of one migration of that guest."""

MakeGuest = Callable[[], Guest]
"""Makes a guest, always in the same state."""

StateOf = Callable[[Guest], object]
"""What of a guest the section carries, as something that can be compared."""


class SavedRecord(NamedTuple):
    """One record of a section.

    Args:
        kind: START, PART, END, or FULL.
        body: Its bytes.
    """

    kind: RecordType
    body: bytes


class GoldenSection(NamedTuple):
    """Bytes that some version of a section once saved, kept for ever.

    Args:
        version_id: The version that wrote them.
        records: In the order of the stream.
        state: What they stand for, as the case's ``state_of`` says it.
    """

    version_id: int
    records: Sequence[SavedRecord]
    state: object


def ram_and_devices(guest: Guest) -> object:
    """The contents of all RAM blocks, and the attributes of all devices."""
    blocks = {block.idstr: bytes(block.view) for block in guest.ram_blocks()}
    devices = {
        (device.idstr, device.instance_id): _plain(device.state) for device in guest.devices()
    }
    return blocks, devices


def _plain(value: Any) -> Any:
    """Attributes as data, since few states compare by value."""
    if hasattr(value, "__dict__"):
        return {name: _plain(inner) for name, inner in vars(value).items()}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def play(guest: Guest) -> object:
    """Take the next step of a script, where there is one."""
    return guest.play() if isinstance(guest, FakeGuest) else None


@dataclass(frozen=True)
class SectionCase:
    """A section, and guests to try it on.

    Args:
        make_section: Makes the section. It has no extra channels.
        make_guest: Makes the source's guest, a few MiB of state at most.
        make_destination: Makes the guest that is loaded into, in another state.
        state_of: What is to arrive: RAM and devices, if not given.
        step: Lets the guest work between two records, if it does: a step of its script, if not
            given.
        golden: Streams of older versions.
        most_beyond_budget_bytes: By how much a PART may exceed its budget.
    """

    make_section: MakeSection
    make_guest: MakeGuest
    make_destination: MakeGuest
    state_of: StateOf = ram_and_devices
    step: Callable[[Guest], object] = play
    golden: Sequence[GoldenSection] = ()
    most_beyond_budget_bytes: int = 64 * 1024
