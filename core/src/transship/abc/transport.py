"""A transport turns an address into channels: what the author of a URI scheme implements.

The hooks of a transport plugin return what is described here; everything asynchronous lives on
those objects, since hooks are never awaited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeAlias

from transship.abc.channel import Channel
from transship.errors import BlockedError


@dataclass(frozen=True, slots=True)
class Address:
    """A URI, split at its first colon; the transport reads the rest."""

    scheme: str
    rest: str

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Split ``scheme:rest``.

        Raises:
            BlockedError: There is no scheme.
        """
        scheme, colon, rest = uri.partition(":")
        if not colon or not scheme:
            raise BlockedError(
                f"{uri!r} is no migration address",
                expected="SCHEME:ADDRESS, such as tcp:host:4444 or unix:/path",
            )
        return cls(scheme, rest)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


Option: TypeAlias = str | int | bool | Sequence[str]
"""The value of one; a sequence where it is a list of words, such as a command's."""

Options: TypeAlias = Mapping[str, Option]
"""What an operator may tell a transport beside the address; a transport names those it knows.

A file descriptor among them is borrowed until the context manager is left."""


class Listener(ABC):
    """Waits for a source."""

    @property
    @abstractmethod
    def uri(self) -> str:
        """The address that a source can use: the real port, the absolute path."""

    @property
    def accepts_more(self) -> bool:
        """Whether another channel may come when one was no good."""
        return True

    @abstractmethod
    async def accept(self) -> Channel:
        """Wait for the next channel; the caller owns and closes it.

        Called again while an earlier channel is in use; a medium that has no more to offer waits
        for ever. The channel outlives its listener: it works on when listening has stopped.

        Raises:
            ChannelError: Listening broke.

        Cancellation: no channel was accepted.
        """


Outgoing = AbstractAsyncContextManager[Channel]
"""Connects when entered, raising ``ConnectError``; closes the channel when left."""

Incoming = AbstractAsyncContextManager[Listener]
"""Listens when entered, raising ``ConnectError``; stops listening when left, and leaves nothing
behind, not even a socket file."""
