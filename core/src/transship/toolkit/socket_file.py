"""The file of a listening socket: takes the place of a dead one, and removes no other's."""

from __future__ import annotations

import errno
import os
import socket
import stat
from dataclasses import dataclass
from typing import Final

PRIVATE: Final = 0o600
"""Whoever may connect can send a machine, become its new home, or command it."""


@dataclass(frozen=True, slots=True)
class SocketFile:
    """A socket file that is ours.

    Args:
        path: Where it is; absolute, since the process may go elsewhere.
        identity: Its device and inode. As long as the socket is open no other file has them.
    """

    path: str
    identity: tuple[int, int]

    @classmethod
    def bind(cls, listening: socket.socket, path: str, mode: int = PRIVATE) -> SocketFile:
        """Give a socket its file, which has its permissions from the first moment.

        A file on which nobody listens any more is replaced.

        Args:
            listening: The socket.
            path: Where.
            mode: The permissions; by default the owner alone may connect.

        Raises:
            OSError: Somebody listens there, something else has that name, it is not allowed, or
                it cannot be a path.
        """
        if "\0" in path:  # the socket would be where that byte is
            raise OSError(errno.EINVAL, "a path cannot contain a zero byte")
        # Linux makes the file with the mode that the socket has; chmod afterwards would be late.
        os.fchmod(listening.fileno(), mode)
        try:
            listening.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            listening.bind(path)
        if mode & ~stat.S_IMODE(os.lstat(path).st_mode):
            os.chmod(path, mode)  # the process's umask has taken some of it away
        return cls(os.path.abspath(path), _identity(path))

    def remove(self) -> None:
        """Remove the file, unless it is another's by now; idempotent, never raises."""
        try:
            if _identity(self.path) == self.identity:
                os.unlink(self.path)
        except OSError:
            return  # gone already, or its directory is no longer ours to change


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _remove_stale(path: str) -> None:
    """Remove a socket file whose socket is dead.

    Raises:
        FileExistsError: It is no socket, or its socket lives.
    """
    status = os.lstat(path)
    if not stat.S_ISSOCK(status.st_mode):
        raise FileExistsError(errno.EEXIST, "there is a file of that name that is no socket")
    # A datagram socket cannot connect to a stream socket. It is told so if there is one, and
    # ECONNREFUSED if there is none; a listener that waits for clients notices nothing.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise FileExistsError(errno.EEXIST, "somebody else listens there")
    now = os.lstat(path)
    if (now.st_ino, now.st_ctime_ns) == (status.st_ino, status.st_ctime_ns):
        os.unlink(path)
