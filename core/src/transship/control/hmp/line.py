"""A line of the human monitor: its words, and the mistakes that can be made in it."""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r'[ \t\r\n]*(?:"((?:[^"\\]|\\.)*)"|([^ \t\r\n"]+))')
_BLANKS: Final = re.compile(r"[ \t\r\n]*")


class LineError(Exception):
    """A line is wrong; the text is what is printed."""


def split(line: str) -> list[str]:
    """The words of a line; one in double quotes may hold blanks, or nothing.

    Raises:
        LineError: A quote is not closed.
    """
    words = []
    at = 0
    while at < len(line):
        word = _WORD.match(line, at)
        if word is None:
            if _BLANKS.fullmatch(line, at):
                break
            raise LineError("unterminated string literal")
        quoted, plain = word.groups()
        words.append(plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        at = word.end()
    return words


class Arguments:
    """The arguments of one command, taken one after the other.

    Args:
        name: The command as it is shown in mistakes, its aliases included.
        typed: The command as it was typed.
        words: What follows it.
    """

    def __init__(self, name: str, typed: str, words: list[str]) -> None:
        self._name = name
        self._typed = typed
        self._words = list(words)

    def flags(self, known: str) -> set[str]:
        """The single-letter options in front.

        Raises:
            LineError: One is not known.
        """
        found = set()
        while self._words and self._words[0].startswith("-") and len(self._words[0]) > 1:
            flag = self._words.pop(0)[1:]
            if flag not in known:
                raise self.error(f"unsupported option -{flag}")
            found.add(flag)
        return found

    def required(self) -> str:
        """The next argument.

        Raises:
            LineError: There is none.
        """
        if not self._words:
            raise self.error("string expected")
        return self._words.pop(0)

    def optional(self) -> str | None:
        """The next argument, or None."""
        return self._words.pop(0) if self._words else None

    def end(self) -> None:
        """No more arguments.

        Raises:
            LineError: There are.
        """
        if self._words:
            raise self.error("extraneous characters at the end of line")

    def error(self, what: str) -> LineError:
        """A mistake in this command's line, to be raised."""
        return LineError(f'{self._name}: {what}\nTry "help {self._typed}" for more information')
