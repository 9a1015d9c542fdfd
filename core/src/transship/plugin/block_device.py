"""The plugin of a kind of disks as its callers see it: an address in, a device or a server out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from transship.abc.disk import BlockDevice
from transship.errors import BlockedError
from transship.plugin.hookspecs import BlockDeviceHooks
from transship.plugin.scheme import SchemePlugin

if TYPE_CHECKING:
    import pluggy

    from transship.abc.block_server import Serving
    from transship.abc.security import ConnectionSecurity
    from transship.abc.transport import Address, Options


@final
class PluginBlockDevices(SchemePlugin):
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
        super().__init__(scheme, plugin, distribution, BlockDeviceHooks)

    def certificates(self, address: Address) -> str | None:
        """The folder of certificates that an address names, if it does.

        Raises:
            BlockedError: The address is malformed.
            PluginError: The plugin does not do what its hook must.
        """
        hook = self._manager.hook.block_device_certificates
        folder = self._call(hook, address=address)
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
        device = self._reach(hook, address, options, security)
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
        serving: Serving | None = self._reach(hook, address, options, security)
        if serving is None:
            raise BlockedError(f"{self.distribution} serves no disks at '{self.scheme}:'")
        self._check_can_be_entered(hook, serving)
        return serving

    def _reach(
        self,
        hook: pluggy.HookCaller,
        address: Address,
        options: Options,
        security: ConnectionSecurity | None,
    ) -> Any:
        if security is not None:
            self._check_secures(hook)
        return self._call(hook, address=address, options=options, security=security)

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
