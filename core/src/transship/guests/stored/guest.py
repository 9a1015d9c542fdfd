"""StoredGuest: a checkpoint folder as a guest; received into, and sent from, but never run."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import trio

from transship.errors import (
    CheckpointError,
    LocalError,
    MigrationError,
    RemoteError,
    StreamError,
)
from transship.guests.recorded import RecordedGuest
from transship.guests.stored.disks import image_of, make_disk, open_disk
from transship.guests.stored.files import read_plain, write_lasting
from transship.guests.stored.folder import PartialFolder
from transship.guests.stored.images import ImageBlock
from transship.guests.stored.manifest import (
    DESCRIPTION,
    DEVICE_FOLDER,
    DISK_FOLDER,
    DISK_VERSION,
    MANIFEST,
    RAM_FOLDER,
    UNCONFIRMED,
    VERSION,
    DeviceFile,
    DiskImage,
    Manifest,
    PageCounts,
    RamImage,
    encode_manifest,
    read_manifest,
)
from transship.guests.stored.names import encode_name, is_plain, unused_name
from transship.guests.stored.section import StoredSection
from transship.wire.description import compose
from transship.wire.limits import DESCRIPTION_BYTES, DEVICE_BYTES, DISKS, RAM_BYTES
from transship.wire.vmdesc import parse_description

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from transship.abc.disk import Disk


class StoredGuest(RecordedGuest[ImageBlock]):
    """The state of any machine, in a folder.

    Made by :meth:`create`, to be received into, or by :meth:`open`, to be sent. A received one
    is on the disk when :meth:`prepare` returns, still under a temporary name; then exactly one of
    :meth:`commit`, :meth:`discard` and :meth:`keep_unconfirmed` follows.

    Attributes:
        path: Where the folder is at the moment.
        manifest: What an opened checkpoint holds; None while one is received.
        source: Where it came from, for people.
    """

    def __init__(self, path: Path, source: str | None, max_ram_bytes: int) -> None:
        """Not to be called: see :meth:`create` and :meth:`open`."""
        super().__init__(max_ram_bytes)
        self.path = path
        self.source = source
        self.manifest: Manifest | None = None
        self._sections: list[StoredSection] = []
        self._disks: list[Disk] = []
        self._disk_sizes: Mapping[str, int] = {}
        self._description: bytes | None = None
        self._folder: PartialFolder | None = None

    # Making one.

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        source: str | None = None,
        max_ram_bytes: int = RAM_BYTES,
        disk_sizes: Mapping[str, int] | None = None,
    ) -> Self:
        """Begin a checkpoint, as the destination of one migration.

        Args:
            directory: The folder to be made; missing, or empty.
            source: Where the guest comes from, for people.
            max_ram_bytes: How much RAM is accepted.
            disk_sizes: How many bytes each disk has, by its name: a stream does not tell. Without,
                a disk is taken to end with the last MiB that came. If there are any, a disk that is
                not among them is refused.

        Raises:
            BlockedError: There is something already, or no folder can be made there.
        """
        folder = PartialFolder(directory)
        guest = cls(folder.path, source, max_ram_bytes)
        guest._folder = folder
        guest._disk_sizes = disk_sizes or {}
        return guest

    def _make_block(self, idstr: str, length: int) -> ImageBlock:
        name = unused_name(idstr, {block.path.name.lower() for block in self._blocks})
        path = self._partial.path / RAM_FOLDER / name
        return ImageBlock.create(idstr, path, length, self.page_size)

    def disks(self) -> Sequence[Disk]:
        """Those that have come; those of an opened checkpoint can only be read."""
        return self._disks

    def attach_disk(self, name: str) -> Disk:
        """Make room for a disk.

        Raises:
            RemoteError: Its size was not given, or there are too many.
            CheckpointError: There is no room.
        """
        for disk in self._disks:
            if disk.name == name:
                return disk
        if self._disk_sizes and name not in self._disk_sizes:
            raise RemoteError(
                f"the source has a disk {name!r} whose size was not given",
                expected=" or ".join(map(repr, self._disk_sizes)),
                found=repr(name),
            )
        if len(self._disks) == DISKS:
            raise RemoteError(
                "the source has too many disks", expected=f"at most {DISKS}", found="one more"
            )
        folder = self._partial.path / DISK_FOLDER
        self._disks.append(make_disk(folder, name, self._disk_sizes.get(name), self._disks))
        return self._disks[-1]

    def set_description(self, text: bytes) -> None:
        """Take the VMDESCRIPTION as it came; otherwise it is put together from the records."""
        self._description = bytes(text)

    async def prepare(self) -> None:
        """Write everything, so that it survives a power cut; the name stays temporary.

        Raises:
            CheckpointError: It cannot be written, or its place is no longer free.
        """
        for block in self._blocks:
            await trio.to_thread.run_sync(self._write, block.flush)
        for disk in self._disks:
            await trio.to_thread.run_sync(self._write, disk.flush)
        await trio.to_thread.run_sync(self._write, self._write_rest)
        self._partial.check_still_free()

    async def commit(self) -> None:
        """Give the folder its name: the guest is ours.

        Raises:
            CheckpointError: It cannot have that name; then it is complete where it is.
        """
        folder = self._partial
        self.path = await trio.to_thread.run_sync(folder.confirm)
        self._folder = None
        self.close()

    async def discard(self) -> None:
        """Remove everything.

        Raises:
            CheckpointError: It cannot be removed.
        """
        if self._folder is not None:
            self.close()
            await trio.to_thread.run_sync(self._folder.remove)
            self._folder = None

    async def keep_unconfirmed(self) -> str:
        """Keep a checkpoint of which nobody knows whether the source still has the guest.

        It is called ``NAME.unconfirmed``, and :meth:`open` refuses it until somebody has made
        sure that the source does not run the guest, and has removed the mark in it.
        """
        self.path = await trio.to_thread.run_sync(self._partial.keep)
        self._folder = None
        self.close()
        return f"everything is in {self.path}"

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint at {self._partial.path} cannot be written",
                found=error.strerror or str(error),
                hint="is the disk full?",
            ) from error

    def _write_rest(self) -> None:
        """Everything but RAM; what makes the folder a checkpoint comes last."""
        folder = self._partial
        devices = self._write_devices(folder.path / DEVICE_FOLDER)
        manifest = self._summary(devices)
        text = self._description
        if text is None:
            described = (record.description for record in self.records)
            text = compose(self.machine, self.page_size, described)
        write_lasting(folder.path / DESCRIPTION, text)
        folder.mark_unconfirmed()
        write_lasting(folder.path / MANIFEST, encode_manifest(manifest))
        folder.sync()
        self.manifest = manifest

    def _write_devices(self, folder: Path) -> list[DeviceFile]:
        devices = []
        for number, record in enumerate(self.records):
            name = f"{number:03}-{encode_name(record.idstr)}-{record.instance_id}"
            write_lasting(folder / name, record.body)
            devices.append(
                DeviceFile(
                    record.idstr,
                    record.instance_id,
                    record.version_id,
                    record.section_id,
                    name,
                    len(record.body),
                )
            )
        return devices

    def _summary(self, devices: list[DeviceFile]) -> Manifest:
        return Manifest(
            machine=self.machine,
            page_size=self.page_size,  # type: ignore[arg-type]
            capabilities=[],
            uuid=self.uuid.hex() if self.uuid else None,
            source=self.source,
            ram=[
                RamImage(
                    block.idstr,
                    block.path.name,
                    block.used_length,
                    PageCounts(block.pages, block.stored_pages()),
                )
                for block in self._blocks
            ],
            devices=devices,
            disks=[
                DiskImage(disk.name, image_of(disk).path.name, disk.size_bytes)
                for disk in self._disks
            ]
            or msgspec.UNSET,
            version=DISK_VERSION if self._disks else VERSION,
        )

    @property
    def _partial(self) -> PartialFolder:
        if self._folder is None:
            raise LocalError(f"the checkpoint {self.path} is not being received")
        return self._folder

    # Opening one.

    @classmethod
    def open(cls, directory: Path, *, allow_unconfirmed: bool = False) -> Self:
        """Open a checkpoint, to be sent or looked at. Nothing of its RAM is read yet.

        Args:
            directory: The folder.
            allow_unconfirmed: Whether one will do of which nobody knows whether the source
                still has the guest: to look at, never to send.

        Raises:
            CheckpointError: It is no checkpoint, is damaged, or unconfirmed; names the file, and
                what it must be.
        """
        directory = Path(os.path.abspath(directory))
        manifest = read_manifest(directory)
        if not allow_unconfirmed and (directory / UNCONFIRMED).exists():
            raise CheckpointError(
                f"{directory} is unconfirmed: its source may still run the guest",
                hint=f"see {directory / UNCONFIRMED}",
            )
        guest = cls(directory, manifest.source, RAM_BYTES)
        guest.manifest = manifest
        guest.machine = manifest.machine
        guest.page_size = manifest.page_size
        guest.uuid = bytes.fromhex(manifest.uuid) if manifest.uuid else None
        try:
            guest._open_ram(manifest)
            guest._open_devices(manifest)
            guest._open_disks(manifest)
        except MigrationError:
            guest.close()
            raise
        return guest

    @property
    def description(self) -> bytes | None:
        """The text of the VMDESCRIPTION, as it came; None if there is none."""
        return self._description

    def sections(self) -> Sequence[StoredSection]:
        """One for each device, in stream order; none while the checkpoint is received."""
        return self._sections

    def _open_ram(self, manifest: Manifest) -> None:
        total = 0
        for image in manifest.ram:
            self._check_name(image.file, RAM_FOLDER)
            total += image.used_length
            if image.used_length % self.page_size or total > RAM_BYTES:
                raise CheckpointError(
                    f"{self.path / MANIFEST} gives RAM block {image.idstr!r} an impossible length",
                    expected=f"whole pages of {self.page_size} bytes, {RAM_BYTES} bytes in all",
                    found=f"{image.used_length} bytes",
                )
            path = self.path / RAM_FOLDER / image.file
            self._blocks.append(
                ImageBlock.open(image.idstr, path, image.used_length, self.page_size)
            )
        self._check_unique("RAM block", [image.idstr for image in manifest.ram])

    def _open_devices(self, manifest: Manifest) -> None:
        texts = self._read_description(manifest)
        for device, text in zip(manifest.devices, texts, strict=True):
            self._check_name(device.file, DEVICE_FOLDER)
            section = StoredSection(
                device.idstr,
                device.instance_id,
                device.version_id,
                self.path / DEVICE_FOLDER / device.file,
                device.size,
                text,
            )
            section.check()
            self._sections.append(section)
        self._check_unique("device", [(one.idstr, one.instance_id) for one in manifest.devices])
        size = sum(device.size for device in manifest.devices)
        if size > DEVICE_BYTES:
            raise CheckpointError(
                f"{self.path / MANIFEST} has too much device state",
                expected=f"at most {DEVICE_BYTES} bytes",
                found=f"{size} bytes",
            )

    def _open_disks(self, manifest: Manifest) -> None:
        disks = manifest.disks or []
        for disk in disks:
            self._check_name(disk.file, DISK_FOLDER)
            path = self.path / DISK_FOLDER / disk.file
            self._disks.append(open_disk(disk.name, path, disk.size))
        self._check_unique("disk", [disk.name for disk in disks])

    def _read_description(self, manifest: Manifest) -> Sequence[str]:
        """Read the description, and cut it into those of the devices."""
        path = self.path / DESCRIPTION
        try:
            length = path.lstat().st_size
        except OSError as error:
            raise CheckpointError(
                f"{path} cannot be read",
                expected="the description of all devices",
                found=error.strerror or str(error),
            ) from error
        if length > DESCRIPTION_BYTES:
            raise CheckpointError(
                f"{path} is too long",
                expected=f"at most {DESCRIPTION_BYTES} bytes",
                found=f"{length} bytes",
            )
        self._description = read_plain(path, length)
        try:
            described = parse_description(self._description).devices
        except StreamError as error:
            raise CheckpointError(
                f"{path} is wrong: {error.cause}",
                expected=error.expected or "the description of a stream",
                found=error.found or "something else",
            ) from error
        expected = [(device.idstr, device.instance_id) for device in manifest.devices]
        found = [(device.idstr, device.instance_id) for device in described]
        if found != expected:
            raise CheckpointError(
                f"{path} describes other devices than {MANIFEST} lists",
                expected=f"{len(expected)} devices, as listed",
                found=f"{len(found)} devices, or others",
            )
        return [device.text for device in described]

    def close(self) -> None:
        """Close everything; idempotent. What is still looked at goes with its last view."""
        super().close()
        for disk in self._disks:
            with suppress(OSError):  # what must last was flushed before
                disk.device.close()
        self._disks = []

    def _check_name(self, name: str, folder: str) -> None:
        if not is_plain(name):
            raise CheckpointError(
                f"{self.path / MANIFEST} names a file that cannot be in {folder}",
                expected="a plain file name",
                found=repr(name),
            )

    def _check_unique(self, what: str, names: Sequence[object]) -> None:
        if len(set(names)) != len(names):
            raise CheckpointError(
                f"{self.path / MANIFEST} has a {what} twice",
                expected="each once",
                found=f"{len(names)} of {len(set(names))} names",
            )
