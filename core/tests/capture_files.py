"""The recorded streams of real QEMUs, for tests of what reads them."""

import lzma
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(
    os.environ.get("TRANSSHIP_CAPTURES") or Path(__file__).parents[2] / "tests" / "captures"
)

MAIN_STREAMS = [
    "q10-multifd-none-conn0.bin",
    "q10-multifd-zstd-conn0.bin",
    "q10-pc-dirty-bitmap.mig",
    "q10-pc-tcg-boot.mig",
    "q10-pc-xbzrle.mig",
    "q10-precopy-rp-conn0-fwd.bin",
    "q10-q35-S.mig",
    "q72-multifd-none-conn0.bin",
    "q72-pc-block.mig",
    "q72-pc-tcg-boot.mig",
]
"""Those that carry the records; the others are additional channels, or go the other way."""


@cache
def capture(name: str) -> bytes:
    """The whole recording; the test is skipped where it is not there."""
    path = FOLDER / f"{name}.xz"
    if not path.exists():
        pytest.skip(f"no recorded streams in {FOLDER}; TRANSSHIP_CAPTURES may name another folder")
    return lzma.decompress(path.read_bytes())


@dataclass(frozen=True, slots=True)
class CapturedTail:
    """The end of a recorded stream.

    Attributes:
        devices: From the first device's FULL record to the EOF byte.
        description: The text of the VMDESCRIPTION.
    """

    devices: bytes
    description: bytes

    @property
    def whole(self) -> bytes:
        """Devices, and the record of the description."""
        head = b"\x06" + len(self.description).to_bytes(4, "big")
        return self.devices + head + self.description


@cache
def captured_tail(name: str) -> CapturedTail:
    """The tail of a recording; found without the code under test, by what QEMU sends there.

    The description runs to the end of the recording, and `timer` is the first device of every
    machine recorded.
    """
    data = capture(name)
    text = data.rfind(b'{"configuration": ')
    if text < 0:
        text = data.rfind(b'{"page_size": 4096, "devices"')
    record = text - 5
    assert data[record:text] == b"\x06" + (len(data) - text).to_bytes(4, "big")
    first = data.rfind(b"\x04\x00\x00\x00\x00\x05timer", 0, record)
    return CapturedTail(data[first:record], data[text:])
