"""The plugin of one scheme: it alone on a manager, and whatever it does wrong is its fault."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from transship.plugin.blaming import at_fault, blaming
from transship.plugin.registry import new_manager, register

if TYPE_CHECKING:
    import pluggy

    from transship.errors import PluginError


class SchemePlugin:
    """What the plugins of a scheme have in common, whatever their hooks.

    Args:
        scheme: The URI scheme; also the plugin's name.
        plugin: Module or object with the hooks.
        distribution: Who installed it.
        hooks: The class of the hooks that it may have.

    Raises:
        PluginError: A hook of the plugin does not exist, or has an argument that does not.
    """

    def __init__(self, scheme: str, plugin: object, distribution: str, hooks: type) -> None:
        self.scheme = scheme
        self.distribution = distribution
        self._manager = new_manager(hooks)
        register(self._manager, plugin, scheme, distribution)

    def _call(self, hook: pluggy.HookCaller, **arguments: object) -> Any:
        """Call a hook; what it may not raise is the plugin's fault."""
        with blaming(hook.name, self.scheme, self.distribution):
            return hook(**arguments)

    def _check_can_be_entered(self, hook: pluggy.HookCaller, result: object) -> None:
        """Make sure that a hook has returned an async context manager.

        Raises:
            PluginError: It has not.
        """
        if isinstance(result, AbstractAsyncContextManager):
            return
        if hasattr(result, "close"):
            result.close()  # a coroutine: nobody will await it
        kind = type(result).__name__
        raise self._at_fault(hook, f"returned a {kind}, not an async context manager")

    def _at_fault(self, hook: pluggy.HookCaller, what: str) -> PluginError:
        return at_fault(hook.name, self.scheme, self.distribution, what)
