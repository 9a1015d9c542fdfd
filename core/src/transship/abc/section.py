"""A section: one kind of state in the stream, and the hooks by which it is carried.

A section never sees a transport. What it sends it yields as *segments*, from synchronous generators
that the engine pulls; what it loads it parses with a generator that says which bytes it wants
(:mod:`transship.wire.reader`). So it is tested with bytes alone. A section that has extra channels
may move their bytes itself, in their threads, where a channel is a descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from transship.buffers import Buffer
from transship.wire.reader import Rendezvous

if TYPE_CHECKING:
    from transship.abc.channel import RemoteRun
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader


@dataclass(frozen=True, slots=True)
class ChannelWork:
    """Something to be sent over extra channels, beside the stream.

    Args:
        make: Called in the thread of a channel, with its number from 0: yields what goes over it,
            some buffers at a time, borrowed until the next are asked for.
        size_bytes: How much that is, about.
        on_every_channel: Whether all of them are to send it, each after everything that it was
            given before, and before everything it is given later; or just one, whichever.
        send: Called instead, if given, where the channel is a descriptor: sends the same, and
            returns how many bytes that was. Gets the number and the descriptor, which blocks, and
            carries the channel's bytes as they are; an ``OSError`` is the channel's.
    """

    make: Callable[[int], Iterable[Sequence[Buffer]]]
    size_bytes: int
    on_every_channel: bool = False
    send: Callable[[int, int], int] | None = None


@dataclass(frozen=True, slots=True)
class FileWork:
    """Something that a section does itself with the file that the stream goes to.

    Args:
        do: Called in a worker thread when everything yielded before has been written, with the
            file's descriptor, for calls that name a place, and the place in it where the stream
            stands. Returns the place where it goes on. An ``OSError`` is the file's.
        size_bytes: How much it writes.
    """

    do: Callable[[int, int], int]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RemoteWork:
    """Memory that is to be written to the same place in the destination's, beside the stream.

    Args:
        runs: Of the section's ``remote_memory``; read some time before the next flush is over.
        flush: Whether everything written so far is to be there before the stream goes on.
    """

    runs: Sequence[RemoteRun] = ()
    flush: bool = False

    @property
    def size_bytes(self) -> int:
        """How much that is."""
        return sum(run.length for run in self.runs)


Body: TypeAlias = Generator[Buffer, None, bool]
"""The body of one record, of a section that goes over the stream alone; see :data:`Segments`."""

Segments: TypeAlias = Generator[Buffer | ChannelWork | FileWork | RemoteWork, None, bool]
"""The body of one record, as buffers in order. A buffer is borrowed by the engine until it has
asked for the next two: a generator may reuse three in turn. The returned value says, for
``iterate``, whether nothing is left for this pass.

Between its buffers a section that has extra channels may yield work for those, and one of a
migration with ``mapped-ram`` work for the file; and one that was told to write remotely, what is to
be written so.

The engine closes the generator, also one that it does not pull to its end: when the migration
fails or is cancelled, the generator of the record in hand is closed before ``cancel`` is called.
So what a record alone holds belongs into a ``finally`` or a ``with`` of its generator, and what
lasts from record to record ends in ``cancel``."""


@dataclass(frozen=True, slots=True)
class FromDescriptor:
    """Something that receives from an extra channel by itself, where that is a descriptor.

    Args:
        receive: Called in the channel's thread, with a descriptor that blocks, and carries the
            channel's bytes as they are. Returns how many came; an ``OSError`` is the channel's.
    """

    receive: Callable[[int], int]


ChannelParsing: TypeAlias = Generator[Sequence[memoryview] | FromDescriptor | Rendezvous, int, None]
"""Takes what comes over one extra channel, in a thread of that channel.

It yields views to be filled, in order, and is resumed with the number of bytes when all are, or
with fewer if the channel ended; or something that receives by itself, and is resumed with the
number of bytes, or with ``NO_DESCRIPTOR`` if that is not to be had; or a rendezvous, to go on when
the stream has come to one as well, and all other channels have. It may return at the end of the
channel only."""


@dataclass(frozen=True, slots=True)
class Pending:
    """How much a section still has to send, in bytes.

    Args:
        must_precopy: Has to be sent before the destination may run.
        must_go_on: Whether it has to be sent while the guest runs, however little it is: a
            first copy that is not through would make the guest wait for slow disks.
    """

    must_precopy: int = 0
    must_go_on: bool = False

    def __add__(self, other: Pending) -> Pending:
        return Pending(self.must_precopy + other.must_precopy, self.must_go_on or other.must_go_on)


@dataclass(frozen=True, slots=True)
class LiveCounters:
    """What a live section has counted since it began; on the source, the engine decides by it.

    All of it but ``remaining_bytes`` and ``page_size`` only grows.

    Args:
        sent_bytes: Of the records that carry memory or the like, what has been yielded.
        handled_pages: Pages dealt with, whatever became of them: sent in full, as a mark, as a
            change, or found not to have to be sent. One dealt with twice counts twice.
        dirtied_pages: Pages that the dirty log, by all its synchronisations, found written to; its
            growth is the dirty rate.
        remaining_bytes: What is dirty, as of the last synchronisation, less what was sent since.
        page_size: Bytes of a page of ``dirtied_pages``; 0 if none can become dirty.
        dirty_syncs: Synchronisations of the dirty log; the one that starts it counts.
    """

    sent_bytes: int = 0
    handled_pages: int = 0
    dirtied_pages: int = 0
    remaining_bytes: int = 0
    page_size: int = 0
    dirty_syncs: int = 0


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
        is_live: Whether it is sent in passes while the guest runs.
        is_optional: Whether the source may leave it out, because :meth:`is_needed` may say no
            there; asked on the destination.
    """

    idstr: str
    instance_id: int = 0
    version_id: int = 1
    minimum_version_id: int = 1
    is_live: bool = False
    is_optional: bool = False

    @property
    def extra_channels(self) -> int:
        """Over how many channels it goes besides the stream; of one section at most.

        Asked when a channel is there. Such a section is live, and implements ``load_channel``.
        """
        return 0

    def remote_memory(self) -> Mapping[str, memoryview]:
        """Memory that may be written remotely instead of being sent, by the name of its block.

        Asked once the START record has been sent, or loaded. On the destination writable, and ready
        to be written. The views are the caller's.
        """
        return {}

    def write_remotely(self) -> None:
        """From now on yield such memory as :class:`RemoteWork` (source).

        Between what was yielded before a ``pending`` that is exact, and what is yielded after it,
        the engine lets the destination catch up with both the memory and the stream.
        """

    def is_needed(self) -> bool:
        """Whether the section has anything to send.

        Asked on the source only, once the guest stands still; a live section, before it begins. A
        section that may say no has ``is_optional`` set, or its absence is an error on the
        destination.
        """
        return True

    def description(self) -> str | None:
        """The section's object in the VMDESCRIPTION, as JSON text; asked after ``complete``."""
        return None

    def statistics(self) -> dict[str, int]:
        """Counters for reports, each defined in the section's own documentation.

        People and ``query-migrate`` read them; nothing is decided by them. Asked on both sides, at
        any time, also while a record is in the making.
        """
        return {}

    def live_counters(self) -> LiveCounters:
        """What the engine measures a live section by: its rates, and whether it converges.

        Asked on the source only, of live sections, when :meth:`statistics` are. A section without
        it is sent as any other; its pages are in no rate, and no guest is throttled for them.
        """
        return LiveCounters()


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

    def load_channel(self, section: Section, number: int) -> ChannelParsing: ...
