"""The server of the guest's disks, and what it exports."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, TypeAlias

from transship.control.commands.block_addresses import SocketAddressLegacy, nbd_uri
from transship.control.commands.block_security import server_security
from transship.control.errors import generic
from transship.control.qapi.declaring import Object, OneOf
from transship.control.registry import CommandTable
from transship.hosting.storage.finding import find_disk

if TYPE_CHECKING:
    from transship.control.registry import Context

TABLE = CommandTable()


class NbdServerStart(Object):
    """Where to listen, what secures the connections, and whom to let in."""

    addr: SocketAddressLegacy
    tls_creds: str | None = None
    tls_authz: str | None = None


@TABLE.command("nbd-server-start")
async def nbd_server_start(context: Context, arguments: NbdServerStart) -> None:
    """Listen for NBD clients; nothing is exported yet."""
    security = server_security(context, arguments.tls_creds, arguments.tls_authz)
    uri = nbd_uri(arguments.addr.data, is_secure=security is not None)
    await context.host.exporting.start(uri, {}, security)


@TABLE.command("nbd-server-stop")
async def nbd_server_stop(context: Context) -> None:
    """Disconnect all NBD clients, and listen no more."""
    await context.host.exporting.stop()


class NbdExport(Object, tag_field="type", tag="nbd"):
    """An export over NBD; under the name of the node, if it has none of its own."""

    id: str
    node_name: str
    name: str | None = None
    writable: bool = False


BlockExportOptions: TypeAlias = Annotated[NbdExport, OneOf("BlockExportOptions", by="type")]


@TABLE.command("block-export-add")
async def block_export_add(context: Context, arguments: BlockExportOptions) -> None:
    """Let NBD clients have a disk of the guest; write it, only as long as the guest is to come."""
    host = context.host
    if not arguments.id:
        raise generic("an export has an 'id' that is not empty")
    await host.exporting.add(
        arguments.id,
        find_disk(host.guest, arguments.node_name),
        arguments.node_name if arguments.name is None else arguments.name,
        is_writable=arguments.writable,
    )


class BlockExportRemoveMode(enum.Enum):
    """What becomes of clients that have it."""

    SAFE = "safe"
    HARD = "hard"


class BlockExportDel(Object):
    """Which export, and whether clients that have it are disconnected."""

    id: str
    mode: BlockExportRemoveMode = BlockExportRemoveMode.SAFE


@TABLE.command("block-export-del")
async def block_export_del(context: Context, arguments: BlockExportDel) -> None:
    """Let no client have a disk any more; returns when none has."""
    is_hard = arguments.mode is BlockExportRemoveMode.HARD
    await context.host.exporting.remove(arguments.id, although_used=is_hard)


class BlockExportType(enum.Enum):
    """How it is exported."""

    NBD = "nbd"


class BlockExportInfo(Object):
    """An export."""

    id: str
    type: BlockExportType
    node_name: str
    shutting_down: bool


@TABLE.command("query-block-exports")
async def query_block_exports(context: Context) -> list[BlockExportInfo]:
    """All exports."""
    return [
        BlockExportInfo(one.name, BlockExportType.NBD, one.disk.node_name, one.is_going)
        for one in context.host.exporting.exports.values()
    ]
