"""Puts the parts together: an address and a guest become a migration.

The composition root for embedders and for the command line. It alone knows both the plugins and
the engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from transship.abc.settings import NO_COMPRESSION, QEMU_10_0, Parameters, Settings
from transship.abc.transport import Address, Options
from transship.engine.globalstate import GlobalState
from transship.engine.incoming import Incoming
from transship.engine.migration import Migration
from transship.plugin.discovery import (
    find_compression,
    find_transport,
    install_kernels,
    section_factories,
)
from transship.plugin.registry import SectionRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from transship.abc.compression import Compression
    from transship.abc.guest import Guest
    from transship.abc.section import SectionSet
    from transship.abc.transport import Outgoing
    from transship.engine.blockers import Blockers
    from transship.engine.custody import Custodian
    from transship.engine.limiter import BandwidthLimiter
    from transship.engine.notifiers import Notifiers

_NO_OPTIONS: Mapping[str, str | int | bool] = {}


def load_plugins() -> None:
    """Import what the first migration would otherwise wait for; blocks.

    That is the sections, the kernels and what most transports are made of. Never fails: what
    cannot be imported is an error of the migration that needs it.
    """
    importlib.import_module("transship.toolkit")
    install_kernels()
    section_factories()


def sections_for(guest: Guest, settings: Settings | None = None) -> SectionSet:
    """The sections of one migration of one guest: of all plugins, of the guest, the run state's.

    Raises:
        PluginError: No plugin carries a part of the guest; two sections have the same name; one
            breaks a rule of the hooks.
    """
    install_kernels()
    factories = section_factories()
    sections = [*factories.create_sections(guest, settings or Settings()), *guest.sections()]
    carried = {(section.idstr, section.instance_id) for section in sections}
    if (guest.accepts_any or guest.ram_blocks()) and ("ram", 0) not in carried:
        raise factories.missing("ram")
    if any((device.idstr, device.instance_id) not in carried for device in guest.devices()):
        raise factories.missing("devstate")
    if all(section.idstr != GlobalState.idstr for section in sections) and not guest.accepts_any:
        sections.append(GlobalState())
    return SectionRegistry(sections)


def compression_of(parameters: Parameters) -> Compression | None:
    """The method that ``multifd_compression`` names.

    Raises:
        PluginError: No plugin provides it, or the one that does is broken.
    """
    name = parameters.multifd_compression
    return None if name == NO_COMPRESSION else find_compression(name)


def migrate(
    guest: Guest,
    uri: str,
    *,
    parameters: Parameters = QEMU_10_0,
    capabilities: Iterable[str] = (),
    options: Options = _NO_OPTIONS,
    notifiers: Notifiers | None = None,
    custodian: Custodian | None = None,
    blockers: Blockers | None = None,
    limiter: BandwidthLimiter | None = None,
) -> Migration:
    """Prepare to move a guest away; ``await migration.run()`` does it.

    Args:
        guest: What moves; it may run.
        uri: Where to.
        parameters: May be replaced while it runs: ``migration.parameters = ...``.
        capabilities: Names of those that are on.
        options: For the transport.
        notifiers: Who is told of what happens.
        custodian: Who has a say over the guest besides.
        blockers: What forbids it, besides what the guest says.
        limiter: What it shares its bandwidth with.

    Raises:
        BlockedError: The address is malformed, or a capability unknown.
        PluginError: No plugin carries its scheme or provides the method of compression, or the
            one that does is broken.
    """
    settings = Settings(frozenset(capabilities), parameters, compression_of(parameters))
    outgoing = _outgoing(uri, options)
    return Migration(
        guest,
        sections_for(guest, settings),
        outgoing,
        settings,
        notifiers=notifiers,
        custodian=custodian,
        blockers=blockers,
        limiter=limiter,
    )


def check_outgoing(uri: str, options: Options = _NO_OPTIONS) -> None:
    """Make sure that an address to leave for makes sense, without connecting.

    Raises:
        BlockedError: The address is malformed.
        PluginError: No plugin carries its scheme, or the one that does is broken.
    """
    _outgoing(uri, options)


def _outgoing(uri: str, options: Options) -> Outgoing:
    address = Address.parse(uri)
    return find_transport(address.scheme).start_outgoing(address, options)


def receive(
    guest: Guest,
    uri: str,
    *,
    parameters: Parameters = QEMU_10_0,
    capabilities: Iterable[str] = (),
    options: Options = _NO_OPTIONS,
    notifiers: Notifiers | None = None,
    custodian: Custodian | None = None,
    on_listening: Callable[[str], None] | None = None,
    autostart: bool = True,
) -> Incoming:
    """Prepare to take a guest in; ``await incoming.run()`` does it.

    Args:
        guest: Where it is loaded; paused.
        uri: Where to listen.
        parameters: Limits.
        capabilities: Names of those that are on.
        options: For the transport.
        notifiers: Who is told of what happens.
        custodian: Who has a say over the guest besides.
        on_listening: Called with the address that a source can use, once it can connect.
        autostart: Whether a guest that ran on the source is to run here.

    Raises:
        BlockedError: The address is malformed, or a capability unknown.
        PluginError: No plugin carries its scheme or provides the method of compression, or the
            one that does is broken.
    """
    settings = Settings(frozenset(capabilities), parameters, compression_of(parameters))
    address = Address.parse(uri)
    incoming = find_transport(address.scheme).start_incoming(address, options)
    return Incoming(
        guest,
        sections_for(guest, settings),
        incoming,
        settings,
        notifiers=notifiers,
        custodian=custodian,
        on_listening=on_listening,
        autostart=autostart,
    )
