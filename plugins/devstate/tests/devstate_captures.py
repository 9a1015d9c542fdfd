"""The device sections in recorded streams of a real QEMU 10.0."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import pytest

FOLDER = Path(
    os.environ.get("TRANSSHIP_CAPTURES") or Path(__file__).parents[3] / "tests" / "captures"
)

STREAMS = [
    "q10-multifd-none-conn0.bin",
    "q10-multifd-zstd-conn0.bin",
    "q10-pc-dirty-bitmap.mig",
    "q10-pc-tcg-boot.mig",
    "q10-pc-xbzrle.mig",
    "q10-precopy-rp-conn0-fwd.bin",
    "q10-q35-S.mig",
]


def captured_devices(name: str) -> tuple[bytes, bytes]:
    """The device sections up to the EOF byte, and the description behind them.

    Found without the code under test: the description runs to the end of the recording, and
    `timer` is the first device of every machine recorded.
    """
    path = FOLDER / f"{name}.xz"
    if not path.exists():
        pytest.skip(f"no recorded streams in {FOLDER}; TRANSSHIP_CAPTURES may name another folder")
    data = lzma.decompress(path.read_bytes())
    text = data.rfind(b'{"configuration": ')
    if text < 0:
        text = data.rfind(b'{"page_size": 4096, "devices"')
    record = text - 5
    assert data[record:text] == b"\x06" + (len(data) - text).to_bytes(4, "big")
    first = data.rfind(b"\x04\x00\x00\x00\x00\x05timer", 0, record)
    return data[first:record], data[text:]
