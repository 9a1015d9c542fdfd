"""Find the QEMU binaries to test against. Knows nothing of running guests."""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT_VARIABLE = "TRANSSHIP_QEMU"
DEFAULT_BINARY = "qemu-system-x86_64"
NO_QEMU = (
    f"no QEMU here: install {DEFAULT_BINARY}, or name binaries in {ENVIRONMENT_VARIABLE}, "
    "separated by colons (tests/qemu_peer/fetch-qemu.sh unpacks one)"
)


@dataclass(frozen=True, slots=True)
class QemuBinary:
    """One QEMU that can be started.

    Attributes:
        path: The binary, or a wrapper script around it.
        version: What `--version` says, such as `(7, 2, 22)`.
        aliases: Short machine names and what they stand for: `pc` is `pc-i440fx-7.2`.
        machines: Every machine name, long ones and aliases.
    """

    path: Path
    version: tuple[int, ...]
    aliases: Mapping[str, str]
    machines: frozenset[str]

    @property
    def label(self) -> str:
        """Major and minor version, as in the name of a test: `10.0`."""
        return ".".join(str(number) for number in self.version[:2])

    def machine(self, name: str) -> str:
        """Return the versioned name of a machine, the one a stream carries.

        Raises:
            ValueError: This QEMU has no such machine.
        """
        full_name = self.aliases.get(name, name)
        if full_name not in self.machines:
            raise ValueError(f"QEMU {self.label} has no machine {name!r}")
        return full_name


@functools.cache
def qemu_binaries() -> list[QemuBinary]:
    """Return the QEMUs of this machine, those named in the environment first, each version once.

    Raises:
        RuntimeError: A binary is there, or was named, and does not start.
    """
    named = [Path(name) for name in os.environ.get(ENVIRONMENT_VARIABLE, "").split(":") if name]
    on_path = shutil.which(DEFAULT_BINARY)
    if on_path is not None:
        named.append(Path(on_path))
    found: dict[tuple[int, ...], QemuBinary] = {}
    for path in named:
        binary = inspect_binary(path)
        found.setdefault(binary.version, binary)
    return list(found.values())


def inspect_binary(path: Path) -> QemuBinary:
    """Ask a QEMU for its version and its machines.

    Raises:
        RuntimeError: It does not start, or answers like no QEMU.
    """
    version = re.search(r"version (\d+(?:\.\d+)+)", _output(path, "--version"))
    if version is None:
        raise RuntimeError(f"{path} does not say which version of QEMU it is")
    machines = set[str]()
    aliases = dict[str, str]()
    for line in _output(path, "-machine", "help").splitlines()[1:]:
        name, _, description = line.partition(" ")
        machines.add(name)
        if (alias := re.search(r"\(alias of (\S+)\)", description)) is not None:
            aliases[name] = alias.group(1)
    return QemuBinary(
        path=path,
        version=tuple(int(number) for number in version.group(1).split(".")),
        aliases=aliases,
        machines=frozenset(machines),
    )


def _output(path: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, check=True, timeout=30
        )
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{path} does not start: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{path} does not start: {error}") from error
    return done.stdout
