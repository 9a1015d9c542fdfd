"""A second reader of whole streams, written apart from the first: slow, trusting, a page at a time.

It shares no code with what it checks. It knows just enough of other sections to step over them,
and stops behind the END record of RAM.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PAGE = 4096


@dataclass
class SlowStream:
    """What a stream does to RAM.

    Attributes:
        bodies: Where the body of each record of RAM starts and ends.
        others: Where the body of each record of another section ends, by where it starts.
        blocks: Contents of the blocks, in the order of their table.
        counts: Records by block and kind.
    """

    data: bytes
    at: int = 0
    bodies: list[tuple[int, int]] = field(default_factory=list)
    others: dict[int, int] = field(default_factory=dict)
    blocks: dict[str, bytearray] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    last_name: str = ""

    def read(self) -> SlowStream:
        assert self.unpack(">II") == (0x5145564D, 3)
        (kind,) = self.unpack(">B")
        assert kind == 7
        (length,) = self.unpack(">I")
        self.at += length
        names: dict[int, str] = {}
        while True:
            (kind,) = self.unpack(">B")
            if kind == 8:
                _, length = self.unpack(">HH")
                self.at += length
                continue
            (number,) = self.unpack(">I")
            if kind in (1, 4):
                names[number] = self.text()
                self.at += 8
            start = self.at
            getattr(self, "skip_" + names[number].replace("-", "_"))()
            if names[number] == "ram":
                self.bodies.append((start, self.at))
            else:
                self.others[start] = self.at
            assert self.unpack(">BI") == (0x7E, number)
            if kind == 3 and names[number] == "ram":
                return self

    def unpack(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self) -> str:
        (length,) = self.unpack(">B")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def skip_timer(self) -> None:
        self.at += 24

    def skip_dirty_bitmap(self) -> None:
        flags = 0
        while not flags & 0x01:
            (flags,) = self.unpack(">B")
            if flags & 0x08:
                self.text()
            if flags & 0x04:
                self.text()
            if flags & 0x10:
                self.at += 5
            if flags & 0x40:
                self.at += 12
                if not flags & 0x02:
                    (length,) = self.unpack(">Q")
                    self.at += length

    def skip_block(self) -> None:
        flags = 0
        while not flags & 0x02:
            (flags,) = self.unpack(">Q")
            if flags & 0x01:
                self.text()
                if not flags & 0x08:
                    self.at += 1 << 20

    def skip_ram(self) -> None:
        while True:
            (value,) = self.unpack(">Q")
            flags, offset = value & 0xFFF, value & ~0xFFF
            if flags == 0x10:
                return
            if flags == 0x200:
                continue
            if flags == 0x04:
                while offset:
                    block = self.text()
                    (length,) = self.unpack(">Q")
                    self.blocks[block] = bytearray(length)
                    offset -= length
                continue
            if not flags & 0x20:
                self.last_name = self.text()
            self.page(self.last_name, flags & ~0x20, offset)

    def page(self, name: str, kind: int, offset: int) -> None:
        block = self.blocks[name]
        counted = {0x02: "duplicate", 0x08: "normal", 0x40: "xbzrle"}[kind]
        self.counts[name, counted] = self.counts.get((name, counted), 0) + 1
        if kind == 0x02:
            assert self.unpack(">B") == (0,)
            block[offset : offset + PAGE] = bytes(PAGE)
        elif kind == 0x08:
            block[offset : offset + PAGE] = self.data[self.at : self.at + PAGE]
            self.at += PAGE
        else:
            _, length = self.unpack(">BH")
            end = self.at + length
            while self.at < end:
                offset += self.length()
                count = self.length()
                block[offset : offset + count] = self.data[self.at : self.at + count]
                offset += count
                self.at += count

    def length(self) -> int:
        (low,) = self.unpack(">B")
        if low < 0x80:
            return low
        (high,) = self.unpack(">B")
        return (low & 0x7F) | high << 7
