"""Runs a command in namespaces of its own: no network, another root, and no process left over.

A process that ends, however it ends, takes with it what it started in its process namespace and
what it mounted in its mount namespace: neither a failure nor Ctrl-C leaves anything behind.

As a program it is what runs first inside: ``jail.py ROOT USER FOLDER BIND... -- COMMAND``.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST: Final = Path("/")
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
"""What a command in another root gets to see of ours: nothing."""


def run(
    *command: str | Path,
    root: Path = _HOST,
    user: str = "root",
    folder: str | Path = "/",
    binds: Mapping[Path, str] | None = None,
    has_network: bool = False,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> None:
    """Run a command and wait for its end.

    Args:
        root: What it sees as ``/``; another one than the host's needs root.
        user: Who it is there. On the host it is always whoever calls.
        folder: Its working directory, inside.
        binds: Folders of ours, and where they appear inside.
        has_network: Without, there is nothing but a loopback of its own.
        environment: Added to ours on the host; in another root, to a fresh one.
        log: Where its output goes; else to ours.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    namespaces = ["--mount", "--pid", "--fork", "--kill-child"]
    namespaces += [] if has_network else ["--net"]
    namespaces += [] if os.geteuid() == 0 else ["--map-root-user"]
    bound = [f"{ours}={theirs}" for ours, theirs in (binds or {}).items()]
    inherited = dict(os.environ) if root == _HOST else _ENVIRONMENT
    with log.open("ab") if log else open(os.dup(1), "ab") as output:
        subprocess.run(
            [
                *("unshare", *namespaces, sys.executable, __file__),
                *(str(root), user, str(folder), *bound, "--", *map(str, command)),
            ],
            env={**inherited, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=True,
        )


def _enter(root: Path, user: str, folder: str, binds: list[str], command: list[str]) -> None:
    _raise_loopback()
    if root == _HOST:
        os.chdir(folder)
        _run_as_init(command)
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    subprocess.run(["mount", "--rbind", "/dev", root / "dev"], check=True)
    for bind in binds:
        ours, theirs = bind.split("=")
        place = root / theirs.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", ours, place], check=True)
    os.chroot(root)
    os.chdir(folder)
    become = [] if user == "root" else ["runuser", "-u", user, "--"]
    _run_as_init([*become, *command])


def _run_as_init(command: list[str]) -> NoReturn:
    """Wait for the orphans too: the first process of a namespace inherits them all."""
    process = subprocess.Popen(command)
    while True:
        ended, status = os.wait()
        if ended == process.pid:
            code = os.waitstatus_to_exitcode(status)
            sys.exit(code if code >= 0 else 128 - code)


def _raise_loopback() -> None:
    """A new network has a loopback that is down; that of the host is up already."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        if not flags & _IFF_UP:
            request = struct.pack("16sH14s", b"lo", flags | _IFF_UP, b"")
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


if __name__ == "__main__":
    where, who, inside, *rest = sys.argv[1:]
    end = rest.index("--")
    _enter(Path(where), who, inside, rest[:end], rest[end + 1 :])
