"""A section: one kind of state in the stream, and the hooks by which it is carried.

A section does no I/O and never sees a transport. What it sends it yields as *segments*, from
synchronous generators that the engine pulls; what it loads it parses with a generator that says
which bytes it wants (:mod:`transship.wire.reader`). So it is tested with bytes alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from transship.buffers import Buffer

if TYPE_CHECKING:
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader

Segments: TypeAlias = Generator[Buffer, None, bool]
"""The body of one record, as buffers in order. A buffer is borrowed by the engine until it has
asked for the next two: a generator may reuse three in turn. The returned value says, for
``iterate``, whether nothing is left for this round.

The engine closes the generator, also one that it does not pull to its end: when the migration
fails or is cancelled, the generator of the record in hand is closed before ``cancel`` is called.
So what a record alone holds belongs into a ``finally`` or a ``with`` of its generator, and what
lasts from record to record ends in ``cancel``."""


@dataclass(frozen=True, slots=True)
class Pending:
    """How much a section still has to send, in bytes.

    Args:
        must_precopy: Has to be sent before the destination may run.
        can_postcopy: May be sent after that.
    """

    must_precopy: int = 0
    can_postcopy: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.must_precopy + self.can_postcopy

    def __add__(self, other: Pending) -> Pending:
        return Pending(
            self.must_precopy + other.must_precopy, self.can_postcopy + other.can_postcopy
        )


class Section:
    """What the author of a section subclasses; its hooks are the methods marked ``@hookimpl``.

    A section that is live implements ``begin``, ``iterate`` and ``pending``, and its records are
    START, PART and END. One that is not implements ``complete`` alone, and has one FULL record.
    The hooks, with their arguments, are in :mod:`transship.plugin.hookspecs`.

    Attributes:
        idstr: Name in the stream, at most 255 bytes.
        instance_id: Which of several with the same name.
        version_id: Newest version, the one written.
        minimum_version_id: Oldest version that loads.
        is_live: Whether it is sent in rounds while the guest runs.
        is_optional: Whether the source may leave it out, because :meth:`is_needed` may say no
            there; asked on the destination.
    """

    idstr: str
    instance_id: int = 0
    version_id: int = 1
    minimum_version_id: int = 1
    is_live: bool = False
    is_optional: bool = False

    def is_needed(self) -> bool:
        """Whether the section has anything to send.

        Asked on the source only, once the guest stands still. A section that may say no has
        ``is_optional`` set, or its absence is an error on the destination.
        """
        return True

    def description(self) -> str | None:
        """The section's object in the VMDESCRIPTION, as JSON text; asked after ``complete``."""
        return None

    def statistics(self) -> dict[str, int]:
        """Counters for reports, each defined in the section's own documentation."""
        return {}


class SectionSet(Protocol):
    """The sections of one migration, in stream order, and their hooks called one at a time."""

    def __iter__(self) -> Iterator[Section]:
        """In stream order."""

    def find(self, idstr: str, instance_id: int) -> Section | None:
        """The section with that name."""

    def begin(self, section: Section) -> Segments: ...

    def iterate(self, section: Section, budget_bytes: int) -> Segments: ...

    def pending(self, section: Section, *, exact: bool) -> Pending: ...

    def complete(self, section: Section) -> Segments: ...

    def cancel(self, section: Section) -> None: ...

    def load(
        self, section: Section, header: SectionHeader, reader: StreamReader
    ) -> Parsing[None]: ...
