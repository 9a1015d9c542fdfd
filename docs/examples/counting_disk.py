"""Write a boot disk whose guest counts: `python3 counting_disk.py counting.img`.

The guest adds one to a counter in its RAM about twice a second, and writes it to the serial port
as a line of eight hexadecimal digits. It needs no operating system. The counter lies at address
0x8000 of RAM, 32 bits, little-endian.
"""

import sys
from pathlib import Path

CODE = bytes.fromhex(
    # The firmware loads the first sector of the disk to 0x7c00 and jumps there, in real mode.
    "31c0 8ed8 8ed0 bc007c"  # xor ax, ax; mov ds, ax; mov ss, ax; mov sp, 0x7c00
    "66c706008000000000"  # mov dword [0x8000], 0
    "fb"  # sti                         ; the timer's interrupts are the clock
    "66ff060080"  # next:  inc dword [0x8000]
    "668b1e0080"  #        mov ebx, [0x8000]
    "b90800"  #            mov cx, 8
    "66c1c304"  # digit:   rol ebx, 4   ; the highest digit comes first
    "88d8 240f 0430"  #    mov al, bl; and al, 15; add al, '0'
    "3c3a 7202 0427"  #    cmp al, '9' + 1; jb put; add al, 'a' - '9' - 1
    "e80f00 e2eb"  #       call put; loop digit
    "b00a e80800"  #       mov al, '\n'; call put
    "b90900"  #            mov cx, 9    ; 9 of 18.2 a second
    "f4 e2fd"  # tick:     hlt; loop tick
    "ebd1"  #              jmp next
    "88c4 bafd03"  # put:  mov ah, al; mov dx, 0x3fd
    "ec a820 74fb"  # wait: in al, dx; test al, 0x20; jz wait
    "88e0 baf803 ee c3"  # mov al, ah; mov dx, 0x3f8; out dx, al; ret
)


def disk() -> bytes:
    """Return the disk: one boot sector, padded to 1 MiB so that it has a geometry."""
    return (CODE.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(disk())
