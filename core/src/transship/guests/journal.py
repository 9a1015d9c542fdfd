"""A journal of ticks: outside evidence that a guest ran in one place at a time.

Every tick of a guest appends a record of fixed size to one file, whichever process the guest is
in. Appending is atomic, so the order of the records is the order of the ticks, and two processes
that ran one guest at once would show as a counter that repeats.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from transship.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_RECORD: Final = struct.Struct("<QQII")


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One tick.

    Args:
        counter: The guest's, after the tick.
        time_ns: When, on CLOCK_MONOTONIC of the machine.
        pid: The process that ran the guest.
        tag: A random number of the guest object there; pids repeat, tags hardly.
    """

    counter: int
    time_ns: int
    pid: int
    tag: int


@dataclass(frozen=True, slots=True)
class JournalVerdict:
    """What a journal proves.

    Args:
        ok: Whether the counter went up by one from each record to the next.
        ticks: How many records there are.
        passages: How often the guest went on in another place.
        longest_gap_s: The longest time between two ticks.
        reason: What is wrong, with the number of the record; empty if nothing is.
    """

    ok: bool
    ticks: int
    passages: int
    longest_gap_s: float
    reason: str = ""


class Journal:
    """Appends the ticks of one guest object; several may append to one file.

    Args:
        path: The file; it is created if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = os.getpid()
        self._tag = int.from_bytes(os.urandom(4), "little")
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666
        )

    def append(self, counter: int, time_ns: int) -> None:
        """Record a tick.

        Raises:
            OSError: The file takes no more.
        """
        record = _RECORD.pack(counter, time_ns, self._pid, self._tag)
        if os.write(self._descriptor, record) != len(record):
            raise OSError(f"{self.path} took a part of a record")

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_journal(path: Path) -> Iterator[JournalRecord]:
    """All records, in the order in which the guest ticked.

    Raises:
        LocalError: The file ends inside a record.
    """
    data = path.read_bytes()
    if len(data) % _RECORD.size:
        raise LocalError(
            f"the journal {path} ends inside a record",
            expected=f"a multiple of {_RECORD.size} bytes",
            found=f"{len(data)} bytes",
        )
    for values in _RECORD.iter_unpack(data):
        yield JournalRecord(*values)


def judge_journal(path: Path) -> JournalVerdict:
    """Whether the counter never skipped, repeated or went back."""
    ticks = passages = gap_ns = 0
    before: JournalRecord | None = None
    for record in read_journal(path):
        if before is not None:
            gap_ns = max(gap_ns, record.time_ns - before.time_ns)
            if record.counter != before.counter + 1:
                reason = (
                    f"record {ticks}: counter {record.counter} of process {record.pid} follows "
                    f"{before.counter} of process {before.pid}"
                )
                return JournalVerdict(False, ticks, passages, gap_ns / 1e9, reason)
            passages += (record.pid, record.tag) != (before.pid, before.tag)
        before = record
        ticks += 1
    return JournalVerdict(True, ticks, passages, gap_ns / 1e9)
