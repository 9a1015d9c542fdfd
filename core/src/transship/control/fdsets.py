"""Sets of file descriptors, each one file opened in several ways. Knows no client, and no trio."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from transship.control.errors import generic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SET_DESCRIPTORS: Final = 128
"""File descriptors in all sets of a server. A migration needs one or two; the process may open 1024
by default, and needs them for channels and for guest memory."""


@dataclass(frozen=True, slots=True)
class Member:
    """A descriptor in a set.

    Args:
        descriptor: It.
        opaque: What the client wanted to remember.
    """

    descriptor: int
    opaque: str | None


class FdSets:
    """The sets of one server, for all its clients. Whatever is still here is closed at the end."""

    def __init__(self) -> None:
        self._sets: dict[int, list[Member]] = {}

    def add(self, descriptor: int, fdset: int | None, opaque: str | None) -> int:
        """Put a descriptor into a set, which owns it from now on, also if it is refused.

        Args:
            descriptor: It.
            fdset: The set's number; None for a new one.
            opaque: What the client wants to remember.

        Returns:
            The set's number.

        Raises:
            CommandError: The number is negative, or there are too many descriptors.
        """
        try:
            if fdset is not None and fdset < 0:
                raise generic("parameter 'fdset-id' takes no negative number")
            if sum(map(len, self._sets.values())) >= SET_DESCRIPTORS:
                raise generic(f"there are {SET_DESCRIPTORS} file descriptors in sets already")
        except BaseException:
            os.close(descriptor)
            raise
        if fdset is None:
            fdset = next(number for number in count() if number not in self._sets)
        self._sets.setdefault(fdset, []).append(Member(descriptor, opaque))
        return fdset

    def remove(self, fdset: int, descriptor: int | None) -> None:
        """Close a descriptor of a set, or all; an empty set is gone. Duplicates live on.

        Raises:
            CommandError: There is no such set, or no such descriptor in it.
        """
        members = self._members(fdset)
        going = [one for one in members if descriptor in (None, one.descriptor)]
        if not going:
            raise generic(f"set {fdset} has no file descriptor {descriptor}")
        for one in going:
            members.remove(one)
            os.close(one.descriptor)
        if not members:
            del self._sets[fdset]

    def members(self) -> Iterator[tuple[int, Sequence[Member]]]:
        """The sets, by their numbers, and what is in each."""
        yield from sorted(self._sets.items())

    def duplicate(self, fdset: int, access: int) -> int:
        """Return a duplicate of a set's descriptor that was opened so; it is the caller's.

        Args:
            fdset: The set's number.
            access: ``os.O_RDONLY`` or ``os.O_WRONLY``.

        Raises:
            CommandError: There is no such set, or nothing in it was opened so.
        """
        for one in self._members(fdset):
            if fcntl.fcntl(one.descriptor, fcntl.F_GETFL) & os.O_ACCMODE == access:
                return fcntl.fcntl(one.descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        way = {os.O_RDONLY: "reading", os.O_WRONLY: "writing"}[access]
        raise generic(f"set {fdset} has no file descriptor that was opened for {way} alone")

    def close(self) -> None:
        """Close them all; idempotent."""
        while self._sets:
            for one in self._sets.popitem()[1]:
                os.close(one.descriptor)

    def _members(self, fdset: int) -> list[Member]:
        try:
            return self._sets[fdset]
        except KeyError:
            raise generic(
                f"there is no set {fdset} of file descriptors (add-fd makes one)"
            ) from None
