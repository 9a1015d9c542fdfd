"""Bytes of one stream, in order, with their offset; reading is a generator that says what it wants.

Parsers of the stream are generators. They yield a :data:`Want` when they cannot go on, and are
resumed when it has been met, so the same parser runs over a socket, a file, or one byte at a
time in a test:

* an ``int``: at least so many more bytes are needed in the window; 0: nothing is wanted, and
  others may run, since a long step lies behind and there is more to do;
* a ``memoryview``: receive exactly these bytes, straight to where they belong. It is void once
  the parser goes on, or is closed;
* :data:`RENDEZVOUS`: go on when every extra channel of the stream has come to the same point;
* an :class:`InFile`: let something read in the file that carries the stream, and go on elsewhere;
* an :class:`InThread`: do something that blocks, where it keeps nobody else waiting.

Whoever drives a parser fills :meth:`StreamReader.writable` and reports it with
:meth:`StreamReader.received`, or calls :meth:`StreamReader.finish` when no more will come;
It closes the parser whatever happens: the views of guest memory that a parser holds are released
then, not when the last traceback that shows them is gone. :func:`drive` does all of it for anything
that has a ``readinto``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final, TypeVar

from transship.errors import RemoteError, StreamError
from transship.units import counted
from transship.wire.limits import READER_BYTES

T = TypeVar("T")
E = TypeVar("E", bound=RemoteError)


class Rendezvous(Enum):
    """The one value of :data:`RENDEZVOUS`."""

    RENDEZVOUS = "rendezvous"


RENDEZVOUS: Final = Rendezvous.RENDEZVOUS
"""The stream and its extra channels wait for each other."""


class InFile:
    """Wants to read in the file that carries the stream.

    Args:
        do: Called with the file's descriptor, for calls that name a place, and the place in it
            where the parser stands. Returns the place where the stream goes on.
        size_bytes: How much it reads.
    """

    def __init__(self, do: Callable[[int, int], int], size_bytes: int = 0) -> None:
        self.do = do
        self.size_bytes = size_bytes


class InThread:
    """Wants something done that blocks, say on a disk, before the parser goes on.

    Args:
        do: Called once. What it raises ends the parsing.
    """

    def __init__(self, do: Callable[[], None]) -> None:
        self.do = do


Want = int | memoryview | Rendezvous | InFile | InThread
Parsing = Generator[Want, None, T]


class StreamReader:
    """A bounded window over a stream.

    Args:
        capacity: Bytes the window holds; no single :meth:`take` may ask for more.
        offset: Where in the stream the first byte lies.
    """

    def __init__(self, capacity: int = READER_BYTES, offset: int = 0) -> None:
        self._data = bytearray(capacity)
        self._view = memoryview(self._data)
        self._start = 0
        self._end = 0
        self._base = offset
        self._limits: list[int] = []
        self._finished = False
        self.section: str | None = None
        """idstr of the section being read, for the errors raised meanwhile."""

    # The side that has the bytes.

    def writable(self) -> memoryview:
        """Free room of the window, never empty while a parser wants more; borrowed until received.

        Views from :meth:`buffered` are void after this call: the window may have been moved.
        """
        if self._start == self._end:
            self._base += self._start
            self._start = self._end = 0
        elif self._end == len(self._data) or self._start > len(self._data) // 2:
            kept = self._end - self._start
            self._data[:kept] = self._data[self._start : self._end]
            self._base += self._start
            self._start, self._end = 0, kept
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """``count`` bytes were put at the start of :meth:`writable`."""
        self._end += count

    def landed(self, count: int) -> None:
        """``count`` bytes went past the window, straight to the view that a parser wanted."""
        if self._start != self._end:
            raise AssertionError("bytes overtook those in the window")
        self._base += count

    def discard(self) -> int:
        """Drop what is at hand, unread; whoever fills the window gives it again, or other bytes.

        Returns:
            How many bytes that were.
        """
        count = self._end - self._start
        self._end = self._start
        self._finished = False
        return count

    def finish(self) -> None:
        """No more bytes will come: a parser that wants more gets a :class:`StreamError`."""
        self._finished = True

    # The side that parses.

    @property
    def offset(self) -> int:
        """Bytes from the start of the stream to the next unread one."""
        return self._base + self._start

    def buffered(self) -> memoryview:
        """The unread bytes at hand, up to the limit; void after the next yield or skip."""
        end = self._end
        if self._limits:
            end = min(end, self._limits[-1] - self._base)
        return self._view[self._start : end]

    def skip(self, count: int) -> None:
        """Drop ``count`` bytes that are at hand."""
        self._start += count

    def ensure(self, count: int) -> Parsing[None]:
        """Wait until ``count`` bytes are at hand; they stay unread."""
        if count > len(self._data):
            raise AssertionError(f"a window of {len(self._data)} bytes never holds {count}")
        self._check_limit(count)
        while (missing := count - (self._end - self._start)) > 0:
            if self._finished:
                raise self.error(
                    "the stream ends early",
                    expected=counted(count, "byte", "bytes"),
                    found=counted(self._end - self._start, "byte", "bytes") + " and the end",
                )
            yield missing

    def at_end(self) -> Parsing[bool]:
        """Whether no byte is left; waits until that is known."""
        while self._start == self._end:
            if self._finished:
                return True
            yield 1
        return False

    def take(self, count: int) -> Parsing[bytes]:
        """Read ``count`` bytes, at most the window's capacity."""
        if self._end - self._start < count or self._limits:
            yield from self.ensure(count)
        start = self._start
        self._start = start + count
        return bytes(self._view[start : start + count])

    def take_large(self, count: int) -> Parsing[bytearray]:
        """Read ``count`` bytes of any size, in steps: memory grows only as they arrive.

        The caller has bounded ``count`` by one of :mod:`transship.wire.limits`.
        """
        self._check_limit(count)
        result = bytearray()
        while (missing := count - len(result)) > 0:
            if self._start == self._end:
                yield from self.ensure(1)
            step = self.buffered()[:missing]
            result += step
            self._start += len(step)
        return result

    def fill(self, target: memoryview) -> Parsing[None]:
        """Read ``len(target)`` bytes to ``target``; what is not at hand lands there directly."""
        self._check_limit(len(target))
        at_hand = self.buffered()[: len(target)]
        target[: len(at_hand)] = at_hand
        self._start += len(at_hand)
        if rest := len(target) - len(at_hand):
            if self._finished:
                raise self.error(
                    "the stream ends early",
                    expected=counted(rest, "more byte", "more bytes"),
                    found="the end",
                )
            with target[len(at_hand) :] as missing:
                yield missing

    def drop(self, count: int) -> Parsing[None]:
        """Read ``count`` bytes and forget them."""
        while count > 0:
            yield from self.ensure(1)
            step = min(count, len(self.buffered()))
            self._start += step
            count -= step

    def u8(self) -> Parsing[int]:
        """Read an unsigned byte."""
        return (yield from self.take(1))[0]

    def be16(self) -> Parsing[int]:
        """Read an unsigned big-endian integer of 2 bytes."""
        return int.from_bytes((yield from self.take(2)), "big")

    def be32(self) -> Parsing[int]:
        """Read an unsigned big-endian integer of 4 bytes."""
        return int.from_bytes((yield from self.take(4)), "big")

    def be64(self) -> Parsing[int]:
        """Read an unsigned big-endian integer of 8 bytes."""
        return int.from_bytes((yield from self.take(8)), "big")

    def counted_string(self) -> Parsing[str]:
        """Read a name: one length byte, then so many bytes of it."""
        start = self.offset
        raw = yield from self.take((yield from self.u8()))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.error(
                "a name is not text", offset=start, expected="UTF-8", found=raw.hex()
            ) from None

    @contextmanager
    def bounded(self, count: int) -> Iterator[None]:
        """Within this block nothing is read beyond the next ``count`` bytes."""
        self._check_limit(count)
        self._limits.append(self.offset + count)
        try:
            yield
        finally:
            self._limits.pop()

    def error(
        self,
        cause: str,
        *,
        offset: int | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> StreamError:
        """An error at ``offset`` (here, if not given) in the current section."""
        return StreamError(
            cause,
            section=self.section,
            offset=self.offset if offset is None else offset,
            expected=expected,
            found=found,
            hint=hint,
        )

    def _check_limit(self, count: int) -> None:
        if self._limits and self.offset + count > self._limits[-1]:
            raise self.error(
                "a record reaches beyond the package that holds it",
                expected="at most " + counted(self._limits[-1] - self.offset, "byte", "bytes"),
                found=counted(count, "byte", "bytes"),
            )


def not_a_file(reader: StreamReader) -> StreamError:
    """The error for a stream whose memory lies at places of a file, and that is in none."""
    return reader.error(
        "memory is looked for at places of a file, and the stream does not come from one",
        expected="a channel that is a file",
        found="one that is none",
        hint="switch the capability mapped-ram off, or take file:",
    )


def not_several_channels(
    refuse: Callable[..., E], found: str = "a stream that waits for others"
) -> E:
    """The error for a source that sends over more channels than there are to be.

    Args:
        refuse: Makes it, out of what every error says.
        found: What shows it.
    """
    return refuse(
        "the source sends its memory over several channels (multifd)",
        expected="one channel",
        found=found,
        hint="switch the capability multifd on at the destination, or off at the source",
    )


def drive(
    parsing: Parsing[T],
    reader: StreamReader,
    readinto: Callable[[memoryview], int | None],
    meet: Callable[[], None] | None = None,
    visit: Callable[[InFile], None] | None = None,
) -> T:
    """Run a parser to its result over something that reads synchronously.

    Args:
        parsing: The parser; it reads from ``reader``.
        reader: Its window.
        readinto: Fills a part of the view it is given and returns how much; 0 is the end.
        meet: Waits for the extra channels; without it a stream that has some is refused.
        visit: Does what is to be done in the file; without it such a stream is refused.

    Raises:
        StreamError: The stream is wrong, or ends too early.
    """
    try:
        want = next(parsing)
        while True:
            if isinstance(want, memoryview):
                _fill(want, reader, readinto)
            elif isinstance(want, Rendezvous):
                if meet is None:
                    raise not_several_channels(reader.error)
                meet()
            elif isinstance(want, InFile):
                if visit is None:
                    raise not_a_file(reader)
                visit(want)
            elif isinstance(want, InThread):
                want.do()
            elif want:
                count = readinto(reader.writable())
                if count:
                    reader.received(count)
                else:
                    reader.finish()
            want = next(parsing)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        parsing.close()


def _fill(
    target: memoryview, reader: StreamReader, readinto: Callable[[memoryview], int | None]
) -> None:
    done = 0
    while done < len(target):
        with target[done:] as rest:
            count = readinto(rest)
        if not count:
            raise reader.error(
                "the stream ends early",
                offset=reader.offset + done,
                expected=counted(len(target) - done, "more byte", "more bytes"),
                found="the end",
            )
        done += count
    reader.landed(done)
