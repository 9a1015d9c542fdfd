"""The table of RAM blocks at the start of the stream: names and lengths, in both directions.

``be64 total | MEM_SIZE``, then for each block its name as a counted string and its used length
as ``be64``, until the lengths add up to the total. Nothing here touches a guest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from transship.errors import LocalError
from transship.wire.constants import PageFlag
from transship.wire.limits import IDSTR_BYTES, RAM_BLOCKS, RAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.abc import Guest
    from transship.memory.ramblock import RAMBlock
    from transship.wire.reader import Parsing, StreamReader


class TableEntry(NamedTuple):
    """A block as the source declares it.

    Args:
        idstr: Its name.
        used_length: Bytes in use: whole pages, at least one.
        offset: Of the entry in the stream.
    """

    idstr: str
    used_length: int
    offset: int


def blocks_in_order(guest: Guest) -> list[RAMBlock]:
    """The guest's blocks as the table lists them: the largest first, by what they may grow to.

    Raises:
        LocalError: Two have one name, or a name or a page size does not fit the stream.
    """
    blocks = sorted(guest.ram_blocks(), key=lambda block: -block.max_length)
    known: set[str] = set()
    for block in blocks:
        if block.idstr in known or len(block.idstr.encode()) > IDSTR_BYTES:
            raise LocalError(
                "a RAM block cannot be named in the stream",
                section="ram",
                expected=f"names of at most {IDSTR_BYTES} bytes, each once",
                found=repr(block.idstr),
            )
        if block.page_size != guest.page_size:
            raise LocalError(
                f"RAM block {block.idstr!r} has another page size than its guest",
                section="ram",
                expected=f"{guest.page_size} bytes",
                found=f"{block.page_size} bytes",
            )
        known.add(block.idstr)
    return blocks


def encode_name(idstr: str) -> bytes:
    """A block's name as a counted string."""
    name = idstr.encode()
    return bytes([len(name)]) + name


def encode_table(blocks: Sequence[RAMBlock]) -> bytes:
    """The table, its word included."""
    return encode_total(blocks) + b"".join(map(encode_entry, blocks))


def encode_total(blocks: Sequence[RAMBlock]) -> bytes:
    """The word that begins the table."""
    total = sum(block.used_length for block in blocks)
    return (total | PageFlag.MEM_SIZE).to_bytes(8, "big")


def encode_entry(block: RAMBlock) -> bytes:
    """One entry of the table."""
    return encode_name(block.idstr) + block.used_length.to_bytes(8, "big")


def parse_table(
    reader: StreamReader,
    total: int,
    page_size: int,
    each: Callable[[TableEntry], Parsing[None]] | None = None,
) -> Parsing[list[TableEntry]]:
    """Read the entries that follow the table's word.

    Args:
        reader: Stands behind the word.
        total: Bytes of all blocks, from the word.
        page_size: Bytes of a target page.
        each: Called with every entry, and reads what follows it.

    Raises:
        StreamError: The table is beyond a limit, or its entries are not as they must be.
    """
    if total > RAM_BYTES:
        raise reader.error(
            "more RAM than is accepted",
            offset=reader.offset - 8,
            expected=f"at most {RAM_BYTES} bytes",
            found=f"{total} bytes",
        )
    entries: dict[str, TableEntry] = {}
    missing = total
    while missing:
        offset = reader.offset
        if len(entries) == RAM_BLOCKS:
            raise reader.error(
                "too many RAM blocks", expected=f"at most {RAM_BLOCKS}", found="more"
            )
        idstr = yield from reader.counted_string()
        if idstr in entries:
            raise reader.error(
                "a RAM block is listed twice",
                offset=offset,
                expected="a name not used before",
                found=repr(idstr),
            )
        used_length = yield from reader.be64()
        if not 0 < used_length <= missing or used_length % page_size:
            raise reader.error(
                f"impossible length of RAM block {idstr!r}",
                offset=reader.offset - 8,
                expected=f"whole pages of {page_size} bytes, in all {missing} bytes or less",
                found=f"{used_length} bytes",
            )
        entries[idstr] = TableEntry(idstr, used_length, offset)
        missing -= used_length
        if each is not None:
            yield from each(entries[idstr])
    return list(entries.values())
