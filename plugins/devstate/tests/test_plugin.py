"""The plugin as the core sees it: its hooks, and its sections in a registry."""

from __future__ import annotations

import io
from importlib.metadata import entry_points
from types import SimpleNamespace as State

import pytest

from transship.abc import Device, Guest, Settings
from transship.errors import StreamError
from transship.plugin import hookspecs
from transship.plugin.registry import SectionRegistry, new_manager, register
from transship.wire.constants import RecordType
from transship.wire.events import SectionHeader
from transship.wire.fields import VMState, uint8
from transship.wire.reader import StreamReader, drive
from transship_devstate import plugin

TOY = VMState("toy", version_id=3, minimum_version_id=2, fields=[uint8("a")])


class Machine(Guest):
    """As much of a guest as the factory asks."""

    machine = "test"

    def __init__(self, *devices: Device) -> None:
        self._devices = devices

    def devices(self) -> tuple[Device, ...]:
        return self._devices

    def ram_blocks(self) -> list[object]:  # type: ignore[override]
        raise NotImplementedError

    def dirty_log(self) -> object:  # type: ignore[override]
        raise NotImplementedError

    @property
    def is_running(self) -> bool:
        return False

    async def pause(self) -> None:
        raise NotImplementedError

    async def resume(self) -> None:
        raise NotImplementedError


def registry(*devices: Device) -> SectionRegistry:
    manager = new_manager(hookspecs.SectionFactoryHooks)
    register(manager, plugin, "devstate", "transship-devstate")
    (sections,) = manager.hook.create_sections(guest=Machine(*devices), settings=Settings())
    return SectionRegistry(sections)


def test_entry_point_leads_to_the_plugin() -> None:
    (point,) = entry_points(group="transship.sections", name="devstate")
    assert point.load() is plugin


def test_each_device_becomes_a_section_in_the_guest_s_order() -> None:
    sections = registry(
        Device("b/toy", TOY, State(a=1)), Device("toy", TOY, State(a=2), instance_id=1)
    )
    found = [
        (one.idstr, one.instance_id, one.version_id, one.minimum_version_id, one.is_live)
        for one in sections
    ]
    assert found == [("b/toy", 0, 3, 2, False), ("toy", 1, 3, 2, False)]


def test_guest_without_devices_has_no_sections() -> None:
    assert list(registry()) == []


def test_section_saves_and_loads_through_its_hooks_alone() -> None:
    sections = registry(Device("toy", TOY, State(a=9)))
    section = sections.find("toy", 0)
    assert section
    assert section.description() is None
    assert list(sections.complete(section)) == [b"\x09"]
    text = section.description()
    assert text
    assert '"vmsd_name": "toy", "version": 3' in text
    state = State(a=0)
    sections = registry(Device("toy", TOY, state))
    section = sections.find("toy", 0)
    assert section
    reader = StreamReader()
    header = SectionHeader(RecordType.SECTION_FULL, 0, "toy", 0, 2)
    source = io.BytesIO(b"\x09\x7e")
    drive(sections.load(section, header, reader), reader, source.readinto)
    assert state.a == 9
    assert bytes(reader.buffered()) == b"\x7e"


@pytest.mark.parametrize("version", [1, 4])
def test_section_refuses_versions_that_it_does_not_declare(version: int) -> None:
    sections = registry(Device("toy", TOY, State(a=0)))
    section = sections.find("toy", 0)
    assert section
    reader = StreamReader()
    header = SectionHeader(RecordType.SECTION_FULL, 0, "toy", 0, version)
    with pytest.raises(StreamError, match="unsupported version"):
        drive(sections.load(section, header, reader), reader, io.BytesIO(b"\1").readinto)
