"""What can fail fails here, before the guest is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.abc.settings import Capability
from transship.errors import BlockedError
from transship.wire.limits import IDSTR_BYTES, MACHINE_NAME_BYTES, RAM_BLOCKS, RAM_BYTES

if TYPE_CHECKING:
    from transship.abc.guest import Guest
    from transship.abc.section import SectionSet
    from transship.abc.settings import Settings


def check_source(guest: Guest, sections: SectionSet, settings: Settings) -> None:
    """Refuse a migration that cannot succeed.

    Raises:
        BlockedError: A part of the guest has no section that carries it, a name does not fit
            the stream, a RAM block has a length that no destination can take, or the guest
            cannot do what a capability asks for.
    """
    if settings.has(Capability.AUTO_CONVERGE) and not guest.can_throttle:
        raise BlockedError(
            "the guest cannot be slowed down, as the capability auto-converge asks for",
            phase="setup",
            hint="switch auto-converge off",
        )
    if settings.has(Capability.BLOCK) and not guest.disks():
        raise BlockedError("the disks are to be copied, and the guest has none", phase="setup")
    _check_machine(guest)
    _check_ram(guest, sections)
    for device in guest.devices():
        if sections.find(device.idstr, device.instance_id) is None:
            raise BlockedError(
                f"no section carries the state of device {device.idstr!r}",
                phase="setup",
                section=device.idstr,
                hint="install transship-devstate",
            )
    for section in sections:
        if len(section.idstr.encode()) > IDSTR_BYTES:
            raise BlockedError(
                f"the section name {section.idstr[:40]!r}... is too long",
                phase="setup",
                expected=f"at most {IDSTR_BYTES} bytes",
                found=f"{len(section.idstr.encode())} bytes",
            )


def _check_machine(guest: Guest) -> None:
    if not (guest.machine.isascii() and 0 < len(guest.machine) <= MACHINE_NAME_BYTES):
        raise BlockedError(
            "the guest's machine type is no name",
            phase="setup",
            expected=f"1 to {MACHINE_NAME_BYTES} ASCII characters",
            found=repr(guest.machine[:64]),
        )


def _check_ram(guest: Guest, sections: SectionSet) -> None:
    blocks = guest.ram_blocks()
    if blocks and sections.find("ram", 0) is None:
        raise BlockedError(
            "no section carries the guest's RAM", phase="setup", hint="install transship-ram"
        )
    names = [block.idstr for block in blocks]
    if len(set(names)) != len(names):
        raise BlockedError("two RAM blocks have the same name", phase="setup")
    if len(blocks) > RAM_BLOCKS or sum(block.used_length for block in blocks) > RAM_BYTES:
        raise BlockedError(
            "the guest has more RAM than a stream carries",
            phase="setup",
            expected=f"at most {RAM_BLOCKS} blocks of {RAM_BYTES} bytes together",
        )
    for block in blocks:
        if not 0 < len(block.idstr.encode()) <= IDSTR_BYTES:
            raise BlockedError(
                f"RAM block {block.idstr[:40]!r} has a name that does not fit the stream",
                phase="setup",
                expected=f"1 to {IDSTR_BYTES} bytes",
            )
        if block.used_length <= 0 or block.used_length % guest.page_size:
            raise BlockedError(
                f"RAM block {block.idstr!r} is no number of whole pages",
                phase="setup",
                expected=f"a multiple of {guest.page_size} bytes",
                found=f"{block.used_length} bytes",
            )
