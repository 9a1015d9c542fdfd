"""Makes a descriptor ours, which is then closed exactly once."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

from transship.errors import ConnectError

if TYPE_CHECKING:
    from transship_fd._uri import FdAddress

_STDIN: Final = 0
_OUTPUTS: Final = (1, 2)


def check(address: FdAddress) -> None:
    """Make sure that a descriptor can be taken; it is left as it is.

    Raises:
        ConnectError: There is no such descriptor, or it is not to be had.
    """
    number = address.number
    is_shared = _is_shared(address)
    if number in _OUTPUTS and not is_shared:
        raise ConnectError(
            f"{address} is where results and progress go",
            hint="redirect another one, such as 3, and name that",
        )
    try:
        is_inherited = os.get_inheritable(number)
    except OSError as error:
        raise ConnectError(
            f"cannot use {address}: {error.strerror}",
            hint="whoever starts this process has to open it, as a shell does with 3> FILE",
        ) from error
    if not (is_inherited or is_shared):
        raise ConnectError(
            f"{address} is not a descriptor that this process inherited",
            hint="it was used before, or is one of the process's own",
        )


def take(address: FdAddress) -> int:
    """The descriptor, or a duplicate of one that is somebody else's; the caller's to close.

    An inherited one is the channel's from now on, and not inherited any further. So one that has
    been used, and one that this process has opened for itself, are told apart from it.

    Raises:
        ConnectError: There is no such descriptor, or it is not to be had.
    """
    check(address)
    try:
        if _is_shared(address):
            return fcntl.fcntl(address.number, fcntl.F_DUPFD_CLOEXEC, 3)
        os.set_inheritable(address.number, False)
    except OSError as error:
        raise ConnectError(f"cannot use {address}: {error.strerror}") from error
    return address.number


def _is_shared(address: FdAddress) -> bool:
    """Whether somebody else goes on using it."""
    return address.is_borrowed or address.number == _STDIN
