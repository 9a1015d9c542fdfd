"""The counting guest of `qemu_peer.boot`, in a form whose every write a QEMU under TCG logs.

QEMU 7.2.22 under TCG takes a page for clean that the guest has written again since the second
sync of the dirty log, as long as the translation of the page's address stays cached: after a
migration of several rounds the source's own memory differs from what it sent, also from QEMU to
QEMU. So such a stream proves nothing about who received it. 10.0.2 has no such fault. A guest
that makes its processor forget all translations once a sweep is migrated faithfully by both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qemu_peer.boot import SECTOR_BYTES, boot_sector

if TYPE_CHECKING:
    from pathlib import Path

_SWEEP: Final = 0x3F
"""Where in the boot sector a sweep begins."""

_JUMP_BACK: Final = 0x7A
"""Where the jump lies that ends a sweep."""

_DISK_BYTES: Final = 1 << 20

# CR0.WP means nothing in real mode, but a change of it voids cached translations.
# fmt: off
_FORGET: Final = bytes.fromhex(
    "0f 20 c0"              # mov  eax, cr0
    "66 35 00 00 01 00"     # xor  eax, 0x10000
    "0f 22 c0"              # mov  cr0, eax
    "66 35 00 00 01 00"     # xor  eax, 0x10000
    "0f 22 c0"              # mov  cr0, eax
    "e9"                    # jmp  sweep       ; 16 bits of distance follow
)
# fmt: on


def write_forgetful_boot_image(path: Path) -> None:
    """Write the boot sector as a raw disk; a sweep ends with a detour."""
    sector = bytearray(boot_sector())
    detour = len(bytes(sector[: SECTOR_BYTES - 2]).rstrip(b"\0"))
    after = detour + len(_FORGET) + 2
    old_jump = b"\xeb" + (_SWEEP - (_JUMP_BACK + 2)).to_bytes(1, "little", signed=True)
    assert sector[_JUMP_BACK : _JUMP_BACK + 2] == old_jump, "the boot sector has changed"
    assert after <= SECTOR_BYTES - 2, "the boot sector is full"
    sector[_JUMP_BACK : _JUMP_BACK + 2] = bytes([0xEB, detour - (_JUMP_BACK + 2)])
    sector[detour:after] = _FORGET + (_SWEEP - after).to_bytes(2, "little", signed=True)
    path.write_bytes(sector.ljust(_DISK_BYTES, b"\0"))
