"""Shows every hook call on standard error, if ``TRANSSHIP_TRACE_PLUGINS`` is 1."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pluggy

VARIABLE: Final = "TRANSSHIP_TRACE_PLUGINS"

_LONGEST: Final = 200
"""Characters of one value: a line of a trace is to be read."""


def trace_if_asked(manager: pluggy.PluginManager) -> None:
    """Let a manager report its hook calls, if the environment asks for it; costs nothing if not."""
    if os.environ.get(VARIABLE) == "1":
        manager.add_hookcall_monitoring(_before, _after)


def _before(
    hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Mapping[str, Any]
) -> None:
    plugins = ", ".join(str(one.plugin_name) for one in implementations) or "no plugin"
    given = ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())
    print(f"transship: {hook}({given}) calls {plugins}", file=sys.stderr)


def _after(
    outcome: pluggy.Result[Any],
    hook: str,
    implementations: Sequence[pluggy.HookImpl],
    arguments: Mapping[str, Any],
) -> None:
    if outcome.exception is not None:
        ending = f"raised {_short(outcome.exception)}"
    else:
        ending = f"returned {_short(outcome.get_result())}"
    print(f"transship: {hook} {ending}", file=sys.stderr)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
