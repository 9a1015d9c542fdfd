"""``exec:COMMAND`` to a frozen command and back. Pure: nothing is run, no file is looked for."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.errors import BlockedError
from transship.toolkit import refuse_unknown_options

if TYPE_CHECKING:
    from transship.abc import Options

_SHELL: Final = ("/bin/sh", "-c")
_ARGS: Final = "args"


@dataclass(frozen=True, slots=True)
class Command:
    """What to run.

    Args:
        args: The program, looked for in ``PATH`` if it has no slash, and its arguments.
        text: As the operator wrote it.
    """

    args: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"exec:{self.text}"


def parse(text: str, options: Options) -> Command:
    """Read an address.

    Args:
        text: The URI behind ``exec:``, for a shell; empty where there is an argument vector.
        options: ``args``, a list of words, runs a program without a shell.

    Raises:
        BlockedError: There is no command, there are two, a zero byte is in it, or an option is
            unknown.
    """
    refuse_unknown_options(f"exec:{text}", options, (_ARGS,))
    args = _words(options[_ARGS]) if _ARGS in options else (*_SHELL, text)
    if _ARGS in options and text:
        raise BlockedError("'exec:' was given two commands", found=f"{text!r} and {args}")
    if not text.strip() and _ARGS not in options:
        raise BlockedError("'exec:' names no command", expected="exec:COMMAND")
    for word in args:
        _check(word)
    return Command(args, text or shlex.join(args))


def _check(word: str) -> None:
    """Make sure that the system can be told this word.

    Raises:
        BlockedError: It cannot.
    """
    try:
        encoded = os.fsencode(word)
    except UnicodeEncodeError as error:
        raise BlockedError("a command is not text", found=repr(word)) from error
    if b"\0" in encoded:
        raise BlockedError("a command cannot contain a zero byte", found=repr(word))


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise BlockedError(f"option {_ARGS!r} is no list of words", found=repr(value))
    if not value or not all(isinstance(word, str) for word in value) or not value[0]:
        raise BlockedError(f"option {_ARGS!r} names no program", found=repr(value))
    return tuple(value)
