"""Saves and loads one section by hand, as an engine would; what the checks of sections are made of.

Hooks are called through a registry, so a section that a migration would refuse is refused here.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from transship.plugin.registry import SectionRegistry
from transship.testing.checking import PATIENCE_S, require
from transship.testing.section_case import SavedRecord, SectionCase
from transship.wire.constants import RecordType
from transship.wire.events import SectionHeader
from transship.wire.reader import Parsing, StreamReader, drive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.abc.guest import Guest
    from transship.abc.section import ChannelWork, FileWork, RemoteWork, Segments
    from transship.buffers import Buffer

T = TypeVar("T")

LENT_BUFFERS: Final = 3
"""A buffer is borrowed until the next two have been asked for."""

_FOOTER: Final = b"\x7e\xa5\x5a\xa5\x5a"
_SECTION_ID: Final = 1


class Carrier:
    """A section of one migration, with its hooks.

    Args:
        case: What is tried.
        guest: The one that it carries, or fills.

    Attributes:
        section: The section.
        guest: The same.
    """

    def __init__(self, case: SectionCase, guest: Guest) -> None:
        self.guest = guest
        self.section = case.make_section(guest)
        self._sections = SectionRegistry([self.section])
        require(not self.section.extra_channels, "the kit wants a section without extra channels")

    @classmethod
    def of_source(cls, case: SectionCase) -> Carrier:
        """The section of a guest to be sent."""
        return cls(case, case.make_guest())

    @classmethod
    def of_destination(cls, case: SectionCase) -> Carrier:
        """The section of a guest to be filled."""
        return cls(case, case.make_destination())

    # Saving

    def begin(self) -> Segments:
        return self._sections.begin(self.section)

    def iterate(self, budget_bytes: int) -> Segments:
        return self._sections.iterate(self.section, budget_bytes)

    def complete(self) -> Segments:
        return self._sections.complete(self.section)

    def cancel(self) -> None:
        self._sections.cancel(self.section)

    def pending(self, *, exact: bool = False) -> int:
        """How much is left; never negative."""
        pending_bytes = self._sections.pending(self.section, exact=exact).must_precopy
        require(pending_bytes >= 0, f"{pending_bytes} bytes are pending")
        return pending_bytes

    def save(
        self,
        step: Callable[[Guest], object] = lambda guest: None,
        *,
        rounds: int = 3,
        budget_bytes: int = 1 << 20,
        call: Callable[[Callable[[], Any]], Any] = lambda once: once(),
    ) -> list[SavedRecord]:
        """All records, while the guest works.

        Args:
            step: What the guest does between two records of a live section.
            rounds: PART records of a live section.
            budget_bytes: Of each of those.
            call: Makes each call of the section: in a thread, for example.
        """
        if not self.section.is_live:
            full = collect(call(self.complete), call)
            return [SavedRecord(RecordType.SECTION_FULL, full.body)]
        records = [SavedRecord(RecordType.SECTION_START, collect(call(self.begin), call).body)]
        for _ in range(rounds):
            step(self.guest)
            call(lambda: self.pending(exact=True))
            part = collect(call(lambda: self.iterate(budget_bytes)), call)
            records.append(SavedRecord(RecordType.SECTION_PART, part.body))
        step(self.guest)
        records.append(SavedRecord(RecordType.SECTION_END, collect(call(self.complete), call).body))
        return records

    # Loading

    def parse(
        self, records: Sequence[SavedRecord], reader: StreamReader, version_id: int | None = None
    ) -> Parsing[None]:
        """Load records, each of which has a footer behind it.

        Raises:
            EndedElsewhereError: A body was taken for longer or shorter than it is.
        """
        section = self.section
        version = section.version_id if version_id is None else version_id
        reader.section = section.idstr
        for record in records:
            header = SectionHeader(
                record.kind, _SECTION_ID, section.idstr, section.instance_id, version
            )
            yield from self._sections.load(section, header, reader)
            footer = yield from reader.take(len(_FOOTER))
            if footer != _FOOTER:
                raise EndedElsewhereError(
                    f"the body of {record.kind.name} was left too soon or late"
                )

    def load(
        self,
        records: Sequence[SavedRecord],
        *,
        data: bytes | None = None,
        step_bytes: int = 1 << 20,
        version_id: int | None = None,
        call: Callable[[Callable[[], Any]], Any] = lambda once: once(),
    ) -> None:
        """Load records whole, so many bytes at a time.

        Args:
            records: What the loader is told of: how many, and of which kind.
            data: What it gets in place of their bytes.
            step_bytes: Most that arrives together.
            version_id: The one that the stream names; the section's own, if not given.
            call: Makes each step of the parser: in a thread, for example.
        """
        source = io.BytesIO(stream_of(records) if data is None else data)
        reader = StreamReader()
        parsing = self.parse(records, reader, version_id)
        drive(_stepped(parsing, call), reader, lambda target: source.readinto(target[:step_bytes]))


class EndedElsewhereError(Exception):
    """A parser did not stop where the body ends; the engine finds no footer there."""


class Collected(NamedTuple):
    """What a generator of segments gave.

    Args:
        body: All of its bytes.
        is_through: What it returned.
    """

    body: bytes
    is_through: bool


def collect(
    segments: Segments,
    call: Callable[[Callable[[], Any]], Any] = lambda once: once(),
) -> Collected:
    """Pull all segments, each read only when the next two have been asked for, then close."""
    body = bytearray()
    lent: list[Buffer] = []
    try:
        while True:
            try:
                lent.append(buffer_of(call(lambda: _next(segments))))
            except _EndError as end:
                for buffer in lent:
                    body += content_of(buffer)
                return Collected(bytes(body), end.result)
            if len(lent) == LENT_BUFFERS:
                body += content_of(lent.pop(0))
    finally:
        segments.close()


def buffer_of(segment: Buffer | ChannelWork | FileWork | RemoteWork) -> Buffer:
    """The segment, which must be a buffer of bytes.

    Raises:
        AssertionError: It is something else.
    """
    if not isinstance(segment, bytes | bytearray | memoryview):
        raise AssertionError(f"{segment!r} is no buffer")
    with memoryview(segment) as view:
        require(view.c_contiguous, "a buffer is not contiguous")
    return segment


def content_of(lent: Buffer) -> bytes:
    """A copy of what is in a buffer that was lent.

    Raises:
        AssertionError: It was released.
    """
    try:
        return bytes(lent)
    except ValueError as error:
        raise AssertionError("a buffer was released while it was lent") from error


class _EndError(Exception):
    """A generator's end: StopIteration may not leave a generator, nor a thread."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


def _next(generator: Any) -> Any:
    try:
        return next(generator)
    except StopIteration as stop:
        raise _EndError(stop.value) from None


def _stepped(parsing: Parsing[None], call: Callable[[Callable[[], Any]], Any]) -> Parsing[None]:
    try:
        while True:
            try:
                yield call(lambda: _next(parsing))
            except _EndError:
                return
    finally:
        parsing.close()


def stream_of(records: Sequence[SavedRecord]) -> bytes:
    """The bytes of records, each with a footer behind it."""
    return b"".join(record.body + _FOOTER for record in records)


def stretches_of(records: Sequence[SavedRecord]) -> list[range]:
    """Where in :func:`stream_of` the bodies are."""
    stretches, start = [], 0
    for record in records:
        stretches.append(range(start, start + len(record.body)))
        start += len(record.body) + len(_FOOTER)
    return stretches


def in_time(what: str, call: Callable[[], T], seconds: float = PATIENCE_S) -> T:
    """Make a call that must come to an end, in a thread that is left behind if it does not."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    require(not thread.is_alive(), f"{what} took longer than {seconds:g} s")
    if errors:
        raise errors[0]
    return results[0]


def in_another_thread(call: Callable[[], T]) -> T:
    """Make a call in a thread that makes no other."""
    return in_time("a step of the section", call)
