"""What holds the bytes of disks: the guest's disks, and the devices that they are copied to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from transship.control.commands.addresses import SocketAddress
from transship.control.commands.block_addresses import nbd_uri
from transship.control.commands.block_security import client_security
from transship.control.qapi.declaring import Object, OneOf, UInt32
from transship.control.registry import CommandTable

if TYPE_CHECKING:
    from transship.abc.disk import BlockDevice, Disk, DiskBitmap
    from transship.control.registry import Context

TABLE = CommandTable()


class ImageInfo(Object):
    """An image, as its guest sees it."""

    filename: str
    format: str
    virtual_size: int


class BlockDirtyInfo(Object):
    """A dirty bitmap."""

    name: str
    count: int
    granularity: UInt32
    recording: bool
    persistent: bool
    busy: bool = msgspec.field(default=False)


class BlockDeviceInfo(Object):
    """What a disk consists of."""

    node_name: str
    file: str
    drv: str
    ro: bool
    image: ImageInfo
    dirty_bitmaps: list[BlockDirtyInfo] | None = None


class BlockInfo(Object):
    """A disk of the guest."""

    device: str
    type: str
    removable: bool
    locked: bool
    inserted: BlockDeviceInfo


@TABLE.command("query-block")
async def query_block(context: Context) -> list[BlockInfo]:
    """The disks of the guest."""
    return [
        BlockInfo(
            device=disk.name,
            type="unknown",
            removable=False,
            locked=False,
            inserted=_described(disk.node_name, disk.device, disk),
        )
        for disk in context.host.guest.disks()
    ]


class QueryNodes(Object):
    """Whether what lies below a node is left out; here nothing lies below one."""

    flat: bool = False


@TABLE.command("query-named-block-nodes")
async def query_named_block_nodes(context: Context, arguments: QueryNodes) -> list[BlockDeviceInfo]:
    """The disks of the guest, and the devices that they are copied to."""
    host = context.host
    disks = [_described(disk.node_name, disk.device, disk) for disk in host.guest.disks()]
    return disks + [_described(name, node) for name, node in host.mirroring.nodes.items()]


class NbdNode(Object, tag_field="driver", tag="nbd"):
    """An export of an NBD server, how long it may take to connect to it (s), and how securely."""

    node_name: str
    server: SocketAddress
    export: str = ""
    open_timeout: UInt32 = 0
    tls_creds: str | None = None
    tls_hostname: str | None = None


BlockdevOptions: TypeAlias = Annotated[NbdNode, OneOf("BlockdevOptions", by="driver")]


@TABLE.command("blockdev-add")
async def blockdev_add(context: Context, arguments: BlockdevOptions) -> None:
    """Open a device that disks can be copied to."""
    security = client_security(context, arguments.tls_creds, arguments.tls_hostname)
    uri = nbd_uri(arguments.server, arguments.export, is_secure=security is not None)
    options = {"open-timeout": arguments.open_timeout} if arguments.open_timeout else {}
    await context.host.mirroring.add_node(arguments.node_name, uri, options, security)


class BlockdevDel(Object):
    """Which device."""

    node_name: str


@TABLE.command("blockdev-del")
async def blockdev_del(context: Context, arguments: BlockdevDel) -> None:
    """Close a device that disks were copied to."""
    await context.host.mirroring.remove_node(arguments.node_name)


def _described(name: str, device: BlockDevice, disk: Disk | None = None) -> BlockDeviceInfo:
    bitmaps = [_bitmap(one) for one in disk.bitmaps.values()] if disk is not None else []
    return BlockDeviceInfo(
        node_name=name,
        file=device.address,
        drv=device.kind,
        ro=device.is_read_only,
        image=ImageInfo(device.address, device.kind, device.size_bytes),
        dirty_bitmaps=bitmaps or None,
    )


def _bitmap(bitmap: DiskBitmap) -> BlockDirtyInfo:
    return BlockDirtyInfo(
        name=bitmap.name,
        count=bitmap.bits.count() * bitmap.granularity_bytes,
        granularity=bitmap.granularity_bytes,
        recording=bitmap.is_enabled,
        persistent=bitmap.is_persistent,
    )
