"""A migration error becomes a message and an exit code, once, at the edge of every verb.

How a migration ended a verb returns. What it *raises* kept the migration from beginning.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING, NoReturn, ParamSpec

from transship.cli.console import Console
from transship.cli.exits import ExitCode, exit_code
from transship.cli.results import result_of
from transship.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")


def reports_errors(verb: Callable[P, int]) -> Callable[P, NoReturn]:
    """Let a verb return its exit code, and report the error because of which it did not begin."""

    @wraps(verb)
    def reporting(*arguments: P.args, **options: P.kwargs) -> NoReturn:
        try:
            code = verb(*arguments, **options)
        except MigrationError as error:
            code = report(error, as_json=bool(options.get("as_json")))
        sys.exit(code)

    return reporting


def report(error: MigrationError, *, as_json: bool) -> int:
    """Print an error; returns its exit code."""
    code = int(exit_code(error))
    if code == ExitCode.FAILED:
        code = int(ExitCode.REFUSED)
    console = Console(as_json=as_json)
    if as_json:
        console.result(result_of("refused", error, code=code), "")
    console.note(f"transship: {error}")
    return code
