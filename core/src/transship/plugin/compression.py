"""The plugin of a compression method as its callers see it: a name in, the method out."""

from __future__ import annotations

from typing import Any

from transship.abc.compression import Compression
from transship.errors import MigrationError, PluginError
from transship.plugin.hookspecs import CompressionHooks
from transship.plugin.registry import new_manager, register
from transship.wire.multifd import METHOD_BITS


def create_compression(name: str, plugin: object, distribution: str) -> Compression:
    """Make a method, on a manager with its plugin alone.

    Args:
        name: The method's; also the plugin's.
        plugin: Module or object with the hook.
        distribution: Who installed it.

    Raises:
        PluginError: The plugin does not do what its hook must.
    """
    manager = new_manager(CompressionHooks)
    register(manager, plugin, name, distribution)
    try:
        method: Any = manager.hook.create_compression()
        fault = _fault(name, method)
    except MigrationError:
        raise
    except Exception as error:
        fault = f"failed: {type(error).__name__}: {error}"
        raise _at_fault(name, distribution, fault) from error
    if fault is not None:
        raise _at_fault(name, distribution, fault)
    return method  # type: ignore[no-any-return]  # that it is one has just been checked


def _fault(name: str, method: Any) -> str | None:
    """What is wrong with what a hook returned, if anything is."""
    if not isinstance(method, Compression):
        return f"made a {type(method).__name__}, which is no Compression"
    if method.name != name:
        return f"made a method called {method.name!r}"
    if not method.wire_flag or method.wire_flag & ~METHOD_BITS:
        return f"made a method with wire flag {method.wire_flag:#x}, not of {METHOD_BITS:#x}"
    if method.most_growth_bytes < 0:
        return f"made a method whose data grow by {method.most_growth_bytes} bytes at most"
    return None


def _at_fault(name: str, distribution: str, what: str) -> PluginError:
    return PluginError(
        f"create_compression of plugin {name!r} of {distribution} {what}",
        distribution=distribution,
    )
