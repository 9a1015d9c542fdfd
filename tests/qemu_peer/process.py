"""One QEMU process with a small guest, started for a test and ended with it.

Knows nothing of Transship: what the guest is sent to, or comes from, is a URI.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

from .boot import sweeps, write_boot_image
from .find import QemuBinary
from .qmp import POLL_S, Json, QmpClient, QmpClosed

MIB = 1 << 20
RAM_BLOCK = "pc.ram"
"""The name of the guest's main memory in the stream, as in a QEMU started without a backend."""

_LONGEST_SOCKET_PATH_BYTES = 107  # struct sockaddr_un
_START_TIMEOUT_S = 20.0
_EXIT_TIMEOUT_S = 5.0


class QemuDied(Exception):
    """A QEMU that should run does not.

    Attributes:
        returncode: Its exit status; negative for a signal.
        stderr: All it said.
    """

    def __init__(self, name: str, returncode: int, stderr: str) -> None:
        super().__init__(f"QEMU {name!r} ended with status {returncode}: {stderr.strip()}")
        self.returncode = returncode
        self.stderr = stderr


class MigrationFailed(Exception):
    """A migration ended in another status than the awaited one.

    Attributes:
        info: What `query-migrate` said.
    """

    def __init__(self, name: str, awaited: str, info: Json) -> None:
        super().__init__(
            f"QEMU {name!r}: migration is {info.get('status')!r} where {awaited!r} was awaited: "
            f"{info.get('error-desc', 'no reason given')}"
        )
        self.info = info


class QemuProcess:
    """An async context manager: QEMU runs inside, and is killed at the end.

    An exception that leaves the block carries QEMU's stderr as a note.

    Attributes:
        name: Tells QEMUs of one test apart, in messages and file names.
        machine: The versioned machine name, as the stream carries it.
        qmp: The control connection, for what has no helper here.
        ram_path: The file that *is* the guest's memory, shared with QEMU.
        serial_path: Where the guest's serial port is written.
    """

    def __init__(
        self,
        binary: QemuBinary,
        directory: Path,
        *,
        name: str = "qemu",
        machine: str = "pc",
        ram_bytes: int = 16 * MIB,
        paused: bool = False,
        incoming: str | None = None,
        prefault: bool = False,
        arguments: Sequence[str] = (),
        descriptors: Sequence[int] = (),
    ) -> None:
        """Describe the QEMU; entering the context starts it.

        Args:
            binary: Which QEMU.
            directory: Where its sockets and files go; short, for the sockets' sake.
            name: Of this QEMU, unique in the directory.
            machine: `pc`, `q35`, or a versioned name. Both sides of a migration need the same.
            ram_bytes: Size of the guest's memory, in whole MiB.
            paused: Do not run the guest (`-S`).
            incoming: Await a migration: a URI, or `defer` and `migrate_incoming()` later.
            prefault: Have all of the guest's memory in place before anything else.
            arguments: More for the command line. Both sides of a migration need the same devices.
            descriptors: What it inherits; the caller's to close, once it has started.
        """
        self.binary = binary
        self.name = name
        self.machine = binary.machine(machine)
        self.ram_path = directory / f"{name}.ram"
        self.serial_path = directory / f"{name}.serial"
        self.qmp: QmpClient
        self._boot_path = directory / "boot.img"
        self._qmp_path = directory / f"{name}.qmp"
        self._stderr_path = directory / f"{name}.stderr"
        self._descriptors = tuple(descriptors)
        self._process: trio.Process
        if len(bytes(self._qmp_path)) > _LONGEST_SOCKET_PATH_BYTES:
            raise ValueError(f"too long for a unix socket: {self._qmp_path}")
        self._command = [
            *(str(binary.path), "-name", name, "-nodefaults", "-display", "none"),
            *("-accel", "tcg", "-m", f"{ram_bytes // MIB}M"),
            *("-machine", f"{self.machine},memory-backend={RAM_BLOCK}"),
            "-object",
            f"memory-backend-file,id={RAM_BLOCK},size={ram_bytes},share=on,"
            f"mem-path={_escaped(self.ram_path)},prealloc={'on' if prefault else 'off'}",
            # No locking: the two sides of a migration read the same disk, and nobody writes it.
            "-drive",
            f"file.filename={_escaped(self._boot_path)},file.driver=file,file.locking=off,"
            "format=raw,if=ide",
            *("-chardev", f"file,id=serial,path={_escaped(self.serial_path)}"),
            *("-serial", "chardev:serial"),
            *("-qmp", f"unix:{_escaped(self._qmp_path)},server=on,wait=off"),
            *(["-S"] if paused else []),
            *(["-incoming", incoming] if incoming is not None else []),
            *arguments,
        ]

    # --- its life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if not self._boot_path.exists():
            write_boot_image(self._boot_path)
        with self._stderr_path.open("wb") as stderr:
            self._process = await trio.lowlevel.open_process(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                pass_fds=self._descriptors,
            )
        try:
            self.qmp = await self._connect_qmp()
        except BaseException as error:
            await self._end(error)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end(error)
        with trio.CancelScope(shield=True):
            await self.qmp.aclose()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.poll()

    def stderr_text(self) -> str:
        """Return all that QEMU said so far."""
        return self._stderr_path.read_text(errors="replace")

    def check_alive(self) -> None:
        """Do nothing while QEMU runs.

        Raises:
            QemuDied: It ended.
        """
        returncode = self.returncode
        if returncode is not None:
            raise QemuDied(self.name, returncode, self.stderr_text())

    async def watch(self) -> None:
        """Run until QEMU ends, then raise; for a nursery whose other tasks may wait for it in vain.

        Raises:
            QemuDied: It ended.
        """
        await self._process.wait()
        self.check_alive()

    async def wait_exit(self, *, timeout_s: float = _EXIT_TIMEOUT_S) -> int:
        """Wait until QEMU ends by itself, and return its exit status.

        Raises:
            trio.TooSlowError: It still runs.
        """
        with trio.fail_after(timeout_s):
            return await self._process.wait()

    # --- control ----------------------------------------------------------------------------------

    async def execute(self, command: str, **arguments: Any) -> Any:
        """Give a QMP command and return what it returns.

        Raises:
            QmpError: QEMU refused.
            QemuDied: QEMU ended instead.
        """
        try:
            return await self.qmp.execute(command, **arguments)
        except QmpClosed:
            await self.wait_exit()
            self.check_alive()
            raise

    async def run_state(self) -> str:
        """Return the state of the guest, such as `running`, `paused`, `inmigrate`."""
        state: str = (await self.execute("query-status"))["status"]
        return state

    async def wait_run_state(self, state: str, *, timeout_s: float = 10.0) -> None:
        """Wait until the guest is in a state.

        Raises:
            trio.TooSlowError: It is not, in time.
            QemuDied: QEMU ended instead.
        """
        with trio.fail_after(timeout_s):
            while True:
                if await self.run_state() == state:
                    return
                await trio.sleep(POLL_S)

    async def stop(self) -> None:
        """Stop the guest."""
        await self.execute("stop")

    async def cont(self) -> None:
        """Let the guest run."""
        await self.execute("cont")

    async def set_migration(
        self,
        capabilities: Mapping[str, bool] | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        """Set capabilities and parameters, under QEMU's names."""
        if capabilities:
            await self.execute(
                "migrate-set-capabilities",
                capabilities=[
                    {"capability": name, "state": state} for name, state in capabilities.items()
                ],
            )
        if parameters:
            await self.execute("migrate-set-parameters", **parameters)

    async def migrate(
        self,
        uri: str,
        capabilities: Mapping[str, bool] | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        """Start to send the guest to a URI; `wait_migration()` sees it through."""
        await self.set_migration(capabilities, parameters)
        await self.execute("migrate", uri=uri)

    async def migrate_incoming(
        self,
        uri: str,
        capabilities: Mapping[str, bool] | None = None,
        parameters: Mapping[str, object] | None = None,
        *,
        exit_on_error: bool | None = None,
    ) -> None:
        """Start to listen on a URI, in a QEMU started with `incoming="defer"`.

        Args:
            uri: Where to listen.
            capabilities: To set before.
            parameters: To set before.
            exit_on_error: Whether QEMU ends if the migration fails (its default). 9.1 and later.
        """
        await self.set_migration(capabilities, parameters)
        option = {} if exit_on_error is None else {"exit-on-error": exit_on_error}
        await self.execute("migrate-incoming", uri=uri, **option)

    async def migration(self) -> Json:
        """Return what `query-migrate` says; `{}` before the first migration."""
        info: Json = await self.execute("query-migrate")
        return info

    async def wait_migration(self, status: str = "completed", timeout_s: float = 30.0) -> Json:
        """Wait until the migration has a status, on either side; return `query-migrate`.

        Raises:
            MigrationFailed: It ended in another one.
            trio.TooSlowError: It did neither in time.
            QemuDied: QEMU ended instead.
        """
        with trio.fail_after(timeout_s):
            while True:
                info = await self.migration()
                if info.get("status") == status:
                    return info
                if info.get("status") in ("completed", "failed", "cancelled"):
                    raise MigrationFailed(self.name, status, info)
                await trio.sleep(POLL_S)

    # --- the guest, seen from outside -------------------------------------------------------------

    def ram(self) -> bytes:
        """Return the guest's memory, as it is now."""
        return self.ram_path.read_bytes()

    def serial_bytes(self) -> bytes:
        """Return all that came out of the serial port of this QEMU."""
        return self.serial_path.read_bytes() if self.serial_path.exists() else b""

    def serial_text(self) -> str:
        """Return the same as text."""
        return self.serial_bytes().decode("ascii", "replace")

    async def wait_sweeps(self, more: int = 3, *, timeout_s: float = 30.0) -> list[int]:
        """Wait until the guest has counted some more; return the counters this QEMU wrote.

        Raises:
            trio.TooSlowError: The guest does not run.
            QemuDied: QEMU ended instead.
        """
        wanted = len(sweeps(self.serial_bytes())) + more
        with trio.fail_after(timeout_s):
            while len(counters := sweeps(self.serial_bytes())) < wanted:
                self.check_alive()
                await trio.sleep(POLL_S)
        return counters

    # --- private steps ----------------------------------------------------------------------------

    async def _connect_qmp(self) -> QmpClient:
        client: QmpClient | None = None
        async with trio.open_nursery() as nursery:

            async def fail_when_dead() -> None:
                returncode = await self._process.wait()
                failure.append(QemuDied(self.name, returncode, self.stderr_text()))
                nursery.cancel_scope.cancel()

            failure: list[QemuDied] = []
            nursery.start_soon(fail_when_dead)
            try:
                client = await QmpClient.connect(self._qmp_path, timeout_s=_START_TIMEOUT_S)
            except QmpClosed:
                await trio.sleep_forever()  # until it is seen to have ended
            nursery.cancel_scope.cancel()
        if client is None:
            raise failure[0]
        return client

    async def _end(self, error: BaseException | None) -> None:
        """End this process, and no other. Kill, for a QEMU that hangs must not outlive its test."""
        with trio.CancelScope(shield=True):
            if self._process.poll() is None:
                self._process.kill()
            await self._process.wait()
        said = self.stderr_text().strip()
        if error is not None and said and not isinstance(error, QemuDied):
            error.add_note(f"QEMU {self.name!r} said: {said}")


def _escaped(path: Path) -> str:
    """Return a path as QEMU's option parser wants it: commas doubled."""
    return str(path).replace(",", ",,")
