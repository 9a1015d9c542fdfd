"""The plugin of a compression method as its callers see it: a name in, the method out."""

from __future__ import annotations

from typing import Any, Final

from transship.abc.compression import Compression
from transship.abc.settings import NO_COMPRESSION
from transship.plugin.blaming import at_fault, blaming
from transship.plugin.hookspecs import CompressionHooks
from transship.plugin.registry import new_manager, register
from transship.wire.multifd import METHOD_BITS, PACKET_DATA_BYTES, QEMU_METHODS

_HOOK: Final = "create_compression"


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
    with blaming(_HOOK, name, distribution):
        method: Any = manager.hook.create_compression()
        fault = _fault(name, method)
    if fault is not None:
        raise at_fault(_HOOK, name, distribution, fault)
    return method  # type: ignore[no-any-return]  # that it is one has just been checked


def method_fault(method: Compression) -> str | None:
    """Which rule about its attributes a method breaks, if any; goes on "made a method ..."."""
    name, flag, growth = method.name, method.wire_flag, method.most_growth_bytes
    if not name or not name.isprintable():
        return f"called {name!r}, which is no name"
    if name == NO_COMPRESSION:
        return f"called {name!r}, which is what operators say for no method"
    if not flag or flag & ~METHOD_BITS:
        return f"with wire flag {flag:#x}, not of the bits {METHOD_BITS:#x}"
    if flag.bit_count() == 1 and QEMU_METHODS.get(name) != flag:
        owner = next(owner for owner, taken in QEMU_METHODS.items() if taken == flag)
        return f"with wire flag {flag:#x}, which is QEMU's for {owner!r}: take two bits or more"
    if not 0 <= growth <= PACKET_DATA_BYTES:
        return f"whose data grow by {growth} bytes at most, not by 0 to {PACKET_DATA_BYTES}"
    return None


def _fault(name: str, method: Any) -> str | None:
    """What is wrong with what a hook returned, if anything is."""
    if not isinstance(method, Compression):
        return f"made a {type(method).__name__}, which is no Compression"
    if method.name != name:
        return f"made a method called {method.name!r}"
    fault = method_fault(method)
    return None if fault is None else f"made a method {fault}"
