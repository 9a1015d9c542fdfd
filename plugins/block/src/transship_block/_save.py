"""The source's side: what of the disks goes into which record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.abc import Capability, Pending
from transship.errors import BlockedError
from transship.memory.bitmap import DirtyBitmap
from transship.wire.limits import DISKS, IDSTR_BYTES
from transship.wire.storage import BLOCK_EOS, CHUNK_BYTES, progress
from transship_block._allocation import Allocation
from transship_block._chunks import Place, chunk_count
from transship_block._readahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Disk, DiskLog, Guest, Segments, Settings

_DONE_PERCENT: Final = 100


@dataclass(slots=True)
class _SentDisk:
    """A disk that is being sent.

    Args:
        disk: The disk.
        log: What the guest writes to it.
        dirty: Chunks that are still to be read.
        dirty_chunks: How many those are.
    """

    disk: Disk
    log: DiskLog
    dirty: DirtyBitmap
    dirty_chunks: int


class DiskSaver:
    """Sends the disks of one guest: all of each once, then what was written meanwhile.

    Args:
        guest: Whose disks; nothing of them is touched before :meth:`begin`.
        settings: Of the migration.
    """

    def __init__(self, guest: Guest, settings: Settings) -> None:
        self._guest = guest
        self._settings = settings
        self._disks: list[_SentDisk] = []
        self._ahead: ReadAhead | None = None
        self._allocation = Allocation()
        self._is_incremental = False
        self._is_first_copy = True
        self._at_disk = self._at_chunk = 0
        self._percent = -1
        self._total_bytes = 0
        self._transferred_bytes = 0
        self._chunks = self._zero_chunks = self._skipped_chunks = 0

    def begin(self) -> Segments:
        """From now on every chunk is to be sent, and writes are logged.

        Raises:
            BlockedError: The stream cannot carry these disks.
        """
        disks = self._guest.disks()
        _check(disks)
        self._is_incremental = self._settings.parameters.block_incremental
        self._total_bytes = sum(disk.size_bytes for disk in disks)
        for disk in disks:
            chunks = chunk_count(disk)
            dirty = DirtyBitmap(chunks)
            dirty.mark_all()
            self._disks.append(_SentDisk(disk, disk.start_log(CHUNK_BYTES), dirty, chunks))
        yield BLOCK_EOS
        return True

    def iterate(self, budget_bytes: int) -> Segments:
        """Yield chunks until the budget is spent; one at least, if there is one."""
        if self._is_first_copy:
            self._sync()  # what was written ahead of the copy need not be sent twice
        yield from self._send(budget_bytes)
        yield BLOCK_EOS
        return not self._remaining_chunks

    def pending(self, exact: bool) -> Pending:
        """What is still to be sent; the first copy is not left to the time of the downtime."""
        if exact:
            self._sync()
        return Pending(must_precopy=self.remaining_bytes, must_go_on=self._is_first_copy)

    def complete(self) -> Segments:
        """Yield everything that is still to be sent, now that the guest stands still."""
        self._sync()
        yield from self._send(math.inf)
        yield progress(_DONE_PERCENT)
        yield BLOCK_EOS
        self.end()
        return True

    def end(self) -> None:
        """Log no more, and read no more; idempotent, also before :meth:`begin`."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        for sent in self._disks:
            sent.log.stop()

    @property
    def remaining_bytes(self) -> int:
        """Of the disks, what is still to be sent."""
        return min(self._remaining_chunks * CHUNK_BYTES, self._total_bytes)

    def statistics(self) -> dict[str, int]:
        """See :meth:`transship_block._block.BlockSection.statistics`."""
        return {
            "total": self._total_bytes,
            "remaining": self.remaining_bytes,
            "transferred": self._transferred_bytes,
            "chunks": self._chunks,
            "zero_chunks": self._zero_chunks,
            "skipped_chunks": self._skipped_chunks,
        }

    @property
    def _remaining_chunks(self) -> int:
        ahead = self._ahead
        return sum(sent.dirty_chunks for sent in self._disks) + (len(ahead) if ahead else 0)

    def _sync(self) -> None:
        """Take in what was written, and no longer rely on what was known of it."""
        self._allocation.forget()
        for sent in self._disks:
            sent.dirty_chunks += sent.dirty.merge(sent.log.take())

    def _send(self, budget_bytes: float) -> Segments:
        """Yield chunks, those of the next budgets being read meanwhile."""
        if self._ahead is None:
            self._ahead = ReadAhead(marks_zeros=self._settings.has(Capability.ZERO_BLOCKS))
        ahead = self._ahead
        while True:
            while not ahead.is_full and (place := self._next_place()) is not None:
                is_known_zero = self._is_first_copy and self._allocation.is_zero(place)
                ahead.put(place, is_known_zero=is_known_zero)
                if (word := self._progress_before(place)) is not None:
                    yield word
            if not len(ahead):
                return True
            chunk = ahead.take()
            self._transferred_bytes += chunk.place.length
            if chunk.is_zero:
                self._zero_chunks += 1
            else:
                self._chunks += 1
            budget_bytes -= len(chunk.segment)
            yield chunk.segment
            if budget_bytes <= 0:
                return True

    def _next_place(self) -> Place | None:
        """The next chunk that is to be read, now no longer dirty; passes begin at the start."""
        while (place := self._next_dirty()) is not None:
            if not self._is_unallocated(place):
                return place
            self._skipped_chunks += 1
        return None

    def _is_unallocated(self, place: Place) -> bool:
        return (
            self._is_incremental
            and self._is_first_copy
            and not self._allocation.is_allocated(place)
        )

    def _next_dirty(self) -> Place | None:
        for _ in range(2):  # to the end, and once more from the start
            while self._at_disk < len(self._disks):
                sent = self._disks[self._at_disk]
                if run := sent.dirty.next_run(self._at_chunk, 1):
                    self._at_chunk = run.end
                    sent.dirty.clear(run.first)
                    sent.dirty_chunks -= 1
                    return Place(sent.disk, run.first)
                self._at_disk, self._at_chunk = self._at_disk + 1, 0
            self._is_first_copy = False
            self._at_disk = self._at_chunk = 0
        return None

    def _progress_before(self, place: Place) -> bytes | None:
        """The word that says how far the first copy had come before a chunk, if it is news."""
        if not self._is_first_copy:
            return None
        before = self._disks[: self._at_disk]
        done = sum(sent.disk.size_bytes for sent in before) + place.offset
        percent = done * _DONE_PERCENT // self._total_bytes
        if percent == self._percent:
            return None
        self._percent = percent
        return progress(percent)


def _check(disks: Sequence[Disk]) -> None:
    names = [disk.name for disk in disks]
    if len(disks) > DISKS:
        raise BlockedError(
            "the guest has more disks than a stream carries",
            section="block",
            expected=f"at most {DISKS}",
            found=str(len(disks)),
        )
    for name in names:
        if not 0 < len(name.encode()) <= IDSTR_BYTES:
            raise BlockedError(
                f"disk {name[:40]!r} has a name that does not fit the stream",
                section="block",
                expected=f"1 to {IDSTR_BYTES} bytes",
            )
        if names.count(name) > 1:
            raise BlockedError(f"two disks are called {name!r}", section="block")
