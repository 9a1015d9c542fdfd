r"""A boot sector whose guest counts for ever, touches memory, and says so on the serial port.

It is assembled here by hand, so that a test needs neither an assembler nor a disk image. The
guest needs no more than a pc with 1 MiB of RAM, an IDE disk and COM1. One **sweep** increments one
byte in each of the pages from `FIRST_PAGE` to `LAST_PAGE`, then the sweep counter, and writes the
counter as a line of eight hex digits. So:

- The lines of a guest's life, whichever QEMU it lived in, are consecutive numbers from 1 on.
  `sweeps()` reads them back, and `assert_consecutive()` says where they are not.
- In a memory image of a stopped guest every touched byte is the counter's lowest byte, or one more
  in the pages that the sweep under way has reached: `assert_memory_consistent()`.

Interrupts stay off; nothing but the loop below runs after the firmware has handed over.
"""

from pathlib import Path

SECTOR_BYTES = 512
PAGE_BYTES = 4096

FIRST_PAGE = 0x10000
LAST_PAGE = 0x8F000
TOUCHED_PAGES = range(FIRST_PAGE, LAST_PAGE + PAGE_BYTES, PAGE_BYTES)
TOUCHED_OFFSET = 0x10
"""Where in each touched page the incremented byte lies."""

COUNTER_ADDRESS = 0x8000
"""Where the sweep counter lies: 32 bits, little-endian, in a page that holds nothing else."""

LINE_BYTES = 9
"""Eight hex digits and a newline."""

# Real mode, loaded and entered at 0x7c00. Jumps are relative, so the code could lie anywhere.
# fmt: off
_CODE = bytes.fromhex(
    # ---------------------------------------- 0x00 start:
    "fa"            # cli
    "fc"            # cld
    "31 c0"         # xor  ax, ax
    "8e d8"         # mov  ds, ax
    "8e d0"         # mov  ss, ax
    "bc 00 7c"      # mov  sp, 0x7c00          ; grows down below the code
    # ---------------------------------------- 0x0b COM1: 115200 baud, 8 bits, no parity, 1 stop bit
    "ba fb 03"      # mov  dx, 0x3fb           ; line control:
    "b0 83"         # mov  al, 0x83            ;   8n1, and open the divisor latch
    "ee"            # out  dx, al
    "ba f8 03"      # mov  dx, 0x3f8           ; divisor, low byte:
    "b0 01"         # mov  al, 1               ;   115200 / 1
    "ee"            # out  dx, al
    "42"            # inc  dx                  ; divisor, high byte
    "30 c0"         # xor  al, al
    "ee"            # out  dx, al
    "ba fb 03"      # mov  dx, 0x3fb           ; line control:
    "b0 03"         # mov  al, 0x03            ;   8n1, divisor latch closed
    "ee"            # out  dx, al
    # ---------------------------------------- 0x21 whatever the firmware left, all starts as 0
    "66 c7 06 00 80 00 00 00 00"
                    # mov  dword [0x8000], 0   ; the sweep counter
    "bb 00 10"      # mov  bx, 0x1000          ; segment of the first page
    # ---------------------------------------- 0x2d clear:
    "8e c3"         # mov  es, bx
    "26 c6 06 10 00 00"
                    # mov  byte [es:0x10], 0
    "81 c3 00 01"   # add  bx, 0x100           ; the next page
    "81 fb 00 90"   # cmp  bx, 0x9000
    "75 ee"         # jne  clear
    # ---------------------------------------- 0x3f sweep:
    "bb 00 10"      # mov  bx, 0x1000
    # ---------------------------------------- 0x42 touch:
    "8e c3"         # mov  es, bx
    "26 fe 06 10 00"
                    # inc  byte [es:0x10]
    "81 c3 00 01"   # add  bx, 0x100
    "81 fb 00 90"   # cmp  bx, 0x9000
    "75 ef"         # jne  touch
    "66 ff 06 00 80"
                    # inc  dword [0x8000]
    # ---------------------------------------- 0x58 one line on the serial port
    "66 8b 1e 00 80"
                    # mov  ebx, [0x8000]
    "b9 08 00"      # mov  cx, 8
    # ---------------------------------------- 0x60 digit:
    "66 c1 c3 04"   # rol  ebx, 4              ; the highest digit comes first
    "88 d8"         # mov  al, bl
    "24 0f"         # and  al, 0x0f
    "04 30"         # add  al, '0'
    "3c 3a"         # cmp  al, '9' + 1
    "72 02"         # jb   decimal
    "04 27"         # add  al, 'a' - '9' - 1
    # ---------------------------------------- 0x70 decimal:
    "e8 09 00"      # call put
    "e2 eb"         # loop digit
    "b0 0a"         # mov  al, '\n'
    "e8 02 00"      # call put
    "eb c3"         # jmp  sweep
    # ---------------------------------------- 0x7c put:         ; al to the serial port
    "88 c4"         # mov  ah, al
    "ba fd 03"      # mov  dx, 0x3fd           ; line status
    # ---------------------------------------- 0x81 wait:
    "ec"            # in   al, dx
    "a8 20"         # test al, 0x20            ; transmitter empty?
    "74 fb"         # jz   wait
    "88 e0"         # mov  al, ah
    "ba f8 03"      # mov  dx, 0x3f8           ; transmit
    "ee"            # out  dx, al
    "c3"            # ret
)
# fmt: on


def boot_sector() -> bytes:
    """Return the 512 bytes that a PC's firmware loads to 0x7c00 and jumps to."""
    return _CODE.ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"


def write_boot_image(path: Path) -> None:
    """Write the boot sector as a raw disk, padded to 1 MiB so that it has a geometry."""
    with path.open("wb") as image:
        image.write(boot_sector())
        image.truncate(1 << 20)


def sweeps(serial: bytes) -> list[int]:
    """Return the counters of all complete lines in what came out of the serial port."""
    complete, _, _ = serial.rpartition(b"\n")
    return [int(line, 16) for line in complete.split(b"\n") if line]


def assert_consecutive(serial: bytes) -> None:
    """Fail unless the lines of one life, over all its QEMUs, count 1, 2, 3 and so on.

    Args:
        serial: What the serial ports of the QEMUs that ran the guest said, joined in their order.
    """
    for expected, line in enumerate(serial.split(b"\n")[:-1], start=1):
        assert line == b"%08x" % expected, f"sweep {expected:#x} reads {line!r} on the serial port"


def assert_memory_consistent(ram: bytes) -> None:
    """Fail unless the memory of a stopped guest is one moment of its life.

    Args:
        ram: The guest's memory from address 0 on, at least as far as the last page.
    """
    counter = int.from_bytes(ram[COUNTER_ADDRESS : COUNTER_ADDRESS + 4], "little")
    values = [ram[page + TOUCHED_OFFSET] for page in TOUCHED_PAGES]
    ahead = next((n for n, value in enumerate(values) if value == counter % 256), len(values))
    # The sweep under way has passed the first pages. The counter itself may not be written yet.
    expected = [(counter + 1) % 256] * ahead + [counter % 256] * (len(values) - ahead)
    for page, value, wanted in zip(TOUCHED_PAGES, values, expected, strict=True):
        assert value == wanted, f"page {page:#x} holds {value}, the counter says {wanted}"
