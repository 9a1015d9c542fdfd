"""The destination's side: records in, pages of guest memory out, nothing believed unchecked.

Runs of plain records are taken together (:mod:`transship_ram._bulk`); everything else comes here
one record at a time, and here is also where a faulty record is named.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from transship.abc import Capability
from transship.errors import LocalError, RemoteError, StreamError
from transship.memory import kernels
from transship.wire.constants import XBZRLE_ENCODING, PageFlag
from transship.wire.pages import KINDS, PageWord, split_word
from transship.wire.reader import RENDEZVOUS
from transship_ram._bulk import BulkLoader
from transship_ram._mapped_in import MappedReader
from transship_ram._multifd import channel_count, file_threads
from transship_ram._packets_in import PacketLoader
from transship_ram._records import WORD_BYTES
from transship_ram._table import TableEntry, parse_table
from transship_ram._target import LoadedBlock, PageCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import ChannelParsing, Guest, Settings
    from transship.memory.ramblock import RAMBlock
    from transship.wire.reader import Parsing, StreamReader

_MOST_SINGLES: Final = 64
"""Records taken one by one before others may run: some 2 ms, no more than a step of many takes."""


class RAMLoader:
    """Fills the RAM of one guest.

    Args:
        guest: Whose RAM; not asked for anything before the table of blocks has been read.
        settings: Of the migration.
    """

    def __init__(self, guest: Guest, settings: Settings) -> None:
        self._guest = guest
        self._settings = settings
        self._meets_at_words = False
        self._channels: list[PacketLoader] = []
        self._kernels = kernels.current()
        self._bulk: BulkLoader | None = None
        self._blocks: dict[str, LoadedBlock] = {}
        self._current: LoadedBlock | None = None

    @property
    def _has_channels(self) -> bool:
        return channel_count(self._settings) > 0

    @property
    def blocks(self) -> Sequence[LoadedBlock]:
        """The blocks in the order of the table; none before it has been read."""
        return tuple(self._blocks.values())

    @property
    def _page_size(self) -> int:
        """Of the guest, which may have learnt it from the stream."""
        return self._guest.page_size

    def statistics(self) -> dict[str, int]:
        """See :meth:`transship_ram._section.RAMSection.statistics`."""
        every = [block.counts for block in self.blocks]
        every += [channel.counts for channel in self._channels]
        counts = sum(every, PageCounts())
        return {
            "total": sum(block.used_length for block in self.blocks),
            "normal": counts.normal,
            "duplicate": counts.duplicate,
            "xbzrle": counts.xbzrle,
            "compressed": counts.compressed,
            "page_size": self._page_size,
        }

    def remote_memory(self) -> dict[str, memoryview]:
        """See :meth:`transship_ram._section.RAMSection.remote_memory`."""
        if not all(block.is_plain for block in self.blocks if not block.is_borrowed):
            return {}
        return {block.idstr: block.exposed() for block in self.blocks if not block.is_borrowed}

    def load(self, reader: StreamReader) -> Parsing[None]:
        """Parse the body of one record, its end word included.

        Raises:
            StreamError: A record is faulty; nothing was written outside of the blocks.
            LocalError: There is no room for what arrives.
        """
        singles = 0
        while True:
            yield from reader.ensure(WORD_BYTES)
            yield from self._take_plain_records(reader)
            if (yield from self._record(reader)):
                return
            singles += 1
            if singles % _MOST_SINGLES == 0:
                yield 0

    def load_channel(self) -> ChannelParsing:
        """Parse what comes over one more extra channel."""
        loader = PacketLoader(self._page_size, self._blocks, self._settings.compression)
        self._channels.append(loader)
        return loader.load()

    def _take_plain_records(self, reader: StreamReader) -> Parsing[None]:
        if self._bulk is not None and self._current is not None:
            while count := self._bulk.load(reader.buffered(), self._current):
                reader.skip(count)
                yield 0

    def _record(self, reader: StreamReader) -> Parsing[bool]:
        """Parse one record; whether it was the end."""
        start = reader.offset
        number = yield from reader.be64()
        word = split_word(number, self._page_size)
        if word is None:
            raise reader.error(
                "impossible flags of a page record",
                offset=start,
                expected=f"one of {KINDS:#x}, and {PageFlag.CONTINUE:#x} only with a page",
                found=f"{number & (self._page_size - 1):#x}",
            )
        match word.kind:
            case PageFlag.MEM_SIZE:
                yield from self._table(reader, word.offset, start)
            case PageFlag.EOS | PageFlag.MULTIFD_FLUSH if word.offset:
                raise reader.error(
                    f"an offset in a word that has none ({word.kind.name})",
                    offset=start,
                    expected="0",
                    found=f"{word.offset:#x}",
                )
            case PageFlag.EOS:
                if self._has_channels and not self._meets_at_words:
                    yield RENDEZVOUS
                return True
            case PageFlag.MULTIFD_FLUSH:
                if self._has_channels:
                    self._meets_at_words = True
                    yield RENDEZVOUS
            case PageFlag.HOOK:
                raise reader.error(
                    "a control record of RDMA in a stream that does not come over RDMA",
                    offset=start,
                    expected="pages",
                    found=f"{number:#x}",
                )
            case _:
                block = yield from self._block(reader, word, start)
                yield from self._page(reader, word, block)
        return False

    def _table(self, reader: StreamReader, total: int, start: int) -> Parsing[None]:
        if self._blocks:
            raise reader.error(
                "a second table of RAM blocks", offset=start, expected="pages", found="a table"
            )
        if self._settings.has(Capability.MAPPED_RAM):
            yield from self._mapped_table(reader, total)
            return
        entries = yield from parse_table(reader, total, self._page_size)
        self._bulk = BulkLoader(self._page_size)
        for entry in entries:
            self._blocks[entry.idstr] = LoadedBlock(self._attach(reader, entry))

    def _mapped_table(self, reader: StreamReader, total: int) -> Parsing[None]:
        """A table with all memory between its entries."""
        mapped = MappedReader(self._page_size, file_threads(self._settings))

        def load(entry: TableEntry) -> Parsing[None]:
            block = self._blocks[entry.idstr] = LoadedBlock(self._attach(reader, entry))
            yield from mapped.load(reader, block)

        try:
            yield from parse_table(reader, total, self._page_size, load)
        finally:
            mapped.close()

    def _attach(self, reader: StreamReader, entry: TableEntry) -> RAMBlock:
        try:
            block = self._guest.attach_ram_block(entry.idstr, entry.used_length)
        except RemoteError as error:
            raise reader.error(
                error.cause,
                offset=entry.offset,
                expected=error.expected,
                found=error.found,
                hint=error.hint,
            ) from error
        if (block.used_length, block.page_size) != (entry.used_length, self._page_size):
            raise LocalError(
                f"the guest gave another block for {entry.idstr!r}",
                section="ram",
                offset=entry.offset,
                expected=f"{entry.used_length} bytes in pages of {self._page_size}",
                found=f"{block.used_length} bytes in pages of {block.page_size}",
            )
        return block

    def _block(self, reader: StreamReader, word: PageWord, start: int) -> Parsing[LoadedBlock]:
        """The block that a page record is for; checks that the page is inside."""
        if not word.continues:
            named_at = reader.offset
            idstr = yield from reader.counted_string()
            self._current = self._blocks.get(idstr)
            if self._current is None:
                raise reader.error(
                    "a page of a RAM block that the table does not list",
                    offset=named_at,
                    expected=f"one of the table's {len(self.blocks)} names",
                    found=repr(idstr),
                )
            if self._current.is_borrowed:
                raise reader.error(
                    "a page of a RAM block whose memory was handed over",
                    offset=start,
                    expected="no page of it",
                    found=f"one at {word.offset:#x} of {idstr!r}",
                )
        if self._current is None:
            raise reader.error(
                "the first page record names no RAM block",
                offset=start,
                expected=f"a word without {PageFlag.CONTINUE:#x}, and a name",
                found=f"{word.offset | word.kind | PageFlag.CONTINUE:#x}",
            )
        if word.offset >= self._current.used_length:
            raise reader.error(
                f"a page beyond the end of RAM block {self._current.idstr!r}",
                offset=start,
                expected=f"an offset below {self._current.used_length:#x}",
                found=f"{word.offset:#x}",
            )
        return self._current

    def _page(self, reader: StreamReader, word: PageWord, block: LoadedBlock) -> Parsing[None]:
        match word.kind:
            case PageFlag.PAGE:
                with block.page(word.offset) as page:
                    yield from reader.fill(page)
                block.counts.normal += 1
            case PageFlag.ZERO:
                yield from self._zero(reader)
                block.clear_page(word.offset)
                block.counts.duplicate += 1
            case PageFlag.XBZRLE:
                yield from self._xbzrle(reader, word, block)
                block.counts.xbzrle += 1
            case PageFlag.COMPRESS_PAGE:
                block.page(word.offset)[:] = yield from self._inflated(reader)
                block.counts.compressed += 1

    def _zero(self, reader: StreamReader) -> Parsing[None]:
        fill = yield from reader.u8()
        if fill:
            raise reader.error(
                "a zero page with a fill byte",
                offset=reader.offset - 1,
                expected="0",
                found=str(fill),
            )

    def _xbzrle(self, reader: StreamReader, word: PageWord, block: LoadedBlock) -> Parsing[None]:
        encoding = yield from reader.u8()
        if encoding != XBZRLE_ENCODING:
            raise reader.error(
                "unknown encoding of a page",
                offset=reader.offset - 1,
                expected=f"{XBZRLE_ENCODING} (XBZRLE)",
                found=str(encoding),
            )
        length = yield from reader.be16()
        self._bound(reader, length, self._page_size, reader.offset - 2)
        start = reader.offset
        delta = yield from reader.take(length)
        if self._kernels.xbzrle_decode(delta, block.page(word.offset)) < 0:
            raise self._malformed(reader, "XBZRLE", start, delta)

    def _inflated(self, reader: StreamReader) -> Parsing[bytes]:
        length = yield from reader.be32()
        self._bound(reader, length, _deflated_bound(self._page_size), reader.offset - 4)
        start = reader.offset
        deflated = yield from reader.take(length)
        inflater = zlib.decompressobj()
        try:
            # One byte more than a page is asked for, so that a longer one shows.
            page = inflater.decompress(deflated, self._page_size + 1)
        except zlib.error as error:
            raise self._malformed(reader, "zlib", start, deflated) from error
        if len(page) != self._page_size or not inflater.eof or inflater.unused_data:
            raise self._malformed(reader, "zlib", start, deflated)
        return page

    def _bound(self, reader: StreamReader, length: int, limit: int, offset: int) -> None:
        if length > limit:
            raise reader.error(
                "an encoded page longer than any",
                offset=offset,
                expected=f"at most {limit} bytes",
                found=f"{length} bytes",
            )

    def _malformed(
        self, reader: StreamReader, encoding: str, start: int, data: bytes
    ) -> StreamError:
        return reader.error(
            f"malformed {encoding} data",
            offset=start,
            expected=f"one page of {self._page_size} bytes",
            found=f"{len(data)} bytes that begin with {data[:16].hex()}",
        )


def _deflated_bound(page_size: int) -> int:
    """The most bytes that zlib makes of a page.

    Source: zlib's manual on ``compressBound``, and a page of random bytes deflated.
    """
    return page_size + (page_size >> 12) + (page_size >> 14) + 13
