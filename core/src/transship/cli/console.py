"""Where output goes: results to standard output, progress and notes to standard error."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


def harmless(text: str) -> str:
    """Write what would do something to a terminal as its number; lines and tabs stay.

    Much of what is shown was said by a peer, which need not be a friend.
    """
    return "".join(
        one if one.isprintable() or one in "\n\t" else f"\\x{ord(one):02x}" for one in text
    )


class Console:
    """Writes for people, or one JSON object a result.

    Args:
        as_json: Whether results are JSON.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._is_live = sys.stderr.isatty()
        self._open_line = False

    @property
    def progress_interval_s(self) -> float:
        """How often progress is worth showing: a terminal is repainted, a log grows."""
        return 0.2 if self._is_live else 1.0

    def result(self, facts: Mapping[str, Any], text: str) -> None:
        """Print a result."""
        self._end_line()
        _write(json.dumps(facts) if self.as_json else harmless(text))

    def note(self, text: str) -> None:
        """Say something that is not a result."""
        self._end_line()
        _write(harmless(text), err=True)

    def progress(self, text: str) -> None:
        """Show how far it is; in a terminal the line is replaced by the next."""
        text = harmless(text)
        if self._is_live:
            _write(f"\r\x1b[K{text}", err=True, nl=False)
            self._open_line = True
        else:
            _write(text, err=True)

    def _end_line(self) -> None:
        if self._open_line:
            _write("", err=True)
            self._open_line = False


def _write(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Write, to nowhere if the reader has gone: a guest does not die because nobody listens."""
    try:
        click.echo(text, err=err, nl=nl)
    except OSError:
        nowhere = open(os.devnull, "w")  # noqa: SIM115 - it lives as long as the process
        if err:
            sys.stderr = nowhere
        else:
            sys.stdout = nowhere
