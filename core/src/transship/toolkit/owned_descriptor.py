"""A descriptor that threads use; it is closed when none of them is in a call with it."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterator


@final
class OwnedDescriptor:
    """Closed exactly once; until the last call is over the kernel gives its number to nobody else.

    Args:
        number: Owned from now on.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._lock = threading.Lock()
        self._users = 0
        self._is_closed = False

    @contextmanager
    def in_use(self) -> Iterator[int]:
        """Keep it open for a call.

        Raises:
            OSError: It is closed already.
        """
        with self._lock:
            self.check_open()
            self._users += 1
        try:
            yield self.number
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_unused()

    def check_open(self) -> None:
        """Do nothing until somebody closes it.

        Raises:
            OSError: Somebody has.
        """
        if self._is_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def close(self) -> None:
        """Let nobody begin a call any more, and close it after the last; idempotent."""
        with self._lock:
            self._is_closed = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_closed and not self._users and self.number >= 0:
            number, self.number = self.number, -1
            os.close(number)
