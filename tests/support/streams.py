"""Reads the RAM out of a recorded stream, written from the format's description alone.

It shares nothing with the product, so that the two can be compared. It reads what a QEMU that
was left at its defaults sends: full pages and zero pages.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PAGE: Final = 4096
_MEM_SIZE, _EOS, _CONTINUE = 0x04, 0x10, 0x20
_START, _PART, _END, _CONFIGURATION, _COMMAND, _FOOTER = 1, 2, 3, 7, 8, 0x7E


def read_ram(path: Path) -> dict[str, bytes]:
    """Return the final contents of all RAM blocks of a stream, in stream order.

    Raises:
        AssertionError: It is no stream of the expected kind.
    """
    stream = _Bytes(path.read_bytes())
    assert stream.take(8) == b"QEVM" + struct.pack(">I", 3), "no migration stream"
    blocks: dict[str, bytearray] = {}
    while True:
        kind = stream.number(1)
        if kind == _CONFIGURATION:
            stream.take(stream.number(4))
            assert stream.data[stream.at] < 0x05, "the configuration has subsections"
        elif kind == _COMMAND:
            stream.number(2)
            stream.take(stream.number(2))
        else:
            assert kind in (_START, _PART, _END), f"record {kind:#x} at {stream.at}"
            section_id = stream.number(4)
            if kind == _START:
                assert stream.name() == "ram"
                stream.take(8)
            _read_pages(stream, blocks)
            assert stream.number(1) == _FOOTER
            assert stream.number(4) == section_id
            if kind == _END:
                return {name: bytes(content) for name, content in blocks.items()}


def _read_pages(stream: _Bytes, blocks: dict[str, bytearray]) -> None:
    name = stream.block
    while True:
        word = stream.number(8)
        offset, flags = word & -_PAGE, word & (_PAGE - 1)
        if flags == _EOS:
            stream.block = name
            return
        if flags == _MEM_SIZE:
            while offset:
                new = stream.name()
                blocks[new] = bytearray(stream.number(8))
                offset -= len(blocks[new])
            continue
        if not flags & _CONTINUE:
            name = stream.name()
        match flags & ~_CONTINUE:
            case 0x02:  # a zero page: one byte, which is 0
                page = stream.take(1).ljust(_PAGE, b"\0")
            case 0x08:  # a full page
                page = stream.take(_PAGE)
            case _:
                raise AssertionError(f"page with flags {flags:#x} before {stream.at}")
        blocks[name][offset : offset + _PAGE] = page


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.block = ""

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        assert len(taken) == count, "the stream ends early"
        self.at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def name(self) -> str:
        return self.take(self.number(1)).decode()
