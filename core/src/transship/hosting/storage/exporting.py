"""A guest's disks, served to others: to those who fill them before it comes, or who read them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

import trio

from transship import assembly
from transship.disks import GuestView, LoadView
from transship.errors import BlockedError, LocalError, MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc.block_server import BlockServer, Serving
    from transship.abc.disk import Disk, DiskLoad
    from transship.abc.security import ConnectionSecurity
    from transship.abc.transport import Options

_LOG: Final = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class DiskExport:
    """A disk that others have.

    Args:
        name: The operator's name of the export.
        export: What clients of the server call it.
        disk: The disk.
        load: The right to fill it; None if it is only read.
        is_going: Whether it is being removed.
    """

    name: str
    export: str
    disk: Disk
    load: DiskLoad | None = None
    is_going: bool = False

    async def end(self) -> None:
        """Give the disk up, once nobody has the export any more."""
        if self.load is not None:
            await trio.to_thread.run_sync(self.load.end)


@dataclass(eq=False, slots=True)
class _Server:
    """One that listens, or is about to."""

    serving: Serving
    exports: dict[str, DiskExport] = field(default_factory=dict)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_over: trio.Event = field(default_factory=trio.Event)
    server: BlockServer | None = None

    async def end(self, export: DiskExport) -> None:
        """Give the disk of an export up, and then forget the export.

        Raises:
            LocalError: The disk could not be flushed; the export is kept.
        """
        await export.end()
        if self.exports.get(export.name) is export:
            del self.exports[export.name]


@final
class Exporting:
    """The server of one guest's disks, if it has one, and what it exports.

    Args:
        nursery: Where the server runs.
        awaits_guest: Says whether the guest is still to come: only then may others write.
    """

    def __init__(self, nursery: trio.Nursery, awaits_guest: Callable[[], bool]) -> None:
        self._nursery = nursery
        self._awaits_guest = awaits_guest
        self._running: _Server | None = None

    @property
    def exports(self) -> dict[str, DiskExport]:
        """By the operator's names; empty where no server is."""
        return {} if self._running is None else self._running.exports

    async def start(
        self, uri: str, options: Options, security: ConnectionSecurity | None = None
    ) -> None:
        """Listen, and serve nothing yet.

        Args:
            uri: Where.
            options: For the plugin of its scheme.
            security: Secures the connections of clients; None for what the address itself asks for.

        Raises:
            BlockedError: There is a server already; the address is malformed; the plugin of its
                scheme serves nothing, or cannot secure connections, and is to.
            ConnectError: Nobody can listen there.
            PluginError: No plugin knows the scheme.

        Cancellation: nobody listens.
        """
        if self._running is not None:
            raise BlockedError("a server of disks is running already")
        self._running = running = _Server(assembly.serve_block_devices(uri, options, security))
        try:
            await self._nursery.start(self._serve, running)
        except BaseException:
            self._running = None
            raise

    async def stop(self) -> None:
        """Disconnect everybody, give up what they were filling, and listen no more.

        Raises:
            BlockedError: There is no server.
            LocalError: A disk could not be flushed; it is still had here. May be tried again.

        Cancellation: nobody is served any more; may be tried again.
        """
        running = self._running
        if running is None or running.server is None:
            raise BlockedError("no server of disks is running")
        running.scope.cancel()
        await running.is_over.wait()
        failure: LocalError | None = None
        for export in list(running.exports.values()):
            try:
                await running.end(export)
            except LocalError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        if self._running is running:
            self._running = None

    async def add(self, name: str, disk: Disk, export: str, *, is_writable: bool) -> None:
        """Let others have a disk.

        Args:
            name: The operator's name of it.
            disk: The disk.
            export: What clients call it.
            is_writable: Whether they may fill it; then it is theirs until the export is removed, or
                the guest has it.

        Raises:
            BlockedError: There is no server, the name is in use, or the guest has the disk.
            LocalError: Somebody loads the disk already, or has its device.

        Cancellation: it was added, or was not.
        """
        running = self._running
        if running is None or running.server is None or running.is_over.is_set():
            raise BlockedError("no server of disks is running", hint="nbd-server-start starts one")
        if any(name == one.name or export == one.export for one in running.exports.values()):
            raise BlockedError(f"there is an export {name!r}, or {export!r}, already")
        if is_writable and not self._awaits_guest():
            raise BlockedError(
                f"disk {disk.name!r} is the guest's: nobody else may write it",
                hint="a guest that waits for a migration lets others fill its disks",
            )
        added = running.exports[name] = DiskExport(name, export, disk)
        try:
            if is_writable:
                added.load = await trio.to_thread.run_sync(disk.start_load)
            if running.is_over.is_set() or running.exports.get(name) is not added:
                raise BlockedError("the export was removed meanwhile")
            view = GuestView(disk) if added.load is None else LoadView(added.load)
            running.server.export(export, view, is_writable=is_writable)
        except BaseException:
            if running.exports.get(name) is added:
                del running.exports[name]
            with trio.CancelScope(shield=True):
                await added.end()
            raise

    async def remove(self, name: str, *, although_used: bool) -> None:
        """Let nobody have a disk any more; what was filled is flushed, and given up.

        Args:
            name: Of the export.
            although_used: Whether clients that have it are disconnected; otherwise they keep it.

        Raises:
            BlockedError: There is no export of that name, or a client has it.
            LocalError: The disk could not be flushed: no client has it, but it is still had here.
                May be tried again.

        Cancellation: no client gets it anew; may be tried again.
        """
        running = self._running
        if running is None or running.server is None or name not in running.exports:
            raise BlockedError(f"there is no export {name!r}")
        export = running.exports[name]
        if not although_used and running.server.is_used(export.export):
            raise BlockedError(
                f"export {name!r} is in use", hint="mode 'hard' disconnects its clients"
            )
        export.is_going = True
        await running.server.withdraw(export.export)
        await running.end(export)

    async def _serve(self, running: _Server, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            with running.scope:
                async with running.serving as running.server:
                    task_status.started()
                    await trio.sleep_forever()
        except MigrationError:
            if running.server is None:
                raise  # whoever has asked for it is told
            _LOG.exception("the server of disks has ended")
        except Exception:
            _LOG.exception("the server of disks has failed")
        finally:
            running.is_over.set()
