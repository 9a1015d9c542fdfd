r"""A boot sector whose guest writes to its second disk for ever, and counts its writes in memory.

Write number n fills one sector of the second IDE disk with n, 32 bits, little-endian, 128 times;
which sector that is follows from n, and jumps about. The counter of writes that have been begun
lies in memory. So a disk and a memory that are of one moment can be told: every sector holds the
number of the last write that was for it.

As in `support.boot`, the guest makes its processor forget all translations once a round, or QEMU
7.2.22 would lose writes to memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

SECTOR_BYTES: Final = 512
SECTORS: Final = 1 << 14
"""Of the disk that is written to: 8 MiB."""

COUNTER_ADDRESS: Final = 0x8000
STEP: Final = 0x9E37_79B1
"""The golden ratio of 32 bits: its multiples are spread over all sectors."""

_CODE: Final = bytes.fromhex(
    "31c0 8ed8 8ec0 8ed0 bc007c"  # ds, es, ss = 0, stack below the code
    "66c706008000000000"  # mov dword [0x8000], 0: the counter
    "c70600061000 c70602060100"  # the packet of a transfer, at 0x600: its size, one sector,
    "c70604060090 c70606060000"  # from 0:0x9000,
    "66c706080600000000 66c7060c0600000000"  # to a place that is filled in below
    # round:
    "0f20c0 663500000100 0f22c0 663500000100 0f22c0"  # flip CR0.WP, twice
    "66ff060080"  # inc dword [0x8000]
    "66a10080 bf0090 b98000 f366ab"  # fill the sector
    "66a10080 6669c0b179379e 66c1e812 66a30806"  # eax * STEP >> 18 is its place
    "be0006 b80043 b281 cd13"  # write it to the second disk
)


def write_disk_boot_image(path: Path) -> None:
    """Write the boot sector as a raw disk, padded to 1 MiB so that it has a geometry."""
    round_at = _CODE.index(bytes.fromhex("0f20c0"))
    jump = b"\xeb" + (round_at - (len(_CODE) + 2)).to_bytes(1, "little", signed=True)
    sector = (_CODE + jump).ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"
    path.write_bytes(sector.ljust(1 << 20, b"\0"))


def writes_begun(ram: bytes) -> int:
    """How many writes a guest has begun, by its memory."""
    return int.from_bytes(ram[COUNTER_ADDRESS : COUNTER_ADDRESS + 4], "little")


def place_of(number: int) -> int:
    """The sector that a write is for."""
    return (number * STEP & 0xFFFF_FFFF) >> 18


def assert_of_one_moment(disk: bytes, ram: bytes, untouched: bytes = b"\0") -> None:
    """Fail unless every write that was over is on the disk, and none that was not begun.

    Args:
        disk: Its contents.
        ram: The guest's memory.
        untouched: The byte that the disk was full of.
    """
    begun = writes_begun(ram)
    assert begun, "the guest has not written yet"
    latest = {place_of(number): number for number in range(max(1, begun - 8 * SECTORS), begun)}
    under_way = place_of(begun)
    for sector, number in latest.items():
        start = sector * SECTOR_BYTES
        found = disk[start : start + SECTOR_BYTES]
        allowed = {number, begun} if sector == under_way else {number}
        values = {int.from_bytes(found[at : at + 4], "little") for at in range(0, 512, 4)}
        assert values <= allowed, f"sector {sector} holds {values}, write {number} was for it"
    beyond = [
        value
        for start in range(0, len(disk), SECTOR_BYTES)
        if (value := int.from_bytes(disk[start : start + 4], "little")) > begun
        and value != int.from_bytes(4 * untouched, "little")
    ]
    assert not beyond, f"writes {beyond} were not begun, {begun} is the last"
