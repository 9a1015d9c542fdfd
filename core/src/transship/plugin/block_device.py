"""The plugin of a kind of disks as its callers see it: an address in, a device or a server out."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, final

from transship.abc.disk import BlockDevice
from transship.errors import BlockedError
from transship.plugin.blaming import at_fault, blaming
from transship.plugin.hookspecs import BlockDeviceHooks
from transship.plugin.registry import new_manager, register

if TYPE_CHECKING:
    import pluggy

    from transship.abc.block_server import Serving
    from transship.abc.security import ConnectionSecurity
    from transship.abc.transport import Address, Options
    from transship.errors import PluginError


@final
class PluginBlockDevices:
    """The disks of one scheme, on a manager with that scheme's plugin alone.

    Made by :func:`transship.plugin.discovery.find_block_devices`.

    Args:
        scheme: The URI scheme; also the plugin's name.
        plugin: Module or object with the hook.
        distribution: Who installed it.

    Raises:
        PluginError: A hook of the plugin does not exist, or has an argument that does not.
    """

    def __init__(self, scheme: str, plugin: object, distribution: str) -> None:
        self.scheme = scheme
        self.distribution = distribution
        self._manager = new_manager(BlockDeviceHooks)
        register(self._manager, plugin, scheme, distribution)

    def certificates(self, address: Address) -> str | None:
        """The folder of certificates that an address names, if it does.

        Raises:
            BlockedError: The address is malformed.
            PluginError: The plugin does not do what its hook must.
        """
        hook = self._manager.hook.block_device_certificates
        with blaming(hook.name, self.scheme, self.distribution):
            folder = hook(address=address)
        if folder is None or isinstance(folder, str):
            return folder
        raise self._at_fault(hook, f"returned a {type(folder).__name__}, which is no path")

    def open(
        self, address: Address, options: Options, security: ConnectionSecurity | None = None
    ) -> BlockDevice:
        """Open what holds the bytes of a disk; blocks. The caller closes it.

        Raises:
            BlockedError: The address is malformed, an option is unknown, or the plugin cannot
                secure a connection that is to be secured.
            ConnectError: What is at that address cannot be reached, or is not there.
            PluginError: The plugin does not do what its hook must.
        """
        hook = self._manager.hook.open_block_device
        device = self._call(hook, address, options, security)
        if device is None:
            raise self._at_fault(hook, f"does not take {str(address)!r}")
        if not isinstance(device, BlockDevice):
            kind = type(device).__name__
            raise self._at_fault(hook, f"returned a {kind}, which is no BlockDevice")
        return device

    def serve(
        self, address: Address, options: Options, security: ConnectionSecurity | None = None
    ) -> Serving:
        """Prepare to serve devices; the result listens when entered.

        Raises:
            BlockedError: The address is malformed, an option is unknown, the plugin serves nothing,
                or cannot secure connections that are to be secured.
            PluginError: The plugin does not do what its hook must.
        """
        hook = self._manager.hook.serve_block_devices
        serving = self._call(hook, address, options, security)
        if serving is None:
            raise BlockedError(f"{self.distribution} serves no disks at '{self.scheme}:'")
        if not isinstance(serving, AbstractAsyncContextManager):
            kind = type(serving).__name__
            raise self._at_fault(hook, f"returned a {kind}, not an async context manager")
        return serving

    def _call(
        self,
        hook: pluggy.HookCaller,
        address: Address,
        options: Options,
        security: ConnectionSecurity | None,
    ) -> Any:
        if security is not None:
            self._check_secures(hook)
        with blaming(hook.name, self.scheme, self.distribution):
            return hook(address=address, options=options, security=security)

    def _check_secures(self, hook: pluggy.HookCaller) -> None:
        """Refuse an implementation that would never hear that it is to secure anything.

        Raises:
            BlockedError: There is one.
        """
        if all("security" in one.argnames for one in hook.get_hookimpls()):
            return
        raise BlockedError(
            f"{self.distribution} reaches disks at '{self.scheme}:' in plain, and TLS is asked for",
            expected=f"a plugin whose {hook.name} takes 'security', without a default",
        )

    def _at_fault(self, hook: pluggy.HookCaller, what: str) -> PluginError:
        return at_fault(hook.name, self.scheme, self.distribution, what)
