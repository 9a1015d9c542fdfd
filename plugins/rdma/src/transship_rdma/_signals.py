"""Keeps the handlers of signals while a library is loaded that brings its own.

Debian's libfabric is linked with libpsm2 and libinfinipath, which answer SIGINT, SIGTERM and others
with a backtrace and the end of the process from the moment they are loaded, whatever handled them
before. Python cannot see handlers that are not its own, so the C library is asked.
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOM_BYTES: Final = 512
"""More than a ``struct sigaction`` takes anywhere: 152 bytes with glibc."""


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put all handlers back that the body replaces.

    Raises:
        OSError: One cannot be read or put back.
    """
    kept = {number: ctypes.create_string_buffer(_ROOM_BYTES) for number in _catchable()}
    for number, room in kept.items():
        _sigaction(number, None, room)
    try:
        yield
    finally:
        for number, room in kept.items():
            _sigaction(number, room, None)


def _catchable() -> list[int]:
    return sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def _sigaction(
    number: int, new: ctypes.Array[ctypes.c_char] | None, old: ctypes.Array[ctypes.c_char] | None
) -> None:
    if _LIBRARY.sigaction(ctypes.c_int(number), new, old):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


_LIBRARY: Final = ctypes.CDLL(None, use_errno=True)
