"""What a plugin raises that it should not, told as its fault."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from transship.errors import MigrationError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator


def at_fault(hook: str, plugin: str, distribution: str, what: str) -> PluginError:
    """The error for a hook that does not do what it must."""
    return PluginError(
        f"{hook} of plugin {plugin!r} of {distribution} {what}", distribution=distribution
    )


@contextmanager
def blaming(hook: str, plugin: str, distribution: str) -> Iterator[None]:
    """Pass on what a hook may raise, and make all else the plugin's fault.

    Raises:
        PluginError: Something was raised inside that is no ``MigrationError``.
    """
    try:
        yield
    except MigrationError:
        raise
    except Exception as error:
        what = f"failed: {type(error).__name__}: {error}"
        raise at_fault(hook, plugin, distribution, what) from error
