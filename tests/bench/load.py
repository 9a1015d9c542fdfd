r"""A boot sector whose guest writes a working set at a steady rate, and sleeps in between.

Real mode with a flat segment, so that it reaches beyond 1 MiB; the timer wakes it a thousand times
a second, and each time it stamps the next pages, round and round, as the synthetic guest does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FIRST_BYTE: Final = 16 << 20
"""Where the working set begins."""

STAMP_OFFSET: Final = 8
"""Where in a page it writes, four bytes: the number of the round, from 1."""

TICKS_PER_S: Final = 1000
PAGE: Final = 4096

_SECTOR_BYTES: Final = 512
_DISK_BYTES: Final = 1 << 20
_ORIGIN: Final = 0x7C00
_TIMER_HZ: Final = 1_193_182
_DESCRIPTORS: Final = bytes(8) + bytes.fromhex("ffff000000 92cf 00".replace(" ", ""))
"""None, and one of data that reaches everywhere."""


def write_load_image(path: Path, working_set_bytes: int, rate_bytes_per_s: int) -> None:
    """Write a raw disk with that boot sector.

    Args:
        path: Where.
        working_set_bytes: How much it writes, whole pages.
        rate_bytes_per_s: How fast; whole pages a tick, at least one.
    """
    pages = max(round(rate_bytes_per_s / PAGE / TICKS_PER_S), 1)
    end = FIRST_BYTE + working_set_bytes
    divisor = _TIMER_HZ // TICKS_PER_S
    # fmt: off
    head = [
        "fa",                                   # cli
        "31 c0 8e d8 8e d0",                    # xor ax, ax; mov ds, ax; mov ss, ax
        "bc 00 7c",                             # mov sp, 0x7c00
    ]
    lgdt = "0f 01 16 {table}"                   # lgdt [table]
    rest = [
        "0f 20 c0 0c 01 0f 22 c0",              # mov eax, cr0; or al, 1; mov cr0, eax
        "bb 08 00 8e e3",                       # mov bx, 8; mov fs, bx: reaches everywhere
        "24 fe 0f 22 c0",                       # and al, 0xfe; mov cr0, eax: real mode again
        "b0 34 e6 43",                          # the timer: channel 0, both bytes, rate generator
        f"b0 {divisor & 0xFF:02x} e6 40",
        f"b0 {divisor >> 8:02x} e6 40",
        "66 bf" + FIRST_BYTE.to_bytes(4, "little").hex(),   # mov edi, first byte
        "66 be 01 00 00 00",                    # mov esi, 1
        "fb",                                   # sti
    ]
    loop = [
        "f4",                                   # tick: hlt
        "b9" + pages.to_bytes(2, "little").hex(),           # mov cx, pages
    ]
    page = [
        f"64 67 66 89 77 {STAMP_OFFSET:02x}",           # page: mov [fs:edi + offset], esi
        "66 81 c7 00 10 00 00",                 # add edi, 4096
        "66 81 ff" + end.to_bytes(4, "little").hex(),       # cmp edi, end
        "72 08",                                # jb next
        "66 bf" + FIRST_BYTE.to_bytes(4, "little").hex(),   # mov edi, first byte
        "66 46",                                # inc esi
    ]
    # fmt: on
    begun = _assembled(head)
    setup = _assembled(rest)
    table_at = _ORIGIN + _SECTOR_BYTES - 2 - 6
    begun += _assembled([lgdt.format(table=table_at.to_bytes(2, "little").hex())])
    tick, body = _assembled(loop), _assembled(page)
    # next: loop page; jmp tick
    body += b"\xe2" + (-(len(body) + 2)).to_bytes(1, "little", signed=True)
    again = b"\xeb" + (-(len(tick) + len(body) + 2)).to_bytes(1, "little", signed=True)
    code = begun + setup + tick + body + again
    descriptors_at = _ORIGIN + len(code)
    sector = (code + _DESCRIPTORS).ljust(_SECTOR_BYTES - 2 - 6, b"\0")
    sector += (len(_DESCRIPTORS) - 1).to_bytes(2, "little") + descriptors_at.to_bytes(4, "little")
    sector += b"\x55\xaa"
    path.write_bytes(sector.ljust(_DISK_BYTES, b"\0"))


def _assembled(lines: list[str]) -> bytes:
    return b"".join(bytes.fromhex(line) for line in lines)
