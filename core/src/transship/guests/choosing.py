"""Which dirty log is the best one here."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Literal

from transship.errors import LocalError
from transship.guests.comparing import ComparingDirtyLog
from transship.guests.dirtylog import MarkedDirtyLog
from transship.guests.writeprotect import WriteProtectDirtyLog
from transship.memory.protection import check_write_protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transship.guests.writeprotect import MappingElsewhere
    from transship.memory.ramblock import RAMBlock

DirtyLogKind = Literal["auto", "marked", "write-protect", "comparing"]


def dirty_log_for(
    blocks: Iterable[RAMBlock],
    kind: DirtyLogKind = "auto",
    elsewhere: Iterable[MappingElsewhere] = (),
) -> MarkedDirtyLog:
    """Make a dirty log; which kind it became, its ``name`` says.

    All of them take marks as well.

    Args:
        blocks: The guest's RAM blocks.
        kind: ``auto`` for the best one that notices by itself what native code writes: write
            protection if the kernel has it, which is tried out, or else comparing. ``marked`` for a
            guest that marks all that it writes.
        elsewhere: Mappings of the blocks through which other processes write. Write protection must
            know them; comparing sees what they write anyhow.

    Raises:
        LocalError: Write protection was asked for and is not to be had.
    """
    memory = tuple(blocks)
    if kind == "marked":
        return MarkedDirtyLog(memory)
    if kind == "comparing":
        return ComparingDirtyLog(memory)
    try:
        _check(memory)
    except LocalError:
        if kind == "write-protect":
            raise
        return ComparingDirtyLog(memory)
    return WriteProtectDirtyLog(memory, elsewhere)


def _check(blocks: Sequence[RAMBlock]) -> None:
    """See whether write protection works, and for blocks like these.

    Raises:
        LocalError: It does not.
    """
    check_write_protection()
    for block in blocks:
        if block.used_length % mmap.PAGESIZE:
            raise LocalError(
                f"the kernel cannot protect the end of RAM block {block.idstr!r}",
                expected=f"whole pages of this host, {mmap.PAGESIZE} bytes each",
                found=f"{block.used_length} bytes",
            )
