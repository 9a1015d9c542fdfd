"""A guest made of plain memory that does what a script says, for tests of sections and engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from transship.abc.guest import Device, Guest
from transship.guests.dirtylog import MarkedDirtyLog
from transship.memory.ramblock import RAMBlock
from transship.wire.constants import TARGET_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transship.abc.section import Section
    from transship.buffers import Buffer
    from transship.memory.bitmap import DirtyBitmap


class GuestWrite(NamedTuple):
    """Something the guest writes to its RAM.

    Args:
        idstr: The block.
        offset: Where in it.
        data: What.
    """

    idstr: str
    offset: int
    data: Buffer


class ExplicitDirtyLog(MarkedDirtyLog):
    """Explicit marks, and a count of what the log was asked to do.

    Attributes:
        starts: How often it was started.
        syncs: How many blocks were synchronised.
        stops: How often it was stopped.
    """

    def __init__(self, blocks: Iterable[RAMBlock]) -> None:
        super().__init__(blocks)
        self.starts = self.syncs = self.stops = 0

    def start(self) -> None:
        """Begin to keep marks."""
        self.starts += 1
        super().start()

    def sync(self, block: RAMBlock, bitmap: DirtyBitmap) -> int:
        """Move the marks of a block into ``bitmap``; returns how many pages are new there."""
        self.syncs += 1
        return super().sync(block, bitmap)

    def stop(self) -> None:
        """Keep no more marks."""
        self.stops += 1
        super().stop()


class FakeGuest(Guest):
    """Anonymous RAM, declared devices, and a script of writes.

    Nothing happens by itself: the test calls :meth:`play` where the guest shall take a step.

    Args:
        blocks: Names and lengths of RAM blocks, or the blocks themselves.
        devices: With declared state, in stream order.
        sections: That the guest brings along.
        script: Steps, each a few writes.
        is_running: Whether it runs at first.
        page_size: Bytes of a target page.

    Attributes:
        history: Names of the methods that drove the guest, in order: ``pause``, ``resume``,
            ``prepare``, ``commit``, ``discard``.
        log: Its dirty log.
    """

    machine = "fake"

    def __init__(
        self,
        blocks: Mapping[str, int] | Sequence[RAMBlock],
        *,
        devices: Sequence[Device] = (),
        sections: Sequence[Section] = (),
        script: Iterable[Sequence[GuestWrite]] = (),
        is_running: bool = True,
        page_size: int = TARGET_PAGE_SIZE,
    ) -> None:
        self.page_size = page_size
        self.history: list[str] = []
        self._blocks, self._fenced = _blocks(blocks, page_size)
        self.log = ExplicitDirtyLog(self._blocks)
        self._devices = devices
        self._sections = sections
        self._script = iter(script)
        self._is_running = is_running

    def has_whole_fences(self) -> bool:
        """Whether nobody has written right behind a block that was given by its length alone."""
        return all(_is_whole(block, length) for block, length in self._fenced)

    # The script.

    def block(self, idstr: str) -> RAMBlock:
        """The RAM block of that name."""
        return next(block for block in self._blocks if block.idstr == idstr)

    def write(self, idstr: str, offset: int, data: Buffer) -> None:
        """Write to RAM as the guest does: logged, and only while it runs."""
        if not self._is_running:
            raise AssertionError(f"a paused guest wrote to {idstr!r} at {offset:#x}")
        block = self.block(idstr)
        block.view[offset : offset + len(data)] = data
        first = offset // self.page_size
        end = -(-(offset + len(data)) // self.page_size)
        self.log.mark(block, first, end - first)

    def play(self) -> bool:
        """Take the next step of the script; False if there is none, or the guest is paused."""
        step = next(self._script, None) if self._is_running else None
        if step is None:
            return False
        for write in step:
            self.write(*write)
        return True

    def contents(self) -> dict[str, bytes]:
        """What is in RAM, by block."""
        return {block.idstr: bytes(block.view) for block in self._blocks}

    # The guest.

    def ram_blocks(self) -> Sequence[RAMBlock]:
        """The blocks, as they were given."""
        return self._blocks

    def dirty_log(self) -> ExplicitDirtyLog:
        """The one log."""
        return self.log

    def devices(self) -> Sequence[Device]:
        """The devices, as they were given."""
        return self._devices

    def sections(self) -> Sequence[Section]:
        """The sections, as they were given."""
        return self._sections

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._is_running

    async def pause(self) -> None:
        """Take no more steps."""
        self.history.append("pause")
        self._is_running = False

    async def resume(self) -> None:
        """Take steps again."""
        self.history.append("resume")
        self._is_running = True

    async def prepare(self) -> None:
        """Note that everything has loaded."""
        self.history.append("prepare")

    async def commit(self) -> None:
        """Note that the guest is ours."""
        self.history.append("commit")

    async def discard(self) -> None:
        """Note that the migration failed."""
        self.history.append("discard")


def _blocks(
    blocks: Mapping[str, int] | Sequence[RAMBlock], page_size: int
) -> tuple[list[RAMBlock], list[tuple[RAMBlock, int]]]:
    """The blocks, and the lengths of those that were made with a fence behind them."""
    if not isinstance(blocks, Mapping):
        return list(blocks), []
    fenced = [(_fenced(idstr, length, page_size), length) for idstr, length in blocks.items()]
    return [block for block, _ in fenced], fenced


def _fenced(idstr: str, length: int, page_size: int) -> RAMBlock:
    """A block with a page behind it that is zero, and is to stay so."""
    block = RAMBlock.anonymous(idstr, length + page_size, page_size=page_size)
    block.resize(length)
    block.max_length = length
    return block


def _is_whole(block: RAMBlock, length: int) -> bool:
    if block.memfd is not None:  # it shows another's memory by now
        return True
    used_length, max_length = block.used_length, block.max_length
    block.max_length = block.used_length = length + block.page_size
    with block.view as view:
        is_whole = not any(view[length:])
    block.used_length, block.max_length = used_length, max_length
    return is_whole
