"""Reads a checkpoint folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.errors import CheckpointError, MigrationError
from transship.guests.stored import StoredGuest
from transship.guests.stored.manifest import FORMAT, UNCONFIRMED, Manifest
from transship.inspection.devices import DeviceReader
from transship.inspection.ram import sha256
from transship.inspection.report import BlockEntry, DiskEntry, RamEntry, Report, SectionEntry
from transship.wire.vmdesc import DeviceRecord

if TYPE_CHECKING:
    from pathlib import Path


def read_checkpoint(directory: Path) -> Report:
    """Read a checkpoint; whatever is wrong with it ends in the report."""
    report = Report(FORMAT)
    try:
        guest = StoredGuest.open(directory, allow_unconfirmed=True)
    except MigrationError as error:
        report.fail(error)
        return report
    try:
        assert guest.manifest is not None
        _describe(report, guest, guest.manifest)
        if (directory / UNCONFIRMED).exists():
            raise CheckpointError(
                "the checkpoint is unconfirmed: its source may still run the guest",
                section=UNCONFIRMED,
                expected="a source that said that it has given the guest up",
                found=f"the file {UNCONFIRMED}",
            )
        report.complete = True
    except MigrationError as error:
        report.fail(error)
    finally:
        guest.close()
    return report


def _describe(report: Report, guest: StoredGuest, manifest: Manifest) -> None:
    report.machine = manifest.machine
    report.version = manifest.version
    report.ram = RamEntry(manifest.page_size)
    devices = DeviceReader()
    for device, section in zip(manifest.devices, guest.sections(), strict=True):
        report.sections.append(
            SectionEntry(
                device.idstr,
                device.instance_id,
                device.version_id,
                device.section_id,
                "full",
                None,
                device.size,
            )
        )
        record = DeviceRecord(
            device.idstr,
            device.instance_id,
            device.version_id,
            device.section_id,
            section.body(),
            section.description(),
        )
        try:
            report.devices.append(devices.read(record))
        except MigrationError as error:
            raise error.add_context(section=device.idstr) from None
    for block in guest.ram_blocks():
        stored = block.stored_pages()
        pages = {"total": block.pages, "stored": stored}
        report.ram.blocks.append(BlockEntry(block.idstr, block.used_length, sha256(block), pages))
    for disk in guest.disks():
        extents = disk.device.extents(0, disk.size_bytes)
        stored_bytes = sum(one.length for one in extents if not one.reads_as_zero)
        report.disks.append(DiskEntry(disk.name, disk.size_bytes, stored_bytes))
