"""The file descriptors of one client: some just arrived, some have got a name. Knows no socket."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.control.errors import generic
from transship.control.qapi.refusals import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOG: Final = logging.getLogger(__name__)

UNCLAIMED_DESCRIPTORS: Final = 16
"""File descriptors of one client that no ``getfd`` has named yet; clients send one at a time."""

NAMED_DESCRIPTORS: Final = 64
"""File descriptors of one client that have a name; a migration over ``fd:`` needs one. The process
may open 1024 by default, and needs them for channels and for guest memory."""


@dataclass(slots=True)
class _Arrived:
    """A descriptor without a name, and the last command that it may have been sent for."""

    descriptor: int
    due: float = math.inf


class Descriptors:
    """File descriptors that a client sent. Whatever is still here is closed at the end, once.

    A descriptor travels beside bytes, not inside a command. Some clients send it with the command
    that names it, others with a blank before; either may have sent more commands since. So each
    descriptor is *due* with the command that its bytes belong to, and a ``getfd`` takes the first
    that is due with it or later. What a failed command left behind is taken only when nothing else
    is there.
    """

    def __init__(self) -> None:
        self._arrived: deque[_Arrived] = deque()
        self._named: dict[str, int] = {}
        self._is_closed = False

    # What the connection says.

    def arrived(self, descriptors: Iterable[int]) -> None:
        """Take over descriptors that came with the bytes being read; too many are closed."""
        for descriptor in descriptors:
            if self._is_closed or len(self._arrived) >= UNCLAIMED_DESCRIPTORS:
                os.close(descriptor)
                _LOG.warning("closed a file descriptor that nobody asked for")
            else:
                self._arrived.append(_Arrived(descriptor))

    def settle(self, due: int) -> None:
        """All bytes are read that came with the last ones: they belong to this command at most."""
        for arrived in self._arrived:
            arrived.due = min(arrived.due, due)

    def close(self) -> None:
        """Close them all, and those still to come; idempotent."""
        self._is_closed = True
        while self._arrived:
            os.close(self._arrived.popleft().descriptor)
        while self._named:
            os.close(self._named.popitem()[1])

    # What commands ask for.

    def claim(self, command: int) -> int:
        """Return the descriptor that was sent with a command; it is the caller's from now on.

        Args:
            command: Which command of the client asks.

        Raises:
            CommandError: There is none.
        """
        if not self._arrived:
            raise generic("no file descriptor came with the command (SCM_RIGHTS)")
        chosen = self._arrived[-1]
        for arrived in self._arrived:
            if arrived.due >= command:
                chosen = arrived
                break
        self._arrived.remove(chosen)
        return chosen.descriptor

    def name(self, name: str, command: int) -> None:
        """Give a descriptor a name, for ``getfd``; one that had it before is closed.

        Args:
            name: The name; it must not begin with a digit.
            command: Which command of the client asks.

        Raises:
            CommandError: There is no descriptor, the name is wrong, or there are too many.
        """
        descriptor = self.claim(command)
        try:
            if not name or name[0].isdecimal():
                raise generic(f"{quoted(name)} is no name: it must not begin with a digit")
            if name not in self._named and len(self._named) >= NAMED_DESCRIPTORS:
                raise generic(f"there are {NAMED_DESCRIPTORS} named file descriptors already")
        except BaseException:
            os.close(descriptor)
            raise
        if (before := self._named.pop(name, None)) is not None:
            os.close(before)
        self._named[name] = descriptor

    def take(self, name: str) -> int:
        """Return a descriptor, which is the caller's from now on; its name is forgotten.

        Raises:
            CommandError: There is none of that name.
        """
        try:
            return self._named.pop(name)
        except KeyError:
            raise generic(f"no file descriptor has the name {quoted(name)}") from None
