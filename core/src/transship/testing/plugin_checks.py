"""What every plugin must be before any of its hooks is called."""

from __future__ import annotations

from transship.errors import PluginError
from transship.plugin.registry import new_manager, register


def check_hooks_can_be_called(plugin: object, hooks: type) -> None:
    """Its hooks exist, ask for arguments that exist, and need not be awaited.

    Args:
        plugin: Module or object with the hooks.
        hooks: Their specifications, a class of :mod:`transship.plugin.hookspecs`.
    """
    try:
        register(new_manager(hooks), plugin, "tested", "the one under test")
    except PluginError as error:
        raise AssertionError(error.cause) from error
