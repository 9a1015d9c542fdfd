"""The hooks of disks over NBD; cheap to import, as ``transship plugins`` imports all.

Certificates that an address names have been read when it comes here: ``security`` is made of them.
"""

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
    from transship_nbd import _uri, client

    return client.connect(_uri.without_certificates(str(address)), options, security)


@hookimpl
def serve_block_devices(
    address: Address, options: Options, security: ConnectionSecurity | None
) -> Serving:
    """Listen for NBD clients."""
    from transship_nbd import _uri, server

    return server.serve(_uri.without_certificates(str(address)), {}, options, security)


@hookimpl
def block_device_certificates(address: Address) -> str | None:
    """What ``tls-certificates`` says in an address."""
    from transship_nbd import _uri

    return _uri.parse(str(address)).certificates or None
