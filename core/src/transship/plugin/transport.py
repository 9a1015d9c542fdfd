"""A transport plugin as its callers see it: two hooks, whose results are what they must be."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, final

from transship.plugin.blaming import at_fault, blaming
from transship.plugin.hookspecs import TransportHooks
from transship.plugin.registry import new_manager, register

if TYPE_CHECKING:
    import pluggy

    from transship.abc.transport import Address, Incoming, Options, Outgoing
    from transship.errors import PluginError


def capability_name(kind: type) -> str:
    """How people call a capability: ``return-path`` for ``ReturnPath``."""
    return re.sub(r"(?<=.)(?=[A-Z])", "-", kind.__name__).lower()


@final
class PluginTransport:
    """The transport of one scheme, on a manager with that scheme's plugin alone.

    Made by :func:`transship.plugin.discovery.find_transport`.

    Args:
        scheme: The URI scheme; also the plugin's name.
        plugin: Module or object with the hooks.
        distribution: Who installed it.

    Raises:
        PluginError: A hook of the plugin does not exist, or has an argument that does not.
    """

    def __init__(self, scheme: str, plugin: object, distribution: str) -> None:
        self.scheme = scheme
        self.distribution = distribution
        self._manager = new_manager(TransportHooks)
        register(self._manager, plugin, scheme, distribution)

    def start_outgoing(self, address: Address, options: Options) -> Outgoing:
        """Prepare to connect; the result connects when entered.

        Raises:
            BlockedError: The address is malformed, or an option is unknown.
            PluginError: The plugin does not do what its hook must.
        """
        outgoing: Outgoing = self._call(self._manager.hook.start_outgoing, address, options)
        return outgoing

    def start_incoming(self, address: Address, options: Options) -> Incoming:
        """Prepare to listen; the result listens when entered. Errors as :meth:`start_outgoing`."""
        incoming: Incoming = self._call(self._manager.hook.start_incoming, address, options)
        return incoming

    def capabilities(self) -> frozenset[type] | None:
        """What the channels may be able to do; None if the plugin does not say.

        Raises:
            PluginError: The plugin does not do what its hook must.
        """
        hook = self._manager.hook.channel_capabilities
        try:
            declared: Any = hook()
            kinds = None if declared is None else frozenset(declared)
        except Exception as error:
            raise self._at_fault(hook, f"failed: {type(error).__name__}: {error}") from error
        for kind in kinds or ():
            if not isinstance(kind, type):
                raise self._at_fault(hook, f"names {kind!r}, which is no type")
        return kinds

    def _call(self, hook: pluggy.HookCaller, address: Address, options: Options) -> Any:
        with blaming(hook.name, self.scheme, self.distribution):
            result = hook(address=address, options=options)
        if result is None:
            raise self._at_fault(hook, f"does not take {str(address)!r}")
        if not isinstance(result, AbstractAsyncContextManager):
            if hasattr(result, "close"):
                result.close()  # a coroutine: nobody will await it
            kind = type(result).__name__
            raise self._at_fault(hook, f"returned a {kind}, not an async context manager")
        return result

    def _at_fault(self, hook: pluggy.HookCaller, what: str) -> PluginError:
        return at_fault(hook.name, self.scheme, self.distribution, what)
