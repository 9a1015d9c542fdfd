"""The hooks of disks over NBD; cheap to import, as ``transship plugins`` imports all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl

if TYPE_CHECKING:
    from transship.abc import Address, BlockDevice, ConnectionSecurity, Options, Serving


@hookimpl
def open_block_device(
    address: Address, options: Options, security: ConnectionSecurity | None
) -> BlockDevice:
    """Connect to an export of an NBD server."""
    from transship_nbd import client

    return client.connect(str(address), options, security)


@hookimpl
def serve_block_devices(
    address: Address, options: Options, security: ConnectionSecurity | None
) -> Serving:
    """Listen for NBD clients."""
    from transship_nbd import server

    return server.serve(str(address), {}, options, security)


@hookimpl
def block_device_certificates(address: Address) -> str | None:
    """What ``tls-certificates`` says in an address."""
    from transship_nbd import _uri

    return _uri.parse(str(address)).certificates or None
