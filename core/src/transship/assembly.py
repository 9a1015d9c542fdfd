"""Puts the parts together: an address and a guest become a migration.

The composition root for embedders and for the command line. It alone knows both the plugins and
the engine.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from transship.abc.channel import ExtraChannels, ReturnPath, Seekable
from transship.abc.settings import NO_COMPRESSION, QEMU_10_0, Capability, Parameters, Settings
from transship.abc.transport import Address, Options
from transship.engine.globalstate import GlobalState
from transship.engine.incoming import IncomingMigration
from transship.engine.migration import Migration
from transship.errors import BlockedError, MigrationError
from transship.plugin.discovery import (
    find_block_devices,
    find_compression,
    find_transport,
    install_kernels,
    section_factories,
)
from transship.plugin.registry import SectionRegistry
from transship.tls import Endpoint, X509Credentials, X509Security, security_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from transship.abc.block_server import Serving
    from transship.abc.compression import Compression
    from transship.abc.disk import BlockDevice
    from transship.abc.guest import Guest
    from transship.abc.section import SectionSet
    from transship.abc.security import ConnectionSecurity
    from transship.engine.blockers import Blockers
    from transship.engine.custody import Custodian
    from transship.engine.limiter import BandwidthLimiter
    from transship.engine.notifiers import Notifiers
    from transship.plugin.block_device import PluginBlockDevices
    from transship.plugin.transport import PluginTransport

_NO_OPTIONS: Options = {}
_SECTIONS_OF: Mapping[Capability, str] = {
    Capability.BLOCK: "block",
    Capability.DIRTY_BITMAPS: "dirty-bitmap",
}
"""Sections without which a guest with disks cannot do what a capability asks for."""
_NO_OBJECTS: Mapping[str, object] = {}


def load_plugins() -> None:
    """Import what the first migration would otherwise wait for; blocks.

    That is the sections, the kernels and what most transports are made of. What cannot be imported
    is an error of the migration that needs it.

    Raises:
        PluginError: What says which plugins may load makes no sense.
    """
    importlib.import_module("transship.toolkit")
    install_kernels()
    section_factories()


def open_block_device(
    uri: str, options: Options = _NO_OPTIONS, security: ConnectionSecurity | None = None
) -> BlockDevice:
    """Open what holds the bytes of a disk, by the plugin of its scheme; blocks.

    Args:
        uri: Such as ``nbd://host/export``.
        options: What the plugin is to know beside that.
        security: Secures the connections to it; None for what the address itself asks for.

    Raises:
        BlockedError: The address is malformed, or an option is unknown; its certificates cannot be
            used; or the plugin cannot secure connections, and is to.
        ConnectError: It cannot be reached, or is not there.
        PluginError: No plugin knows the scheme.
    """
    address = Address.parse(uri)
    plugin = find_block_devices(address.scheme)
    security = _disk_security(plugin, address, Endpoint.CLIENT, security)
    return plugin.open(address, options, security)


def serve_block_devices(
    uri: str, options: Options = _NO_OPTIONS, security: ConnectionSecurity | None = None
) -> Serving:
    """Prepare to serve devices to others, by the plugin of a scheme; listens when entered.

    Args:
        uri: Where, such as ``nbd://127.0.0.1:10809``.
        options: What the plugin is to know beside that.
        security: Secures the connections of clients; None for what the address itself asks for.

    Raises:
        BlockedError: The address is malformed, or an option is unknown; its certificates cannot be
            used; or the plugin of the scheme serves nothing, or cannot secure connections, and is
            to.
        PluginError: No plugin knows the scheme.
    """
    address = Address.parse(uri)
    plugin = find_block_devices(address.scheme)
    security = _disk_security(plugin, address, Endpoint.SERVER, security)
    return plugin.serve(address, options, security)


def _disk_security(
    plugin: PluginBlockDevices,
    address: Address,
    endpoint: Endpoint,
    security: ConnectionSecurity | None,
) -> ConnectionSecurity | None:
    """What secures the connections of disks: what was given, or the certificates in the address."""
    folder = plugin.certificates(address)
    if folder is None:
        return security
    if security is not None:
        raise BlockedError(
            f"'{address}' names certificates, and others were given beside it",
            expected="either of them",
        )
    return X509Security(X509Credentials(Path(folder), endpoint))


def sections_for(guest: Guest, settings: Settings | None = None) -> SectionSet:
    """The sections of one migration of one guest: of all plugins, of the guest, the run state's.

    Raises:
        PluginError: No plugin carries a part of the guest; two sections have the same name; one
            breaks a rule of the hooks.
    """
    install_kernels()
    factories = section_factories()
    settings = settings or Settings()
    sections = [*factories.create_sections(guest, settings), *guest.sections()]
    carried = {(section.idstr, section.instance_id) for section in sections}
    if (guest.accepts_any or guest.ram_blocks()) and ("ram", 0) not in carried:
        raise factories.missing("ram")
    for capability, name in _SECTIONS_OF.items():
        if settings.has(capability) and guest.disks() and (name, 0) not in carried:
            raise factories.missing(name)
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
    objects: Mapping[str, object] = _NO_OBJECTS,
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
        objects: What ``tls_creds`` and ``tls_authz`` may name; see :mod:`transship.tls`.
        notifiers: Who is told of what happens.
        custodian: Who has a say over the guest besides.
        blockers: What forbids it, besides what the guest says.
        limiter: What it shares its bandwidth with.

    Raises:
        BlockedError: The address is malformed, a capability unknown, or what TLS needs is missing
            or wrong.
        PluginError: No plugin carries its scheme or provides the method of compression, or the
            one that does is broken.
    """
    settings = _settings(capabilities, parameters, Endpoint.CLIENT, objects)
    address = Address.parse(uri)
    transport = find_transport(address.scheme)
    outgoing = transport.start_outgoing(address, options)
    _check_channels(transport, settings)
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


def _settings(
    capabilities: Iterable[str],
    parameters: Parameters,
    endpoint: Endpoint,
    objects: Mapping[str, object],
) -> Settings:
    return Settings(
        frozenset(capabilities),
        parameters,
        compression_of(parameters),
        security_of(parameters, endpoint, objects),
    )


def check_outgoing(
    guest: Guest,
    uri: str,
    *,
    parameters: Parameters = QEMU_10_0,
    capabilities: Iterable[str] = (),
    options: Options = _NO_OPTIONS,
) -> None:
    """Refuse what :func:`migrate` would, without connecting: the guest need not run for that.

    Arguments and errors as for :func:`migrate`.
    """
    try:
        migrate(guest, uri, parameters=parameters, capabilities=capabilities, options=options)
    except MigrationError as error:
        error.add_context(side="source", phase="setup")
        raise


def _check_channels(transport: PluginTransport, settings: Settings) -> None:
    """Refuse what no channel of a transport can do, as far as its plugin says.

    Raises:
        BlockedError: A capability or parameter asks for it.
    """
    declared = transport.capabilities()
    if declared is None:
        return
    is_file = settings.has(Capability.MAPPED_RAM)
    for is_on, kind, what in (
        (settings.has(Capability.MULTIFD) and not is_file, ExtraChannels, "capability multifd"),
        (is_file, Seekable, "capability mapped-ram"),
        (settings.security is not None, ReturnPath, "parameter tls-creds"),
    ):
        if is_on and kind not in declared:
            raise BlockedError(f"'{transport.scheme}:' cannot do what the {what} asks for")


def receive(
    guest: Guest,
    uri: str,
    *,
    parameters: Parameters = QEMU_10_0,
    capabilities: Iterable[str] = (),
    options: Options = _NO_OPTIONS,
    objects: Mapping[str, object] = _NO_OBJECTS,
    notifiers: Notifiers | None = None,
    custodian: Custodian | None = None,
    on_listening: Callable[[str], None] | None = None,
    autostart: bool = True,
) -> IncomingMigration:
    """Prepare to take a guest in; ``await incoming.run()`` does it.

    Args:
        guest: Where it is loaded; paused.
        uri: Where to listen.
        parameters: Limits.
        capabilities: Names of those that are on.
        options: For the transport.
        objects: What ``tls_creds`` and ``tls_authz`` may name; see :mod:`transship.tls`.
        notifiers: Who is told of what happens.
        custodian: Who has a say over the guest besides.
        on_listening: Called with the address that a source can use, once it can connect.
        autostart: Whether a guest that ran on the source is to run here.

    Raises:
        BlockedError: The address is malformed, a capability unknown, or what TLS needs is missing
            or wrong.
        PluginError: No plugin carries its scheme or provides the method of compression, or the
            one that does is broken.
    """
    settings = _settings(capabilities, parameters, Endpoint.SERVER, objects)
    address = Address.parse(uri)
    incoming = find_transport(address.scheme).start_incoming(address, options)
    return IncomingMigration(
        guest,
        sections_for(guest, settings),
        incoming,
        settings,
        notifiers=notifiers,
        custodian=custodian,
        on_listening=on_listening,
        autostart=autostart,
    )
