"""Capabilities: which there are, when they may be set, and what excludes what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.abc.settings import Capability
from transship.control.commands.capabilities import LACKING, MigrationCapability

from .settings_helpers import entry, switched_on

if TYPE_CHECKING:
    from .bench import Bench, Json, Side

AVAILABLE = [one for one in MigrationCapability if one not in LACKING]


@pytest.mark.seed("S21")
async def test_all_capabilities_of_qemu_are_listed_in_its_order_and_off(fresh: Side) -> None:
    listed = await fresh.execute("query-migrate-capabilities")
    assert [one["capability"] for one in listed] == [
        *("xbzrle", "rdma-pin-all", "auto-converge", "zero-blocks", "events", "postcopy-ram"),
        *("x-colo", "release-ram", "return-path", "pause-before-switchover", "multifd"),
        *("dirty-bitmaps", "postcopy-blocktime", "late-block-activate", "x-ignore-shared"),
        *("validate-uuid", "background-snapshot", "zero-copy-send", "postcopy-preempt"),
        *("switchover-ack", "dirty-limit", "mapped-ram", "block"),
    ]
    assert all(one == entry(one["capability"], False) for one in listed)


@pytest.mark.seed("S20", "S52")
@pytest.mark.parametrize("capability", AVAILABLE, ids=lambda one: one.value)
async def test_capability_is_switched_on_and_off(
    here: Side, capability: MigrationCapability
) -> None:
    name = capability.value
    assert await here.execute("migrate-set-capabilities", capabilities=[entry(name)]) == {}
    assert await switched_on(here) == [name]
    assert here.host.settings.has(Capability(name))
    await here.execute("migrate-set-capabilities", capabilities=[entry(name, False)])
    assert await switched_on(here) == []


@pytest.mark.parametrize("capability", list(LACKING), ids=lambda one: one.value)
async def test_capability_that_is_lacking_is_refused_with_the_reason(
    here: Side, capability: MigrationCapability
) -> None:
    name = capability.value
    text = await here.refusal("migrate-set-capabilities", capabilities=[entry(name)])
    assert text == f"capability '{name}' is not available: {LACKING[capability]}"
    assert await here.execute("migrate-set-capabilities", capabilities=[entry(name, False)]) == {}
    assert await switched_on(here) == []


async def test_capabilities_are_set_together_or_not_at_all(here: Side) -> None:
    await here.switch(events=True)
    for wrong in ("multifd", "postcopy-ram"):  # one that xbzrle excludes, one that is lacking
        await here.refusal(
            "migrate-set-capabilities",
            capabilities=[entry("xbzrle"), entry("events", False), entry(wrong)],
        )
    assert await switched_on(here) == ["events"]


@pytest.mark.parametrize(("first", "second"), [("xbzrle", "multifd"), ("multifd", "xbzrle")])
async def test_capabilities_that_exclude_each_other_are_refused_in_either_order(
    here: Side, first: str, second: str
) -> None:
    await here.switch(**{first: True})
    text = await here.refusal("migrate-set-capabilities", capabilities=[entry(second)])
    assert "'multifd' and 'xbzrle' exclude each other" in text
    assert await switched_on(here) == [first]
    await here.switch(**{first: False, second: True})
    assert await switched_on(here) == [second]


async def test_of_two_entries_for_one_capability_the_later_counts(here: Side) -> None:
    await here.execute(
        "migrate-set-capabilities",
        capabilities=[
            *(entry("events"), entry("xbzrle"), entry("events", False)),
            *(entry("multifd"), entry("multifd", False)),
        ],
    )
    assert await switched_on(here) == ["xbzrle"]


@pytest.mark.seed("S20")
async def test_capabilities_that_are_not_named_stay(here: Side) -> None:
    await here.switch(events=True, xbzrle=True)
    await here.execute("migrate-set-capabilities", capabilities=[])
    await here.switch(return_path=True, xbzrle=False)
    assert await switched_on(here) == ["events", "return-path"]


@pytest.mark.parametrize(
    ("position", "arguments"),
    [
        ("capabilities", {}),
        ("capabilities", {"capabilities": entry("events")}),
        ("capabilities[0]", {"capabilities": ["events"]}),
        ("capabilities[0].state", {"capabilities": [{"capability": "events"}]}),
        ("capabilities[0].capability", {"capabilities": [{"state": True}]}),
        ("capabilities[1].capability", {"capabilities": [entry("events"), entry("compress")]}),
        ("capabilities[0].capability", {"capabilities": [entry("x-block")]}),
        ("capabilities[0].capability", {"capabilities": [entry("EVENTS")]}),
        ("capabilities[0].state", {"capabilities": [{"capability": "events", "state": 1}]}),
        ("capabilities[0].state", {"capabilities": [{"capability": "events", "state": "on"}]}),
        ("capabilities[0].value", {"capabilities": [{**entry("events"), "value": True}]}),
        ("events", {"capabilities": [], "events": True}),
    ],
)
async def test_capabilities_are_refused_at_the_place_that_is_wrong(
    here: Side, position: str, arguments: Json
) -> None:
    assert f"'{position}'" in await here.refusal("migrate-set-capabilities", **arguments)


@pytest.mark.seed("S20", "S72")
async def test_capabilities_stay_as_they_are_while_a_migration_is_under_way(bench: Bench) -> None:
    here, there = bench.here, bench.there
    await bench.begin()
    for side in (here, there):
        text = await side.refusal("migrate-set-capabilities", capabilities=[entry("events")])
        assert "while a migration is under way" in text
    await bench.finish()
    for side in (here, there):
        await side.switch(events=True)
        assert await switched_on(side) == ["events"]


@pytest.mark.seed("S20")
async def test_capabilities_stay_as_they_are_while_a_migration_is_being_cancelled(
    bench: Bench,
) -> None:
    here = bench.here
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    await here.refusal("migrate-set-capabilities", capabilities=[entry("events")])
    gate = here.guest.hold("resume")
    await here.execute("migrate_cancel")
    await here.reached("cancelling")
    await here.refusal("migrate-set-capabilities", capabilities=[entry("events")])
    gate.set()
    await here.reached("cancelled")
    await here.switch(events=True)


async def test_destination_may_set_capabilities_until_a_source_comes(bench: Bench) -> None:
    await bench.there.execute("migrate-incoming", uri="unix:/run/there.sock")
    await bench.there.switch(events=True)
    assert await switched_on(bench.there) == ["events"]
    assert bench.there.host.incoming is not None
    assert bench.there.host.incoming.settings.has(Capability.EVENTS)


@pytest.mark.parametrize("before", [True, False])
async def test_destination_that_waits_for_a_source_keeps_multifd_as_it_is(
    bench: Bench, before: bool
) -> None:
    there = bench.there
    await there.switch(multifd=before)
    await there.execute("migrate-incoming", uri="unix:/run/there.sock")
    text = await there.refusal(
        "migrate-set-capabilities", capabilities=[entry("multifd", not before), entry("events")]
    )
    assert "cannot be changed once a source is waited for" in text
    await there.switch(multifd=before, events=True)
    assert await switched_on(there) == ["events", *(["multifd"] if before else [])]


async def test_auto_converge_is_refused_where_the_guest_cannot_be_slowed_down(here: Side) -> None:
    here.guest.can_throttle = False
    text = await here.refusal(
        "migrate-set-capabilities", capabilities=[entry("events"), entry("auto-converge")]
    )
    assert "the guest cannot be slowed down" in text
    assert (
        await here.execute("migrate-set-capabilities", capabilities=[entry("auto-converge", False)])
        == {}
    )


@pytest.mark.seed("S48")
async def test_settings_outlast_a_migration(bench: Bench) -> None:
    here = bench.here
    await here.switch(events=True, return_path=True)
    await here.execute("migrate-set-parameters", downtime_limit=77)
    before = await here.execute("query-migrate-parameters")
    await here.execute("migrate", uri="unix:/nobody")
    await here.reached("failed")
    assert await switched_on(here) == ["events", "return-path"]
    assert await here.execute("query-migrate-parameters") == before
