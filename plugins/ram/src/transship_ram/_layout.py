"""Where things lie in a file in the ``mapped-ram`` layout; nothing here touches a file.

Behind each entry of the table of blocks is a header that says where the block's bitmap and its
pages are. The bitmap follows the header; page 0 is at the next MiB of the file behind it. The next
entry, or the end of the record, is behind the last page. Source: streams of QEMU 10.0.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, Self

from transship.wire.limits import MIB

if TYPE_CHECKING:
    from transship.wire.reader import StreamReader

_HEADER = struct.Struct(">IQQQ")
_VERSION = 1
_HIGHEST = (1 << 63) - 1

HEADER_BYTES = _HEADER.size
ALIGNMENT = MIB
"""Of the pages, as direct I/O wants it."""


class Placing(NamedTuple):
    """Where a block is.

    Args:
        bitmap_offset: Of its bitmap in the file: one bit a page, the lowest first; set if the page
            is in the file, else it is zero.
        pages_offset: Of page 0 in the file.
    """

    bitmap_offset: int
    pages_offset: int

    @classmethod
    def behind(cls, offset: int, pages: int) -> Self:
        """Where a block is whose header is at ``offset``."""
        bitmap_offset = offset + HEADER_BYTES
        end = bitmap_offset + bitmap_bytes(pages)
        return cls(bitmap_offset, -(-end // ALIGNMENT) * ALIGNMENT)

    def header(self, page_size: int) -> bytes:
        """As it is in the stream."""
        return _HEADER.pack(_VERSION, page_size, *self)

    @classmethod
    def read(cls, header: bytes, reader: StreamReader, page_size: int, pages: int) -> Self:
        """Read a header, which the reader has just passed.

        Raises:
            StreamError: It makes no sense.
        """
        version, its_page_size, bitmap_offset, pages_offset = _HEADER.unpack(header)
        start = reader.offset - HEADER_BYTES
        if version > _VERSION:
            raise reader.error(
                "an unknown version of the mapped-ram layout",
                offset=start,
                expected=f"at most {_VERSION}",
                found=str(version),
            )
        if its_page_size != page_size:
            raise reader.error(
                "pages of another size in the mapped-ram layout",
                offset=start + 4,
                expected=f"{page_size} bytes",
                found=f"{its_page_size} bytes",
            )
        for what, offset, first, size_bytes in (
            ("a bitmap", start + 12, bitmap_offset, bitmap_bytes(pages)),
            ("pages", start + 20, pages_offset, pages * page_size),
        ):
            if first + size_bytes > _HIGHEST:
                raise reader.error(
                    f"{what} beyond the end of every file",
                    offset=offset,
                    expected=f"an end of at most {_HIGHEST:#x}",
                    found=f"{first + size_bytes:#x}",
                )
        if pages_offset % page_size:
            raise reader.error(
                "pages that are not aligned in the mapped-ram layout",
                offset=start + 20,
                expected=f"a multiple of {page_size}",
                found=f"{pages_offset:#x}",
            )
        if bitmap_offset + bitmap_bytes(pages) > pages_offset:
            raise reader.error(
                "pages that are not behind their bitmap in the mapped-ram layout",
                offset=start + 12,
                expected=f"{bitmap_bytes(pages)} bytes of bitmap, and then the pages",
                found=f"the bitmap at {bitmap_offset:#x}, pages at {pages_offset:#x}",
            )
        return cls(bitmap_offset, pages_offset)

    def check_behind(self, position: int, reader: StreamReader) -> None:
        """Make sure that the bitmap is behind the header that names it.

        Args:
            position: Where in the file the header ends.
            reader: Has just passed it.

        Raises:
            StreamError: It is not.
        """
        if self.bitmap_offset < position:
            raise reader.error(
                "a bitmap that is not behind its header in the mapped-ram layout",
                offset=reader.offset - HEADER_BYTES + 12,
                expected=f"{position:#x} or more",
                found=f"{self.bitmap_offset:#x}",
            )


def bitmap_bytes(pages: int) -> int:
    """How long a bitmap is: whole words of 64 bits."""
    return -(-pages // 64) * 8
