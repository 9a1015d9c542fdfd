"""A command that is declared wrongly is refused when it is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.control.errors import CommandError
from transship.control.registry import CommandTable
from transship.control.server import protocol

from .control_helpers import Text, Tick

if TYPE_CHECKING:
    from transship.control.registry import Context


def test_command_without_annotations_is_refused() -> None:
    table = CommandTable()
    with pytest.raises(TypeError, match="must be annotated"):

        @table.command("a")
        async def a(context, arguments):  # type: ignore[no-untyped-def]
            pass


def test_command_with_too_many_parameters_is_refused() -> None:
    table = CommandTable()
    with pytest.raises(TypeError, match="must be annotated"):

        @table.command("a")
        async def a(context: Context, first: Text, second: Text) -> None:
            pass


def test_command_whose_arguments_are_no_object_is_refused() -> None:
    table = CommandTable()
    with pytest.raises(TypeError, match="subclass of Object"):

        @table.command("a")
        async def a(context: Context, arguments: str) -> None:
            pass


def test_command_that_returns_what_is_no_json_is_refused() -> None:
    table = CommandTable()
    with pytest.raises(TypeError, match="no type of QAPI"):

        @table.command("a")
        async def a(context: Context) -> bytes:
            return b""


def test_names_are_unique_also_between_tables() -> None:
    table = CommandTable()

    @table.command("query-version")
    async def version(context: Context) -> None:
        pass

    table.event("TICK", Tick)
    with pytest.raises(ValueError, match="'TICK'"):
        table.event("TICK")
    with pytest.raises(ValueError, match="'query-version'"):
        CommandTable.joined(protocol.TABLE, table)


def test_event_carries_its_time_and_its_data() -> None:
    table = CommandTable()
    tick, idle = table.event("TICK", Tick), table.event("IDLE")
    assert tick.message(Tick(7), 1_700_000_000.25) == {
        "timestamp": {"seconds": 1_700_000_000, "microseconds": 250_000},
        "event": "TICK",
        "data": {"number": 7},
    }
    assert "data" not in idle.message(None, 0.0)


def test_there_are_five_classes_of_errors() -> None:
    with pytest.raises(ValueError, match="SpecialError"):
        CommandError("SpecialError", "no")  # type: ignore[arg-type]
