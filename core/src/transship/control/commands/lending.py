"""The file descriptors that an address names, for as long as a migration uses them.

Two forms of addresses name what a client has handed over: ``fd:NAME``, with ``getfd``, and
``file:/dev/fdset/ID``, with ``add-fd``. The transports are told the descriptor by an option.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from transship.control.errors import generic
from transship.control.qapi.refusals import quoted

if TYPE_CHECKING:
    from transship.control.commands.addresses import Place
    from transship.control.session import Session

_NUMBER: Final = re.compile(r"[0-9]+")
_SET_FOLDER: Final = "/dev/fdset/"
_SET_NUMBER: Final = re.compile(r"[0-9]{1,18}")


def lend(place: Place, session: Session, *, is_incoming: bool) -> tuple[Place, ExitStack]:
    """Take what an address names from the client's descriptors.

    A name is used up by that, whatever becomes of the migration; a set stays as it is.

    Args:
        place: The address.
        session: The client.
        is_incoming: Whether to receive there. An incoming ``fd:NUMBER`` is a descriptor that this
            process has inherited; an outgoing one is a name, and there is none that is a number.

    Returns:
        The address with the descriptor, and what closes the descriptor.

    Raises:
        CommandError: There is no such descriptor.
    """
    descriptor = _named(place, session, is_incoming=is_incoming)
    lent = ExitStack()
    if descriptor is None:
        return place, lent
    lent.callback(os.close, descriptor)
    return replace(place, options={**place.options, "descriptor": descriptor}), lent


def _named(place: Place, session: Session, *, is_incoming: bool) -> int | None:
    scheme, _, rest = place.uri.partition(":")
    match scheme:
        case "fd" if rest and not (is_incoming and _NUMBER.fullmatch(rest)):
            return session.descriptors.take(rest)
        case "file":
            path = rest if "offset" in place.options else rest.partition(",offset=")[0]
            if path.startswith(_SET_FOLDER):
                return _of_set(path, session, os.O_RDONLY if is_incoming else os.O_WRONLY)
    return None


def _of_set(path: str, session: Session, access: int) -> int:
    number = path.removeprefix(_SET_FOLDER)
    if not _SET_NUMBER.fullmatch(number):
        raise generic(f"{quoted(path)} names no set of file descriptors; write {_SET_FOLDER}ID")
    return session.fdsets.duplicate(int(number), access)
