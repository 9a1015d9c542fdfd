"""``machine.json``: what a checkpoint folder holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from transship.errors import CheckpointError
from transship.wire.limits import (
    DEVICE_BYTES,
    DISK_BYTES,
    DISKS,
    IDSTR_BYTES,
    MACHINE_NAME_BYTES,
    RAM_BLOCKS,
    RAM_BYTES,
    SECTIONS,
)

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = "transship-checkpoint"
VERSION: Final = 1
DISK_VERSION: Final = 2
"""Of a checkpoint with disks; whoever does not know of them must not send it without."""

MANIFEST: Final = "machine.json"
DESCRIPTION: Final = "vmdesc.json"
RAM_FOLDER: Final = "ram"
DEVICE_FOLDER: Final = "devices"
DISK_FOLDER: Final = "disks"
UNCONFIRMED: Final = "UNCONFIRMED"

MANIFEST_BYTES: Final = 64 * 1024 * 1024
"""Of the file; a device takes about 200 bytes in it."""

Number = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
Idstr = Annotated[str, msgspec.Meta(max_length=IDSTR_BYTES)]
FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class PageCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pages of a RAM block.

    Args:
        total: All of them.
        stored: Those with storage behind them; the others are zero.
    """

    total: int
    stored: int


class RamImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A RAM block.

    Args:
        idstr: Name in the stream.
        file: Name in the folder ``ram``.
        used_length: Bytes of the block, and of the file.
        pages: How many there are, for people; what counts is the file.
    """

    idstr: Idstr
    file: FileName
    used_length: Annotated[int, msgspec.Meta(gt=0, le=RAM_BYTES)]
    pages: PageCounts


class DeviceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device section.

    Args:
        idstr: Name in the stream.
        instance_id: Which of several with the same name.
        version_id: Version of the body.
        section_id: The number that the source had given it.
        file: Name in the folder ``devices``.
        size: Bytes of the body, and of the file.
    """

    idstr: Idstr
    instance_id: Number
    version_id: Number
    section_id: Number
    file: FileName
    size: Annotated[int, msgspec.Meta(ge=0, le=DEVICE_BYTES)]


class DiskImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A disk.

    Args:
        name: In the stream.
        file: Name in the folder ``disks``.
        size: Bytes of the disk, as far as it is known, and of the file.
    """

    name: Idstr
    file: FileName
    size: Annotated[int, msgspec.Meta(gt=0, le=DISK_BYTES)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file; RAM blocks and devices are in stream order.

    Args:
        format: What this is.
        version: Of the layout of the folder.
        machine: Full, versioned machine type name.
        page_size: Bytes of a target page.
        capabilities: Names of capabilities that change the stream.
        uuid: Of the machine, if the source sent it.
        source: Where it came from, for people.
        ram: The RAM blocks.
        devices: The device sections.
        disks: The disks, in the order in which they came; left out if there are none.
    """

    format: str = FORMAT
    version: int = VERSION
    machine: Annotated[str, msgspec.Meta(min_length=1, max_length=MACHINE_NAME_BYTES)]
    page_size: Literal[1024, 2048, 4096, 8192, 16384, 32768, 65536]
    capabilities: list[str]
    uuid: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] | None
    source: str | None
    ram: Annotated[list[RamImage], msgspec.Meta(max_length=RAM_BLOCKS)]
    devices: Annotated[list[DeviceFile], msgspec.Meta(max_length=SECTIONS)]
    disks: (
        Annotated[list[DiskImage], msgspec.Meta(min_length=1, max_length=DISKS)] | msgspec.UnsetType
    ) = msgspec.UNSET


class _Kind(msgspec.Struct):
    """The part of the file that every version has."""

    format: str
    version: int


def encode_manifest(manifest: Manifest) -> bytes:
    """The text of ``machine.json``, laid out for people."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(directory: Path) -> Manifest:
    """Read and check ``machine.json``.

    Raises:
        CheckpointError: It is missing, of another format or version, or wrong.
    """
    path = directory / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(MANIFEST_BYTES + 1)
    except OSError as error:
        raise CheckpointError(
            f"{directory} is no checkpoint",
            expected=f"a readable file {path}",
            found=error.strerror or str(error),
        ) from error
    if len(text) > MANIFEST_BYTES:
        raise CheckpointError(
            f"{path} is too long", expected=f"at most {MANIFEST_BYTES} bytes", found="more"
        )
    try:
        kind = msgspec.json.decode(text, type=_Kind)
        if kind.format != FORMAT or kind.version not in (VERSION, DISK_VERSION):
            raise CheckpointError(
                f"{path} describes something else",
                expected=f"{FORMAT}, version {VERSION} or {DISK_VERSION}",
                found=f"{kind.format[:64]}, version {kind.version}",
            )
        return msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is wrong", expected=f"the members of {FORMAT}", found=str(error)
        ) from error
