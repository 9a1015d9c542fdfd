"""A transport plugin as its callers see it: two hooks, whose results are what they must be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, final

from transship.plugin.hookspecs import TransportHooks
from transship.plugin.scheme import SchemePlugin

if TYPE_CHECKING:
    import pluggy

    from transship.abc.transport import Address, Incoming, Options, Outgoing


def capability_name(kind: type) -> str:
    """How people call a capability: ``return-path`` for ``ReturnPath``."""
    return re.sub(r"(?<=.)(?=[A-Z])", "-", kind.__name__).lower()


@final
class PluginTransport(SchemePlugin):
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
        super().__init__(scheme, plugin, distribution, TransportHooks)

    def start_outgoing(self, address: Address, options: Options) -> Outgoing:
        """Prepare to connect; the result connects when entered.

        Raises:
            BlockedError: The address is malformed, or an option is unknown.
            PluginError: The plugin does not do what its hook must.
        """
        outgoing: Outgoing = self._start(self._manager.hook.start_outgoing, address, options)
        return outgoing

    def start_incoming(self, address: Address, options: Options) -> Incoming:
        """Prepare to listen; the result listens when entered. Errors as :meth:`start_outgoing`."""
        incoming: Incoming = self._start(self._manager.hook.start_incoming, address, options)
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

    def _start(self, hook: pluggy.HookCaller, address: Address, options: Options) -> Any:
        result = self._call(hook, address=address, options=options)
        if result is None:
            raise self._at_fault(hook, f"does not take {str(address)!r}")
        self._check_can_be_entered(hook, result)
        return result
