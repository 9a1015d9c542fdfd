"""The section of a declared device passes the kit, old versions included."""

from __future__ import annotations

from types import SimpleNamespace as State
from typing import TYPE_CHECKING

import pytest

from transship.abc import Device
from transship.testing import FakeGuest, GoldenSection, SavedRecord
from transship.testing.pytest_plugin import SectionConformance
from transship.testing.section_case import ram_and_devices
from transship.wire.constants import RecordType
from transship.wire.elements import UINT16
from transship.wire.fields import (
    VMState,
    array,
    buffer,
    qtailq,
    uint8,
    uint32,
    validate,
    varray,
    vbuffer,
)
from transship_devstate import plugin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.testing import MakeGuest
    from transship.testing.pytest_plugin import SectionPlugin

REQUEST = VMState("card/request", fields=[uint32("sector")], factory=lambda: State(sector=0))
CARD = VMState(
    "card",
    version_id=3,
    minimum_version_id=2,
    fields=[
        uint8("status"),
        array("registers", UINT16, 3),
        buffer("mac", 6, since=3),
        uint32("length"),
        validate("the buffer is not too long", lambda card, _: card.length <= 4096),
        vbuffer("data", "length", alloc=True),
        uint8("used"),
        varray("queue", UINT16, "used"),
        qtailq("requests", REQUEST),
    ],
    subsections=[
        VMState("card/error", fields=[uint8("error")], needed=lambda card: card.error > 0)
    ],
)


def guest(**changed: object) -> FakeGuest:
    attributes: dict[str, object] = {
        "status": 1,
        "registers": [1, 2, 3],
        "mac": b"\2\0\0\0\0\1",
        "length": 5,
        "data": b"hello",
        "used": 2,
        "queue": [7, 8, 0, 0],
        "requests": [State(sector=9), State(sector=10)],
        "error": 4,
    }
    return FakeGuest({}, devices=[Device("0/card", CARD, State(**(attributes | changed)))])


def empty_guest() -> FakeGuest:
    return guest(
        status=0, mac=bytes(6), length=0, data=b"", used=0, queue=[0] * 4, requests=[], error=0
    )


VERSION_2 = bytes.fromhex("05 000100020003 00000002 6869 01 0009 00".replace(" ", ""))


class TestDevice(SectionConformance):
    @pytest.fixture
    def plugin(self) -> SectionPlugin:
        return plugin

    @pytest.fixture
    def make_guest(self) -> MakeGuest:
        return guest

    @pytest.fixture
    def make_destination(self) -> MakeGuest:
        return empty_guest

    @pytest.fixture
    def golden(self) -> Sequence[GoldenSection]:
        state = ram_and_devices(
            guest(
                status=5,
                mac=bytes(6),
                length=2,
                data=b"hi",
                used=1,
                queue=[9, 0, 0, 0],
                requests=[],
                error=0,
            )
        )
        return [GoldenSection(2, [SavedRecord(RecordType.SECTION_FULL, VERSION_2)], state)]
