"""File descriptors that an address names: who gets them, until when, and who closes them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from transship.control.fdsets import SET_DESCRIPTORS, FdSets

from .bench import ADDRESS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .bench import Bench, Side


def new(flags: int = os.O_RDWR) -> int:
    return os.open(os.devnull, flags)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def hand_over(side: Side, descriptor: int, name: str) -> None:
    side.session.descriptors.arrived([descriptor])
    await side.execute("getfd", fdname=name)


async def add(side: Side, descriptor: int, **arguments: object) -> Any:
    side.session.descriptors.arrived([descriptor])
    return await side.execute("add-fd", **arguments)


@contextmanager
def nothing_left_open() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


# Names.


async def test_named_descriptor_is_lent_until_the_migration_is_over(bench: Bench) -> None:
    descriptor = new()
    await hand_over(bench.there, descriptor, "in")
    await bench.there.execute("migrate-incoming", uri="fd:in")
    assert bench.wires.asked == ["fd:in"]
    assert bench.wires.options == [{"descriptor": descriptor}]
    assert is_open(descriptor)
    incoming = bench.there.host.incoming
    assert incoming is not None
    incoming.cancel()
    await bench.there.until(lambda _: not is_open(descriptor))
    assert incoming.is_over


async def test_name_is_used_up_by_a_migration(bench: Bench) -> None:
    await hand_over(bench.here, new(), "out")
    await bench.here.execute("migrate", uri="fd:out")
    assert "'out'" in await bench.here.refusal("closefd", fdname="out")


async def test_name_is_found_in_a_channel_too(bench: Bench) -> None:
    descriptor = new()
    await hand_over(bench.here, descriptor, "out")
    address = {"transport": "socket", "type": "fd", "str": "out"}
    await bench.here.execute("migrate", channels=[{"channel-type": "main", "addr": address}])
    assert bench.wires.options == [{"descriptor": descriptor}]


async def test_descriptor_of_a_refused_migration_is_closed(bench: Bench) -> None:
    await bench.begin()
    descriptor = new()
    await hand_over(bench.here, descriptor, "out")
    with nothing_left_open():
        await bench.here.refusal("migrate", uri="fd:malformed")
    assert "under way" in await bench.here.refusal("migrate", uri="fd:out")
    assert not is_open(descriptor)


async def test_descriptor_stays_where_the_command_itself_makes_no_sense(here: Side) -> None:
    descriptor = new()
    await hand_over(here, descriptor, "out")
    await here.refusal("migrate", uri="fd:out", resume=True)
    await here.execute("closefd", fdname="out")
    assert not is_open(descriptor)


@pytest.mark.parametrize("name", ["nosuch", "0", "3"])
async def test_outgoing_descriptor_is_always_a_name(here: Side, name: str) -> None:
    assert f"'{name}'" in await here.refusal("migrate", uri=f"fd:{name}")


async def test_incoming_number_is_an_inherited_descriptor(bench: Bench) -> None:
    await bench.there.execute("migrate-incoming", uri="fd:3")
    assert bench.wires.options == [{}]


@pytest.mark.parametrize("name", ["nosuch", "3x", "-3", "٣"])
async def test_incoming_name_must_be_there(there: Side, name: str) -> None:
    assert name in await there.refusal("migrate-incoming", uri=f"fd:{name}")


async def test_monitor_takes_names_too(bench: Bench) -> None:
    descriptor = new()
    await hand_over(bench.there, descriptor, "in")
    said = await bench.there.execute("human-monitor-command", command_line="migrate_incoming fd:in")
    assert said == ""
    assert bench.wires.options == [{"descriptor": descriptor}]


# Sets.


@pytest.mark.parametrize(
    ("uri", "rest"), [("/dev/fdset/4", ""), ("/dev/fdset/4,offset=4096", ",offset=4096")]
)
async def test_set_gives_a_duplicate_that_was_opened_for_the_direction(
    bench: Bench, uri: str, rest: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.touch()
    opened = {flags: os.open(path, flags) for flags in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY)}
    for side in (bench.here, bench.there):
        for descriptor in opened.values():
            await add(side, os.dup(descriptor), fdset_id=4)
    await bench.here.execute("migrate", uri=f"file:{uri}")
    await bench.there.execute("migrate-incoming", uri=f"file:{uri}")
    lent = [int(str(options["descriptor"])) for options in bench.wires.options]
    assert bench.wires.asked == [f"file:/dev/fdset/4{rest}"] * 2
    assert os.path.sameopenfile(lent[1], opened[os.O_RDONLY])
    await bench.here.execute("remove-fd", fdset_id=4)
    assert is_open(lent[1])
    bench.there.session.fdsets.close()
    bench.here.session.fdsets.close()
    for descriptor in opened.values():
        os.close(descriptor)


async def test_set_without_a_fitting_descriptor_is_refused(bench: Bench) -> None:
    await add(bench.here, new(os.O_RDONLY), fdset_id=0)
    await add(bench.there, new(os.O_WRONLY), fdset_id=0)
    assert "writing" in await bench.here.refusal("migrate", uri="file:/dev/fdset/0")
    assert "reading" in await bench.there.refusal("migrate-incoming", uri="file:/dev/fdset/0")
    bench.here.session.fdsets.close()
    bench.there.session.fdsets.close()


@pytest.mark.parametrize("number", ["5", "x", "", "1/2", "9" * 30])
async def test_set_that_is_not_there_is_refused(here: Side, number: str) -> None:
    assert "set" in await here.refusal("migrate", uri=f"file:/dev/fdset/{number}")


async def test_sets_are_listed_with_what_the_client_remembers(here: Side) -> None:
    one = await add(here, new(), opaque="r:/a")
    two = await add(here, new())
    assert (one["fdset-id"], two["fdset-id"]) == (0, 1)
    assert await here.execute("query-fdsets") == [
        {"fdset-id": 0, "fds": [{"fd": one["fd"], "opaque": "r:/a"}]},
        {"fdset-id": 1, "fds": [{"fd": two["fd"]}]},
    ]
    await here.execute("remove-fd", fdset_id=0, fd=one["fd"])
    assert not is_open(one["fd"])
    await here.execute("remove-fd", fdset_id=1)
    assert not is_open(two["fd"])
    assert await here.execute("query-fdsets") == []


async def test_refused_descriptor_of_a_set_is_closed(here: Side) -> None:
    descriptor = new()
    with pytest.raises(Exception, match="negative"):
        await add(here, descriptor, fdset_id=-1)
    assert not is_open(descriptor)


def test_sets_are_bounded_and_closed_at_the_end() -> None:
    with nothing_left_open():
        fdsets = FdSets()
        for _ in range(SET_DESCRIPTORS):
            fdsets.add(new(), None, None)
        with pytest.raises(Exception, match="already"):
            fdsets.add(new(), None, None)
        fdsets.close()
        fdsets.close()


async def test_migration_without_a_descriptor_is_lent_none(bench: Bench) -> None:
    await bench.begin()
    assert bench.wires.options == [{}, {}]
    assert bench.wires.asked == [ADDRESS, ADDRESS]
