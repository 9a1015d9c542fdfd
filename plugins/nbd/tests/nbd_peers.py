"""The other end: a real qemu-nbd, our server in a thread, or a script that misbehaves."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import trio

from transship_nbd._uri import NbdAddress
from transship_nbd.client import connect
from transship_nbd.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from transship.abc import ConnectionSecurity, Options
    from transship_nbd.client import NbdDevice
    from transship_nbd.server import Export

PATIENCE_S = 20.0


def owned(
    uri: str, options: Options | None = None, security: ConnectionSecurity | None = None
) -> NbdDevice:
    """A client that may write."""
    device = connect(uri, options, security)
    device.acquire()
    return device


QEMU_NBD_MISSING = shutil.which("qemu-nbd") is None or shutil.which("qemu-img") is None


def make_image(path: Path, size: int, form: str, *extra: str) -> Path:
    command = ["qemu-img", "create", "-q", "-f", form, *extra, str(path), str(size)]
    subprocess.run(command, check=True)
    return path


class QemuNbd:
    """A qemu-nbd that serves one image, until left or killed."""

    def __init__(
        self, image: Path, form: str, path: Path, *options: str, is_secure: bool = False
    ) -> None:
        self.uri = NbdAddress("disk", path=str(path), is_secure=is_secure).uri
        self._path = path
        self._command = ["qemu-nbd", "-f", form, "-k", str(path), "-x", "disk", "-t", "-e", "8"]
        self._command += [*options, str(image)]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE)
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(self._path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                _, said = self.process.communicate()
                raise AssertionError(f"qemu-nbd does not serve: {said.decode()}")
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once; idempotent."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()


class StorageDaemon:
    """A QEMU without a guest, that does what is said over QMP."""

    def __init__(self, *arguments: str) -> None:
        command = ["qemu-storage-daemon", "--chardev", "stdio,id=qmp", "--monitor", "qmp"]
        self._process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._watchdog = threading.Timer(PATIENCE_S * 3, self._process.kill)
        self._watchdog.start()
        self._read()
        self.do("qmp_capabilities")

    def do(self, command: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        while "return" not in (said := self._read()):
            assert "error" not in said, said
        return said["return"]

    def wait_for(self, event: str) -> dict[str, Any]:
        while (said := self._read()).get("event") != event:
            pass
        data: dict[str, Any] = said["data"]
        return data

    def mirror(self, source: str, target: str) -> None:
        """Copy one of its nodes to another, and let go of the first."""
        names = {"job-id": "copy", "device": source, "target": target}
        self.do("blockdev-mirror", sync="full", **names)
        self.wait_for("BLOCK_JOB_READY")
        self.do("block-job-complete", device="copy")
        assert "error" not in self.wait_for("BLOCK_JOB_COMPLETED")
        self.do("blockdev-del", **{"node-name": source})

    def close(self) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the storage daemon has ended"
        said: dict[str, Any] = json.loads(line)
        return said


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class Exporting:
    """Our server, in a thread with a run of trio of its own, so that blocking clients may call."""

    def __init__(
        self,
        exports: Mapping[str, Export],
        where: str,
        security: ConnectionSecurity | None = None,
    ) -> None:
        self._exports = exports
        is_secure = security is not None
        self._where = where if "://" in where else NbdAddress(path=where, is_secure=is_secure).uri
        self._security = security
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failure: BaseException | None = None

    @property
    def uri(self) -> str:
        return self.server.uri_of(next(iter(self._exports)))

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._is_up.wait(PATIENCE_S) or self._failure is not None:
            raise AssertionError("our server does not serve") from self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; idempotent."""
        if self._thread.is_alive():
            trio.from_thread.run_sync(self._end.set, trio_token=self._token)
            self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "our server does not stop"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = error
        finally:
            self._is_up.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._end = trio.Event()
        async with serve(self._where, self._exports, None, self._security) as self.server:
            self._is_up.set()
            await self._end.wait()


@contextmanager
def scripted_server(path: Path, script: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does to its one client what a script says; yields its address."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                script(connection)
        except OSError:
            return  # the client has left, as it should
        except BaseException as error:
            failures.append(error)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.settimeout(PATIENCE_S)
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield NbdAddress("disk", path=str(path)).uri
        finally:
            thread.join(2 * PATIENCE_S)
            assert not thread.is_alive()
    if failures:
        raise failures[0]
