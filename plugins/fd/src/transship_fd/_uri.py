"""``fd:NUMBER`` and ``fd:NAME`` to a frozen address and back. Pure: no descriptor is looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.errors import BlockedError
from transship.toolkit import refuse_unknown_options

if TYPE_CHECKING:
    from transship.abc import Options

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_DESCRIPTOR: Final = "descriptor"


@dataclass(frozen=True, slots=True)
class FdAddress:
    """An open file of this process.

    Args:
        text: As the operator calls it: a number, or a name.
        number: What the process calls it.
        is_borrowed: Whether somebody else closes it; an inherited one is closed by the channel.
    """

    text: str
    number: int
    is_borrowed: bool

    def __str__(self) -> str:
        return f"fd:{self.text}"


def parse(text: str, options: Options) -> FdAddress:
    """Read an address.

    Args:
        text: The URI behind ``fd:``.
        options: ``descriptor``, a number, says what a name stands for; whoever gave the name gives
            it.

    Raises:
        BlockedError: There is nothing, or a name that stands for nothing; an option is unknown.
    """
    refuse_unknown_options(f"fd:{text}", options, (_DESCRIPTOR,))
    if not text:
        raise BlockedError("'fd:' names no file descriptor", expected="fd:NUMBER or fd:NAME")
    if _DESCRIPTOR in options:
        number = options[_DESCRIPTOR]
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise BlockedError(f"option {_DESCRIPTOR!r} is no file descriptor", found=repr(number))
        return FdAddress(text, number, is_borrowed=True)
    if not _NUMBER.fullmatch(text):
        raise BlockedError(
            f"no file descriptor has the name {text!r}",
            expected="the number of one that this process inherited",
            hint="a name is given over QMP, by getfd, to the connection that then uses it",
        )
    return FdAddress(text, int(text), is_borrowed=False)
