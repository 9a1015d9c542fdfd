"""The commands of the protocol itself, and those that hand file descriptors over."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from transship._version import __version__
from transship.control.errors import CommandError
from transship.control.introspect import SchemaInfo, schema_of
from transship.control.qapi.declaring import Object
from transship.control.registry import CommandTable
from transship.control.session import QmpCapability

if TYPE_CHECKING:
    from transship.control.registry import Context

TABLE: Final = CommandTable()


class Negotiation(Object):
    enable: list[QmpCapability] | None = None


class QemuVersion(Object):
    major: int
    minor: int
    micro: int


class Version(Object):
    qemu: QemuVersion
    package: str


class CommandName(Object):
    name: str


class DescriptorName(Object):
    fdname: str


class AddFd(Object):
    """A set, a new one if it is left out; and what the client wants to remember."""

    fdset_id: int | None = None
    opaque: str | None = None


class AddfdInfo(Object):
    """Where a descriptor went."""

    fdset_id: int
    fd: int


class RemoveFd(Object):
    """A descriptor of a set, all of them if it is left out."""

    fdset_id: int
    fd: int | None = None


class FdsetFdInfo(Object):
    """A descriptor of a set."""

    fd: int
    opaque: str | None = None


class FdsetInfo(Object):
    """A set, by the number that ``/dev/fdset/ID`` has."""

    fdset_id: int
    fds: list[FdsetFdInfo]


VERSION: Final = Version(QemuVersion(10, 0, 2), f"transship {__version__}")
"""The QEMU whose commands these are: clients choose what they say by its number."""


@TABLE.command("qmp_capabilities")
async def negotiate(context: Context, arguments: Negotiation) -> None:
    """Begin: from here on there are commands and events, and no such command any more."""
    if context.session.is_negotiated:
        raise CommandError("CommandNotFound", "the capabilities are negotiated already")
    context.session.capabilities = frozenset(arguments.enable or ())
    context.session.is_negotiated = True


@TABLE.command("query-version")
async def query_version(context: Context) -> Version:
    """Say what this is."""
    return VERSION


@TABLE.command("query-commands")
async def query_commands(context: Context) -> list[CommandName]:
    """Name all commands."""
    return [CommandName(command.name) for command in context.table.commands()]


@TABLE.command("query-qmp-schema")
async def query_schema(context: Context) -> list[SchemaInfo]:
    """Describe all commands and events."""
    return schema_of(context.table)


@TABLE.command("getfd")
async def name_descriptor(context: Context, arguments: DescriptorName) -> None:
    """Give a name to the file descriptor that came with the command."""
    context.session.descriptors.name(arguments.fdname, context.command_number)


@TABLE.command("closefd")
async def close_descriptor(context: Context, arguments: DescriptorName) -> None:
    """Close a named file descriptor."""
    os.close(context.session.descriptors.take(arguments.fdname))


@TABLE.command("add-fd")
async def add_descriptor(context: Context, arguments: AddFd) -> AddfdInfo:
    """Put the file descriptor that came with the command into a set, for ``/dev/fdset/ID``."""
    descriptor = context.session.descriptors.claim(context.command_number)
    fdset = context.session.fdsets.add(descriptor, arguments.fdset_id, arguments.opaque)
    return AddfdInfo(fdset, descriptor)


@TABLE.command("remove-fd")
async def remove_descriptor(context: Context, arguments: RemoveFd) -> None:
    """Close a file descriptor of a set, or all of them; a migration that uses one goes on."""
    context.session.fdsets.remove(arguments.fdset_id, arguments.fd)


@TABLE.command("query-fdsets")
async def query_fdsets(context: Context) -> list[FdsetInfo]:
    """List the sets of file descriptors."""
    return [
        FdsetInfo(fdset, [FdsetFdInfo(one.descriptor, one.opaque) for one in members])
        for fdset, members in context.session.fdsets.members()
    ]
