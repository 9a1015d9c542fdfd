"""Distributions that are installed for one test: metadata and modules in a folder on the path."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TRANSPORTS = "transship.transports"
SECTIONS = "transship.sections"
COMPRESSIONS = "transship.compressions"
BLOCK_DEVICES = "transship.block_devices"

GOOD_TRANSPORT = """
from contextlib import asynccontextmanager
from transship import hookimpl

@asynccontextmanager
async def entered(what, address, options):
    yield f"{what} {address} {options}"

@hookimpl
def start_outgoing(address, options):
    return entered("to", address, options)

@hookimpl
def start_incoming(address):
    return entered("from", address, {})
"""

COMPRESSION = """
from transship import hookimpl
from transship.abc import Compression

class Squeeze(Compression):
    name = "squeeze"
    wire_flag = 0x30
    most_growth_bytes = 8

    def compressor(self, parameters): ...
    def decompressor(self): ...

@hookimpl
def create_compression():
    return Squeeze()
"""

DISKS = """
from transship import hookimpl
from transship.errors import BlockedError
from transship.testing.memory_device import MemoryDevice

@hookimpl
def open_block_device(address):
    if not address.rest.isdigit():
        raise BlockedError(f"{str(address)!r} has no size")
    return MemoryDevice(int(address.rest))
"""

SECTION_FACTORY = """
from transship import Section, hookimpl

class Fake(Section):
    def __init__(self, idstr, is_live):
        self.idstr = idstr
        self.is_live = is_live

@hookimpl
def create_sections(guest):
    return [Fake(*made) for made in {made!r}]
"""


def section_factory(*made: tuple[str, bool]) -> str:
    """Source of a module that makes sections: idstr, and whether it is live."""
    return SECTION_FACTORY.format(made=made)


@dataclass
class FakeDistributions:
    """A folder that is searched for installed distributions.

    Args:
        folder: Where they are put; it must be on ``sys.path``.
    """

    folder: Path
    modules: list[str] = field(default_factory=list)

    def install(
        self, distribution: str, group: str, name: str, source: str, *, version: str = "1.0"
    ) -> str:
        """Install a distribution with one entry point. Returns the name of its module."""
        module = distribution.replace("-", "_")
        (self.folder / f"{module}.py").write_text(source)
        self.modules.append(module)
        self.describe(distribution, f"[{group}]\n{name} = {module}\n", version=version)
        return module

    def describe(self, distribution: str, entry_points: str, *, version: str = "1.0") -> None:
        """Write the metadata of a distribution."""
        info = self.info_folder(distribution, version)
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(entry_points)

    def uninstall(self, distribution: str, *, version: str = "1.0") -> None:
        """Remove what :meth:`install` put there."""
        shutil.rmtree(self.info_folder(distribution, version))
        (self.folder / f"{distribution.replace('-', '_')}.py").unlink()

    def info_folder(self, distribution: str, version: str) -> Path:
        return self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"

    def forget(self) -> None:
        """Undo the imports."""
        for module in self.modules:
            sys.modules.pop(module, None)
