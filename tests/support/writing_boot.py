"""The counting guest of `qemu_peer.boot`, which also writes its counter to two disks, every sweep.

The disks are the two of the second IDE channel. After sweep n the guest writes one sector of each,
the master's first, and waits until the drive has taken it: n, 128 times. Sector numbers go round
through `SLOTS` places, `STRIDE_SECTORS` apart, so that all of a disk is written again and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qemu_peer.boot import COUNTER_ADDRESS, SECTOR_BYTES, boot_sector

if TYPE_CHECKING:
    from pathlib import Path

SLOTS: Final = 1 << 10
STRIDE_SECTORS: Final = 1 << 6
WRITTEN_BYTES: Final = SLOTS * STRIDE_SECTORS * SECTOR_BYTES
"""The least size of a disk."""

_SWEEP: Final = 0x3F
"""Where in the boot sector a sweep begins."""

_JUMP_BACK: Final = 0x7A
"""Where the jump lies that ends a sweep."""

_BOOT_DISK_BYTES: Final = 1 << 20

# fmt: off
_WRITE: Final = bytes.fromhex(
    "b3 e0"         # mov  bl, 0xe0            ; the master, by sector number
    # ---------------------------------------- 0x02 disk:
    "e8 45 00"      # call ready
    "4a"            # dec  dx                  ; drive:
    "88 d8"         # mov  al, bl
    "ee"            # out  dx, al
    "e8 3e 00"      # call ready
    "ba 72 01"      # mov  dx, 0x172           ; count:
    "b0 01"         # mov  al, 1
    "ee"            # out  dx, al
    "66 a1 00 80"   # mov  eax, [0x8000]
    "25 ff 03"      # and  ax, SLOTS - 1
    "c1 e0 06"      # shl  ax, 6               ; times STRIDE_SECTORS
    "42"            # inc  dx                  ; sector number, lowest byte first
    "ee"            # out  dx, al
    "42"            # inc  dx
    "88 e0"         # mov  al, ah
    "ee"            # out  dx, al
    "42"            # inc  dx
    "30 c0"         # xor  al, al
    "ee"            # out  dx, al
    "ba 77 01"      # mov  dx, 0x177           ; command:
    "b0 30"         # mov  al, 0x30            ;   write sectors
    "ee"            # out  dx, al
    # ---------------------------------------- 0x2c wanted:
    "ec"            # in   al, dx
    "a8 08"         # test al, 0x08            ; data wanted?
    "74 fb"         # jz   wanted
    "ba 70 01"      # mov  dx, 0x170           ; data:
    "66 a1 00 80"   # mov  eax, [0x8000]
    "b9 80 00"      # mov  cx, 128
    # ---------------------------------------- 0x3b data:
    "66 ef"         # out  dx, eax
    "e2 fc"         # loop data
    "e8 08 00"      # call ready
    "80 c3 10"      # add  bl, 0x10            ; the slave; after it, 0
    "75 bb"         # jnz  disk
    "e9"            # jmp  sweep               ; 16 bits of distance follow
)
_READY: Final = bytes.fromhex(
    # ---------------------------------------- 0x4a ready:
    "ba 77 01"      # mov  dx, 0x177           ; status
    # ---------------------------------------- 0x4d busy:
    "ec"            # in   al, dx
    "a8 80"         # test al, 0x80            ; busy?
    "75 fb"         # jnz  busy
    "c3"            # ret
)
# fmt: on


def write_writing_boot_image(path: Path) -> None:
    """Write the boot sector as a raw disk; a sweep ends with writes."""
    sector = bytearray(boot_sector())
    detour = len(bytes(sector[: SECTOR_BYTES - 2]).rstrip(b"\0"))
    after_jump = detour + len(_WRITE) + 2
    end = after_jump + len(_READY)
    old_jump = b"\xeb" + (_SWEEP - (_JUMP_BACK + 2)).to_bytes(1, "little", signed=True)
    assert sector[_JUMP_BACK : _JUMP_BACK + 2] == old_jump, "the boot sector has changed"
    assert end <= SECTOR_BYTES - 2, "the boot sector is full"
    sector[_JUMP_BACK : _JUMP_BACK + 2] = bytes([0xEB, detour - (_JUMP_BACK + 2)])
    back = (_SWEEP - after_jump).to_bytes(2, "little", signed=True)
    sector[detour:end] = _WRITE + back + _READY
    path.write_bytes(sector.ljust(_BOOT_DISK_BYTES, b"\0"))


def last_sweep(ram: bytes) -> int:
    """Return how many sweeps a stopped guest has done, from its memory."""
    return int.from_bytes(ram[COUNTER_ADDRESS : COUNTER_ADDRESS + 4], "little")


def assert_all_written(disk: bytes, sweep: int) -> None:
    """Fail unless a disk holds all that its guest has written.

    Args:
        disk: The disk's content.
        sweep: The guest's last sweep, whose own write may not have been reached yet.
    """
    for slot in range(SLOTS):
        at = slot * STRIDE_SECTORS * SECTOR_BYTES
        sector = disk[at : at + SECTOR_BYTES]
        latest = sweep - (sweep - slot) % SLOTS
        allowed = {max(latest, 0), max(latest - SLOTS, 0)} if latest == sweep else {max(latest, 0)}
        value = int.from_bytes(sector[:4], "little")
        assert value in allowed, f"slot {slot} holds {value}, the guest is at {sweep}"
        assert sector == sector[:4] * (SECTOR_BYTES // 4), f"slot {slot} is torn"
