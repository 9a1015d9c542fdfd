"""The hooks of disks over NBD; cheap to import, as ``transship plugins`` imports all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl

if TYPE_CHECKING:
    from transship.abc import Address, BlockDevice, Options, Serving


@hookimpl
def open_block_device(address: Address, options: Options) -> BlockDevice:
    """Connect to an export of an NBD server."""
    from transship_nbd import client

    return client.connect(str(address), options)


@hookimpl
def serve_block_devices(address: Address, options: Options) -> Serving:
    """Listen for NBD clients."""
    from transship_nbd import server

    return server.serve(str(address), {}, options)
