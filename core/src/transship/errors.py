"""What can go wrong, as one tree.

::

    MigrationError
    ├── LocalError            this side was used wrongly, or its own resources failed
    │   └── CheckpointError   a checkpoint folder cannot be read or written
    ├── RemoteError           the peer, or the stream it sent, is wrong
    │   ├── StreamError       a byte of the stream is not what it must be
    │   └── PeerFailedError   the peer said that it failed
    ├── ChannelError          the path between the two broke
    │   ├── ConnectError      it never came about
    │   ├── TlsError          the two sides do not trust each other
    │   ├── PeerClosedError   the peer closed it
    │   └── StalledError      nothing moved for longer than the time-out
    ├── BlockedError          refused before the guest was touched
    ├── PluginError           a plugin is missing, broken, or in conflict with another
    ├── CancelledError        somebody asked for it
    ├── NotConvergedError     the guest dirties memory faster than the channel carries it
    └── HandoverError         broken after the source gave the guest up
        ├── UnknownOutcomeError   whether the destination has it cannot be known: never retry
        └── NotStartedError       it arrived whole, paused, and was not started

Every error keeps its facts as attributes and composes its sentence from them; whoever learns
another fact on the way out adds it with :meth:`MigrationError.add_context`.
"""

from __future__ import annotations

from typing import Any, Literal, Self

Side = Literal["source", "destination", "reader"]

_CONTEXT = ("side", "phase", "section", "offset", "source_may_resume", "hint")


class MigrationError(Exception):
    """A migration, or a part of one, failed.

    Args:
        cause: What happened, as a clause without a final stop.
        side: Which side noticed.
        phase: The migration status in which it happened (``setup``, ``active``, ...).
        section: idstr of the section concerned.
        offset: Bytes from the start of the stream.
        expected: What the rules ask for, at that place.
        found: What was there instead.
        source_may_resume: Whether the source may still run the guest; None where nobody knows.
        hint: What the reader can do about it.
    """

    def __init__(
        self,
        cause: str,
        *,
        side: Side | None = None,
        phase: str | None = None,
        section: str | None = None,
        offset: int | None = None,
        expected: str | None = None,
        found: str | None = None,
        source_may_resume: bool | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.side = side
        self.phase = phase
        self.section = section
        self.offset = offset
        self.expected = expected
        self.found = found
        self.source_may_resume = source_may_resume
        self.hint = hint

    def add_context(self, **facts: Any) -> Self:
        """Fill in facts that are still unknown; a fact already known stays. Returns self."""
        for name, value in facts.items():
            if name not in _CONTEXT:
                raise TypeError(f"{name!r} is not a fact of a migration error")
            if getattr(self, name) is None:
                setattr(self, name, value)
        return self

    def facts(self) -> dict[str, str | int | bool | None]:
        """The error as plain data, for ``--json`` and for control replies."""
        return {
            "kind": type(self).__name__,
            "cause": self.cause,
            "side": self.side,
            "phase": self.phase,
            "section": self.section,
            "offset": self.offset,
            "expected": self.expected,
            "found": self.found,
            "source_may_resume": self.source_may_resume,
            "hint": self.hint,
        }

    def __str__(self) -> str:
        where = [
            f"{self.side} side" if self.side else "",
            f"phase {self.phase}" if self.phase else "",
            f"section {self.section!r}" if self.section else "",
            f"offset {self.offset}" if self.offset is not None else "",
        ]
        place = ", ".join(part for part in where if part)
        sentence = f"{place}: {self.cause}" if place else self.cause
        if self.expected is not None:
            sentence += f"; expected {self.expected}"
        if self.found is not None:
            sentence += f"; found {self.found}"
        if self.source_may_resume is not None:
            may = "may" if self.source_may_resume else "may not"
            sentence += f"; the source {may} run the guest"
        if self.hint:
            sentence += f" ({self.hint})"
        return sentence


class LocalError(MigrationError):
    """This side was used wrongly, or its own resources failed."""


class CheckpointError(LocalError):
    """A checkpoint folder cannot be read or written."""


class RemoteError(MigrationError):
    """The peer, or the stream it sent, is wrong."""


class StreamError(RemoteError):
    """A byte of the stream is not what it must be: names offset, section, expected and found."""


class PeerFailedError(RemoteError):
    """The peer said over the return path that it failed.

    Args:
        has_guest: Whether it said that it has the guest all the same.
    """

    def __init__(self, cause: str, *, has_guest: bool = False, **facts: Any) -> None:
        super().__init__(cause, **facts)
        self.has_guest = has_guest


class ChannelError(MigrationError):
    """The path between the two sides broke."""


class ConnectError(ChannelError):
    """The path never came about: nobody listens, a name has no address, no permission."""


class TlsError(ChannelError):
    """The two sides do not trust each other: certificates, names, or what they can agree on."""


class PeerClosedError(ChannelError):
    """The peer closed the channel, or died."""


class StalledError(ChannelError):
    """Nothing moved for longer than the time-out."""


class BlockedError(MigrationError):
    """Refused before the guest was touched."""


class PluginError(MigrationError):
    """A plugin is missing, broken, or in conflict with another.

    Args:
        distribution: The distribution concerned, or the one that would help.
    """

    def __init__(self, cause: str, *, distribution: str | None = None, **facts: Any) -> None:
        super().__init__(cause, **facts)
        self.distribution = distribution

    def facts(self) -> dict[str, str | int | bool | None]:
        """The error as plain data, the distribution included."""
        return super().facts() | {"distribution": self.distribution}


class CancelledError(MigrationError):
    """Somebody asked for the migration to be cancelled."""


class NotConvergedError(MigrationError):
    """The guest dirties memory faster than the channel carries it."""


class HandoverError(MigrationError):
    """The migration broke after the source had given the guest up."""


class UnknownOutcomeError(HandoverError):
    """Whether the destination has the guest cannot be known from here: never retry."""


class NotStartedError(HandoverError):
    """The guest arrived whole, paused, and was not started."""
