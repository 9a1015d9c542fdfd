import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transship.abc import DeviceRecord
from transship.errors import BlockedError, CheckpointError, LocalError, RemoteError
from transship.guests.stored import StoredGuest
from transship.guests.stored.folder import PartialFolder
from transship.wire.events import Configuration

PAGE = 4096
IDE = DeviceRecord(
    "0000:00:01.1/ide",
    0,
    3,
    14,
    b"\x01\x02\x03",
    '{"name": "0000:00:01.1/ide", "instance_id": 0, "vmsd_name": "ide", "version": 3, '
    '"fields": [{"name": "x", "array_len": 3, "type": "uint8", "size": 1}]}',
)
EMPTY = DeviceRecord(
    "I440FX",
    2,
    0,
    15,
    b"",
    '{"name": "I440FX", "instance_id": 2, "vmsd_name": "I440FX", "version": 0, "fields": []}',
)
DESCRIPTION = f'{{"page_size": 4096, "devices": [{IDE.description}, {EMPTY.description}]}}'


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def begin(directory: Path, **options: Any) -> StoredGuest:
    guest = StoredGuest.create(directory, **options)
    guest.configure(Configuration("pc-i440fx-7.2", uuid=bytes(range(16))))
    return guest


async def fill(guest: StoredGuest) -> None:
    ram = guest.attach_ram_block("pc.ram", 1024 * PAGE)
    ram.reserve(7, 3)
    with ram.view as view:
        view[7 * PAGE : 10 * PAGE] = b"7" * PAGE + b"8" * PAGE + b"9" * PAGE
    guest.attach_ram_block("/rom@etc/acpi/rsdp", PAGE)
    guest.add_device_records([IDE, EMPTY])
    guest.set_description(DESCRIPTION.encode())
    await guest.prepare()


@pytest.fixture
async def checkpoint(tmp_path: Path) -> Path:
    guest = begin(tmp_path / "guest", source="tcp:192.0.2.7:4444")
    await fill(guest)
    await guest.commit()
    return tmp_path / "guest"


async def test_checkpoint_opens_as_it_was_received(checkpoint: Path) -> None:
    guest = StoredGuest.open(checkpoint)
    assert guest.machine == "pc-i440fx-7.2"
    assert guest.uuid == bytes(range(16))
    assert guest.source == "tcp:192.0.2.7:4444"
    assert guest.description == DESCRIPTION.encode()
    assert [(block.idstr, block.used_length) for block in guest.ram_blocks()] == [
        ("pc.ram", 1024 * PAGE),
        ("/rom@etc/acpi/rsdp", PAGE),
    ]
    with guest.ram_blocks()[0].view as view:
        assert view[7 * PAGE : 10 * PAGE] == b"7" * PAGE + b"8" * PAGE + b"9" * PAGE
        assert not any(view[: 7 * PAGE])
        assert view.readonly
    sections = guest.sections()
    assert [b"".join(section.complete()) for section in sections] == [IDE.body, EMPTY.body]
    assert [section.description() for section in sections] == [IDE.description, EMPTY.description]
    assert [(one.idstr, one.instance_id, one.version_id) for one in sections] == [
        ("0000:00:01.1/ide", 0, 3),
        ("I440FX", 2, 0),
    ]
    guest.close()


async def test_layout_is_the_documented_one(checkpoint: Path) -> None:
    assert names_in(checkpoint) == [
        "devices",
        "machine.json",
        "ram",
        "vmdesc.json",
    ]
    assert json.loads((checkpoint / "machine.json").read_text()) == {
        "format": "transship-checkpoint",
        "version": 1,
        "machine": "pc-i440fx-7.2",
        "page_size": PAGE,
        "capabilities": [],
        "uuid": bytes(range(16)).hex(),
        "source": "tcp:192.0.2.7:4444",
        "ram": [
            {
                "idstr": "pc.ram",
                "file": "pc.ram",
                "used_length": 1024 * PAGE,
                "pages": {"total": 1024, "stored": 3},
            },
            {
                "idstr": "/rom@etc/acpi/rsdp",
                "file": "%2From@etc%2Facpi%2Frsdp",
                "used_length": PAGE,
                "pages": {"total": 1, "stored": 0},
            },
        ],
        "devices": [
            {
                "idstr": "0000:00:01.1/ide",
                "instance_id": 0,
                "version_id": 3,
                "section_id": 14,
                "file": "000-0000:00:01.1%2Fide-0",
                "size": 3,
            },
            {
                "idstr": "I440FX",
                "instance_id": 2,
                "version_id": 0,
                "section_id": 15,
                "file": "001-I440FX-2",
                "size": 0,
            },
        ],
    }
    assert (checkpoint / "devices/000-0000:00:01.1%2Fide-0").read_bytes() == IDE.body
    assert (checkpoint / "vmdesc.json").read_text() == DESCRIPTION


async def test_images_are_sparse_and_holes_are_known(checkpoint: Path) -> None:
    image = checkpoint / "ram/pc.ram"
    assert image.stat().st_size == 1024 * PAGE
    assert image.stat().st_blocks * 512 <= 16 * PAGE
    guest = StoredGuest.open(checkpoint)
    ram = guest.ram_blocks()[0]
    assert ram.find_holes(0, 8) == b"\1" * 7 + b"\0"
    assert ram.find_holes(10, 1014) == b"\1" * 1014
    assert ram.stored_pages() == 3
    guest.close()


async def test_nothing_has_the_final_name_before_commit(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest")
    await fill(guest)
    (name,) = names_in(tmp_path)
    assert name.startswith(".guest.partial-")
    entry = tmp_path / name
    with pytest.raises(CheckpointError, match="unconfirmed"):
        StoredGuest.open(entry)
    StoredGuest.open(entry, allow_unconfirmed=True).close()
    await guest.commit()
    assert names_in(tmp_path) == ["guest"]
    assert guest.path == tmp_path / "guest"


async def test_half_received_checkpoint_does_not_open(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest")
    guest.attach_ram_block("pc.ram", PAGE)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        StoredGuest.open(guest.path, allow_unconfirmed=True)
    await guest.discard()


async def test_discard_leaves_nothing(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest")
    await fill(guest)
    with guest.ram_blocks()[0].view:
        await guest.discard()
    assert not names_in(tmp_path)
    await guest.discard()


async def test_unconfirmed_checkpoint_is_kept_and_opens_once_the_mark_is_removed(
    tmp_path: Path,
) -> None:
    for name in ["guest.unconfirmed", "guest.unconfirmed-2"]:
        guest = begin(tmp_path / "guest")
        await fill(guest)
        assert str(tmp_path / name) in await guest.keep_unconfirmed()
        assert guest.path == tmp_path / name
        with pytest.raises(CheckpointError, match="UNCONFIRMED"):
            StoredGuest.open(guest.path)
        (guest.path / "UNCONFIRMED").unlink()
        StoredGuest.open(guest.path).close()
    assert not (tmp_path / "guest").exists()


async def test_target_that_is_not_free_is_refused_at_once(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = names_in(tmp_path)
    for name in ["guest", "file", "link", "file/inside"]:
        with pytest.raises(BlockedError):
            StoredGuest.create(tmp_path / name)
    assert names_in(tmp_path) == before


async def test_empty_folder_is_a_free_target(tmp_path: Path) -> None:
    (tmp_path / "guest").mkdir()
    guest = begin(tmp_path / "guest")
    await fill(guest)
    await guest.commit()
    StoredGuest.open(tmp_path / "guest").close()


async def test_target_taken_before_the_source_gave_the_guest_up_is_refused_while_it_still_can_run(
    tmp_path: Path,
) -> None:
    first, second = begin(tmp_path / "guest"), begin(tmp_path / "guest")
    await fill(first)
    await first.commit()
    with pytest.raises(CheckpointError, match="took the place of the checkpoint meanwhile"):
        await fill(second)
    await second.discard()
    assert names_in(tmp_path) == ["guest"]


async def test_target_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest")
    await fill(guest)
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest/mine").write_text("mine")
    with pytest.raises(CheckpointError, match="complete at"):
        await guest.commit()
    assert (tmp_path / "guest/mine").read_text() == "mine"
    StoredGuest.open(guest.path).close()


async def test_description_is_put_together_where_none_came(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest")
    guest.add_device_records([IDE, EMPTY])
    await guest.prepare()
    await guest.commit()
    opened = StoredGuest.open(tmp_path / "guest")
    assert [one.description() for one in opened.sections()] == [
        IDE.description,
        EMPTY.description,
    ]
    opened.close()


async def test_checkpoint_never_runs(checkpoint: Path) -> None:
    guest = StoredGuest.open(checkpoint)
    assert not guest.is_running
    await guest.pause()
    with pytest.raises(LocalError, match="cannot run"):
        await guest.resume()
    guest.close()


async def test_images_that_were_opened_are_not_written(checkpoint: Path) -> None:
    guest = StoredGuest.open(checkpoint)
    with pytest.raises(OSError, match="Read-only"):
        guest.ram_blocks()[0].reserve(0, 1)
    guest.close()


# What a stream may ask for.


async def test_ram_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest", max_ram_bytes=10 * PAGE)
    guest.attach_ram_block("a", 6 * PAGE)
    with pytest.raises(RemoteError) as caught:
        guest.attach_ram_block("b", 5 * PAGE)
    assert caught.value.expected == f"at most {10 * PAGE} bytes of RAM"
    await guest.discard()


@pytest.mark.parametrize("length", [0, -PAGE, 1, PAGE + 1, 2**63])
async def test_impossible_length_is_refused(tmp_path: Path, length: int) -> None:
    guest = begin(tmp_path / "guest")
    with pytest.raises(RemoteError):
        guest.attach_ram_block("a", length)
    await guest.discard()


async def test_block_attached_twice_is_the_same_or_refused(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest")
    block = guest.attach_ram_block("a", PAGE)
    assert guest.attach_ram_block("a", PAGE) is block
    with pytest.raises(RemoteError):
        guest.attach_ram_block("a", 2 * PAGE)
    await guest.discard()


async def test_names_of_blocks_never_leave_the_folder(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest")
    names = ["..", ".", "", "../../etc/passwd", "/" * 255, "a", "A", "\0"]
    for name in names:
        guest.attach_ram_block(name, PAGE)
    assert len(names_in(guest.path / "ram")) == len(names)
    await guest.prepare()
    await guest.commit()
    opened = StoredGuest.open(tmp_path / "guest")
    assert [block.idstr for block in opened.ram_blocks()] == names
    opened.close()
    assert names_in(tmp_path) == ["guest"]


async def test_full_disk_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    guest = begin(tmp_path / "guest")
    block = guest.attach_ram_block("pc.ram", 4 * PAGE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            block.reserve(0, 1)
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space"):
            await guest.prepare()
    await guest.discard()
    assert not names_in(tmp_path)


def test_folder_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*arguments: object, **options: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkdtemp", denied)
    with pytest.raises(BlockedError, match="Permission denied"):
        PartialFolder(tmp_path / "guest")


# What can have happened to a folder.


def edit(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "machine.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def edit_entry(kind: str, **changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "machine.json"
        manifest = json.loads(path.read_text())
        manifest[kind][0].update(changes)
        path.write_text(json.dumps(manifest))

    return damage


def link_instead(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        path.rename(folder / "elsewhere")
        path.symlink_to(folder / "elsewhere")

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "manifest missing": (lambda folder: (folder / "machine.json").unlink(), "machine.json"),
    "description missing": (lambda folder: (folder / "vmdesc.json").unlink(), "vmdesc.json"),
    "manifest empty": (lambda folder: (folder / "machine.json").write_text(""), "machine.json"),
    "manifest no object": (
        lambda folder: (folder / "machine.json").write_text("[" * 100_000),
        "machine.json",
    ),
    "manifest not text": (
        lambda folder: (folder / "machine.json").write_bytes(b"\xff\xfe"),
        "machine.json",
    ),
    "other format": (edit(format="tar"), "transship-checkpoint"),
    "other version": (edit(version=3), "version 1 or 2"),
    "no machine": (edit(machine=""), "machine.json"),
    "page size": (edit(page_size=4097), "machine.json"),
    "uuid": (edit(uuid="x"), "machine.json"),
    "ram not a list": (edit(ram={}), "machine.json"),
    "ram length": (edit_entry("ram", used_length=PAGE + 1), "machine.json"),
    "ram length huge": (edit_entry("ram", used_length=2**63), "machine.json"),
    "ram length other": (edit_entry("ram", used_length=PAGE), "ram/pc.ram"),
    "ram elsewhere": (edit_entry("ram", file="../machine.json"), "plain file name"),
    "ram hidden": (edit_entry("ram", file=".."), "plain file name"),
    "ram twice": (edit_entry("ram", idstr="/rom@etc/acpi/rsdp"), "twice"),
    "ram missing": (lambda folder: (folder / "ram/pc.ram").unlink(), "ram/pc.ram"),
    "ram cut": (lambda folder: os.truncate(folder / "ram/pc.ram", PAGE), "ram/pc.ram"),
    "ram linked": (link_instead("ram/pc.ram"), "ram/pc.ram"),
    "device elsewhere": (edit_entry("devices", file="/etc/passwd"), "plain file name"),
    "device size": (edit_entry("devices", size=4), "000-0000"),
    "device name": (edit_entry("devices", idstr="other"), "vmdesc.json"),
    "device version": (edit_entry("devices", version_id=-1), "machine.json"),
    "device linked": (link_instead("devices/001-I440FX-2"), "001-I440FX-2"),
    "description wrong": (
        lambda folder: (folder / "vmdesc.json").write_text("[]"),
        "vmdesc.json",
    ),
    "description short": (
        lambda folder: (folder / "vmdesc.json").write_text('{"page_size": 4096, "devices": []}'),
        "vmdesc.json",
    ),
    "description linked": (link_instead("vmdesc.json"), "vmdesc.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_checkpoint_is_refused_and_the_file_named(
    checkpoint: Path, damage: str
) -> None:
    do, told = DAMAGES[damage]
    do(checkpoint)
    with pytest.raises(CheckpointError) as caught:
        StoredGuest.open(checkpoint)
    assert told in str(caught.value)
    assert caught.value.expected
    assert caught.value.found


async def test_pipe_in_place_of_an_image_is_refused_without_waiting(checkpoint: Path) -> None:
    image = checkpoint / "ram/pc.ram"
    image.unlink()
    os.mkfifo(image)
    with pytest.raises(CheckpointError, match="no plain file"):
        StoredGuest.open(checkpoint)


async def test_device_file_that_changes_after_opening_is_noticed(checkpoint: Path) -> None:
    guest = StoredGuest.open(checkpoint)
    (checkpoint / "devices/000-0000:00:01.1%2Fide-0").write_bytes(b"longer than before")
    with pytest.raises(CheckpointError, match="000-"):
        b"".join(guest.sections()[0].complete())
    guest.close()
