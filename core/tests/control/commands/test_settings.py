"""Capabilities and parameters, by their names of today and of 2014."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship import assembly
from transship.abc.compression import Compression, Compressor, Decompressor
from transship.abc.settings import QEMU_10_0, Capability, Parameters
from transship.control.commands.capabilities import LACKING, MigrationCapability
from transship.control.commands.parameters import PARAMETERS, MigrationParameters, default_of
from transship.control.qapi.composites import ObjectType
from transship.control.qapi.declaring import type_of
from transship.errors import PluginError
from transship.hosting.host import open_host
from transship.plugin import discovery

from .bench import PAGE, RAM, Bench, Json, Machine, Refused, Side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AVAILABLE = [one for one in MigrationCapability if one not in LACKING]


class Squeeze(Compression):
    name = "squeeze"
    wire_flag = 0x20
    most_growth_bytes = 0

    def compressor(self, parameters: Parameters) -> Compressor:
        raise NotImplementedError

    def decompressor(self) -> Decompressor:
        raise NotImplementedError


def entry(capability: str, state: bool = True) -> Json:
    return {"capability": capability, "state": state}


async def switched_on(side: Side) -> list[str]:
    """The capabilities that are on."""
    capabilities = await side.execute("query-migrate-capabilities")
    return [one["capability"] for one in capabilities if one["state"]]


async def parameter(side: Side, name: str) -> object:
    parameters: Json = await side.execute("query-migrate-parameters")
    return parameters[name]


@pytest.fixture
async def fresh() -> AsyncIterator[Side]:
    """A host whose settings nobody has touched."""
    async with open_host(guest := Machine()) as host:
        yield Side(guest, host)


@pytest.fixture
async def schema(fresh: Side) -> dict[str, Json]:
    """What ``query-qmp-schema`` says, by name."""
    return {one["name"]: one for one in await fresh.execute("query-qmp-schema")}


def members_of(schema: dict[str, Json], command: str) -> dict[str, Json]:
    """The arguments of a command, by name."""
    return {one["name"]: one for one in schema[schema[command]["arg-type"]]["members"]}


# --- capabilities ---------------------------------------------------------------------------------


@pytest.mark.seed("S21")
async def test_all_capabilities_of_qemu_are_listed_in_its_order_and_off(fresh: Side) -> None:
    listed = await fresh.execute("query-migrate-capabilities")
    assert [one["capability"] for one in listed] == [
        *("xbzrle", "rdma-pin-all", "auto-converge", "zero-blocks", "events", "postcopy-ram"),
        *("x-colo", "release-ram", "return-path", "pause-before-switchover", "multifd"),
        *("dirty-bitmaps", "postcopy-blocktime", "late-block-activate", "x-ignore-shared"),
        *("validate-uuid", "background-snapshot", "zero-copy-send", "postcopy-preempt"),
        *("switchover-ack", "dirty-limit", "mapped-ram"),
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
    for wrong in ("multifd", "zero-blocks"):  # one that xbzrle excludes, one that is lacking
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
        ("capabilities[0].capability", {"capabilities": [entry("block")]}),
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


# --- parameters -----------------------------------------------------------------------------------

DEFAULTS = {
    "announce-initial": 50,
    "announce-max": 550,
    "announce-rounds": 5,
    "announce-step": 100,
    "throttle-trigger-threshold": 50,
    "cpu-throttle-initial": 20,
    "cpu-throttle-increment": 10,
    "cpu-throttle-tailslow": False,
    "max-bandwidth": 128 << 20,
    "avail-switchover-bandwidth": 0,
    "downtime-limit": 300,
    "multifd-channels": 2,
    "multifd-compression": "none",
    "multifd-zlib-level": 1,
    "multifd-zstd-level": 1,
    "xbzrle-cache-size": 64 << 20,
    "max-cpu-throttle": 99,
}
"""QEMU 10.0's."""


@pytest.mark.seed("S8", "S11", "S12")
async def test_parameters_are_those_of_qemu_at_first(fresh: Side) -> None:
    assert await fresh.execute("query-migrate-parameters") == DEFAULTS
    assert {name: default_of(name) for name in DEFAULTS} == DEFAULTS


RANGES = [
    ("announce-initial", 0, 100_000),
    ("announce-max", 0, 100_000),
    ("announce-rounds", 0, 1000),
    ("announce-step", 1, 10_000),
    ("throttle-trigger-threshold", 1, 100),
    ("cpu-throttle-initial", 1, 99),
    ("cpu-throttle-increment", 1, 99),
    ("max-cpu-throttle", 20, 99),
    ("max-bandwidth", 0, (1 << 64) - 1),
    ("avail-switchover-bandwidth", 0, (1 << 64) - 1),
    ("downtime-limit", 0, 2_000_000),
    ("multifd-channels", 1, 255),
    ("multifd-zlib-level", 0, 9),
    ("multifd-zstd-level", 0, 20),
    ("xbzrle-cache-size", PAGE, 1 << 63),
]


@pytest.mark.parametrize(("name", "least", "most"), RANGES)
async def test_parameter_takes_what_is_in_its_range_and_gives_it_back(
    fresh: Side, name: str, least: int, most: int
) -> None:
    for value in (least, most):
        assert await fresh.execute("migrate-set-parameters", **{name: value}) == {}
        assert await fresh.execute("query-migrate-parameters") == DEFAULTS | {name: value}


@pytest.mark.parametrize(("name", "least", "most"), RANGES)
async def test_parameter_refuses_what_is_out_of_its_range(
    here: Side, name: str, least: int, most: int
) -> None:
    for value in (least - 1, most + 1):
        if name in ("max-bandwidth", "avail-switchover-bandwidth") and value == -1:
            continue  # as in C: see below
        assert f"'{name}'" in await here.refusal("migrate-set-parameters", **{name: value})


@pytest.mark.parametrize("name", ["max-bandwidth", "avail-switchover-bandwidth"])
async def test_minus_one_is_the_highest_bandwidth(here: Side, name: str) -> None:
    await here.execute("migrate-set-parameters", **{name: -1})
    assert await parameter(here, name) == (1 << 64) - 1


@pytest.mark.parametrize("value", [3 * PAGE, PAGE + 1, PAGE // 2, 0, (1 << 64) - 1])
async def test_cache_size_of_today_must_be_a_power_of_two(here: Side, value: int) -> None:
    text = await here.refusal("migrate-set-parameters", **{"xbzrle-cache-size": value})
    assert f"a power of two of at least {PAGE} bytes" in text


async def test_cache_may_be_larger_than_the_guest_today(here: Side) -> None:
    await here.execute("migrate-set-parameters", **{"xbzrle-cache-size": 1024 * RAM})
    assert await parameter(here, "xbzrle-cache-size") == 1024 * RAM


async def test_tailslow_is_yes_or_no(here: Side) -> None:
    for value in (True, False):
        await here.execute("migrate-set-parameters", **{"cpu-throttle-tailslow": value})
        assert await parameter(here, "cpu-throttle-tailslow") is value
    for wrong in (0, 1, "on"):
        await here.refusal("migrate-set-parameters", **{"cpu-throttle-tailslow": wrong})


@pytest.fixture
def knows_squeeze(monkeypatch: pytest.MonkeyPatch) -> Squeeze:
    """A method of compression that is installed; there is no other."""
    method = Squeeze()

    def find(name: str) -> Squeeze:
        if name != method.name:
            raise PluginError(f"no compression method {name!r}: install transship-{name}")
        return method

    monkeypatch.setattr(assembly, "find_compression", find)
    return method


async def test_installed_method_of_compression_is_chosen_and_another_is_not(
    here: Side, knows_squeeze: Squeeze
) -> None:
    await here.execute("migrate-set-parameters", **{"multifd-compression": "squeeze"})
    text = await here.refusal(
        "migrate-set-parameters", **{"multifd-compression": "zstd", "multifd-channels": 4}
    )
    assert text == "no compression method 'zstd': install transship-zstd"
    assert await parameter(here, "multifd-compression") == "squeeze"
    assert await parameter(here, "multifd-channels") == 2
    await here.execute("migrate-set-parameters", **{"multifd-compression": "none"})
    assert await parameter(here, "multifd-compression") == "none"


async def test_destination_takes_another_method_until_a_source_comes(
    bench: Bench, knows_squeeze: Squeeze
) -> None:
    there = bench.there
    await there.execute("migrate-incoming", uri="unix:/run/there.sock")
    assert there.host.incoming is not None
    await there.execute("migrate-set-parameters", **{"multifd-compression": "squeeze"})
    assert there.host.incoming.settings.compression is knows_squeeze
    await there.execute("migrate-set-parameters", **{"downtime-limit": 7})
    assert there.host.incoming.settings.compression is knows_squeeze
    await there.execute("migrate-set-parameters", **{"multifd-compression": "none"})
    assert there.host.incoming.settings.compression is None


async def test_method_stays_as_it_is_while_a_migration_is_under_way(
    bench: Bench, knows_squeeze: Squeeze
) -> None:
    await bench.begin()
    for side in (bench.here, bench.there):
        await side.execute("migrate-set-parameters", **{"multifd-compression": "squeeze"})
        assert side.host.active is not None
        assert side.host.active.settings.compression is None
    await bench.finish()


async def test_methods_in_the_schema_are_those_that_are_installed(
    monkeypatch: pytest.MonkeyPatch, fresh: Side
) -> None:
    monkeypatch.setattr(discovery, "_installed", lambda group: [])
    schema = {one["name"]: one for one in await fresh.execute("query-qmp-schema")}
    type_ = members_of(schema, "migrate-set-parameters")["multifd-compression"]["type"]
    assert schema[type_]["meta-type"] == "enum"
    assert schema[type_]["values"] == ["none"]


MISTYPED: dict[str, list[object]] = {
    "max-bandwidth": ["1M", 1.5, True, None, [], {}, 1 << 64],
    "downtime-limit": ["300", 0.5, None, False],
    "cpu-throttle-initial": [256, -1, 20.5, "20"],
    "multifd-compression": [1, True, None, []],
}


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, values in MISTYPED.items() for wrong in values]
)
async def test_parameter_refuses_what_is_of_another_type(
    here: Side, name: str, wrong: object
) -> None:
    assert f"'{name}'" in await here.refusal("migrate-set-parameters", **{name: wrong})


@pytest.mark.parametrize(("first", "most"), [(60, 50), (21, 20), (99, 98)])
async def test_most_that_is_withheld_is_no_less_than_the_first(
    here: Side, first: int, most: int
) -> None:
    values = {"cpu-throttle-initial": first, "max-cpu-throttle": most}
    text = await here.refusal("migrate-set-parameters", **values)
    assert "'max-cpu-throttle'" in text


async def test_parameters_are_looked_at_together_with_those_that_stay(here: Side) -> None:
    await here.execute("migrate-set-parameters", **{"max-cpu-throttle": 50})
    await here.refusal("migrate-set-parameters", **{"cpu-throttle-initial": 60})
    await here.execute("migrate-set-parameters", **{"cpu-throttle-initial": 40})
    await here.refusal("migrate-set-parameters", **{"max-cpu-throttle": 30})
    both = {"cpu-throttle-initial": 70, "max-cpu-throttle": 80}
    await here.execute("migrate-set-parameters", **both)
    assert (await here.execute("query-migrate-parameters")).items() >= both.items()


async def test_parameters_are_set_together_or_not_at_all(here: Side) -> None:
    good = {"max-bandwidth": 1, "downtime-limit": 2, "announce-rounds": 3}
    for wrong in (
        {"announce-step": 0},
        {"xbzrle-cache-size": 3},
        {"max-cpu-throttle": 1},
        {"multifd-channels": 0},
        {"multifd-compression": "no-such-method"},
        {"nonsense": 1},
    ):
        await here.refusal("migrate-set-parameters", **good, **wrong)
    assert await here.execute("migrate-set-parameters", **good) == {}


async def test_changing_no_parameter_changes_none(here: Side) -> None:
    before = await here.execute("query-migrate-parameters")
    assert await here.execute("migrate-set-parameters") == {}
    assert await here.execute("query-migrate-parameters") == before


@pytest.mark.parametrize("name", sorted(MigrationParameters.lacking))
async def test_parameter_that_is_lacking_is_refused_with_the_reason(here: Side, name: str) -> None:
    values: list[object] = [1, "", None, [], True]
    for value in values:
        text = await here.refusal("migrate-set-parameters", **{name: value})
        assert text == f"parameter '{name}' is not available: {MigrationParameters.lacking[name]}"


async def test_parameter_that_does_not_exist_is_unexpected(here: Side) -> None:
    text = await here.refusal("migrate-set-parameters", nonsense=1)
    assert "'nonsense'" in text
    assert "unexpected" in text


@pytest.mark.seed("S25", "S26")
async def test_parameters_act_upon_a_migration_that_is_under_way(bench: Bench) -> None:
    here, there = bench.here, bench.there
    await bench.begin()
    for side in (here, there):
        await side.execute("migrate-set-parameters", max_bandwidth=123456, downtime_limit=7)
        assert side.host.active is not None
        assert side.host.active.parameters.max_bandwidth_bytes_per_s == 123456
        assert side.host.active.parameters.downtime_limit_s == 0.007
    await bench.finish()
    assert await parameter(here, "max-bandwidth") == 123456


# --- the schema -----------------------------------------------------------------------------------


async def test_schema_has_the_parameters_that_there_are_and_no_others(
    schema: dict[str, Json],
) -> None:
    assert members_of(schema, "migrate-set-parameters").keys() == DEFAULTS.keys()
    returned = schema[schema["query-migrate-parameters"]["ret-type"]]["members"]
    assert {one["name"] for one in returned} == DEFAULTS.keys()


def test_every_parameter_is_a_member_and_every_member_a_parameter() -> None:
    type_ = type_of(MigrationParameters)
    assert isinstance(type_, ObjectType)
    assert type_.members.keys() == PARAMETERS.keys()


async def test_every_parameter_of_qemu_is_there_or_refused_with_a_reason(fresh: Side) -> None:
    of_qemu = {
        *("announce-initial", "announce-max", "announce-rounds", "announce-step"),
        *("throttle-trigger-threshold", "cpu-throttle-initial", "cpu-throttle-increment"),
        *("cpu-throttle-tailslow", "max-cpu-throttle", "max-bandwidth", "downtime-limit"),
        *("avail-switchover-bandwidth", "max-postcopy-bandwidth", "multifd-channels"),
        *("multifd-compression", "multifd-zlib-level", "multifd-zstd-level", "mode"),
        *("multifd-qatzip-level", "xbzrle-cache-size", "zero-page-detection", "tls-creds"),
        *("tls-hostname", "tls-authz", "block-bitmap-mapping", "direct-io", "vcpu-dirty-limit"),
        *("x-vcpu-dirty-limit-period", "x-checkpoint-delay"),
    }
    assert DEFAULTS.keys() | MigrationParameters.lacking.keys() == of_qemu
    assert not DEFAULTS.keys() & MigrationParameters.lacking.keys()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("migrate", {"uri", "channels", "detach", "resume", "blk", "inc"}),
        ("migrate-incoming", {"uri", "channels", "exit-on-error"}),
        ("migrate-continue", {"state"}),
        ("migrate-set-capabilities", {"capabilities"}),
        ("migrate_set_speed", {"value"}),
        ("migrate_set_downtime", {"value"}),
        ("migrate-set-cache-size", {"value"}),
        ("announce-self", {"initial", "max", "rounds", "step", "interfaces", "id"}),
        ("getfd", {"fdname"}),
        ("closefd", {"fdname"}),
        ("qmp_capabilities", {"enable"}),
        ("migrate_cancel", set()),
        ("query-migrate", set()),
        ("query-status", set()),
        ("stop", set()),
        ("cont", set()),
        ("quit", set()),
    ],
)
async def test_schema_has_the_arguments_of_a_command(
    schema: dict[str, Json], command: str, arguments: set[str]
) -> None:
    assert schema[command]["meta-type"] == "command"
    assert members_of(schema, command).keys() == arguments


@pytest.mark.parametrize(
    "command",
    [
        *("migrate_set_speed", "migrate_set_downtime", "migrate-set-cache-size"),
        "query-migrate-cache-size",
    ],
)
async def test_commands_of_2014_are_deprecated(schema: dict[str, Json], command: str) -> None:
    assert "deprecated" in schema[command]["features"]


@pytest.mark.parametrize(
    "command",
    [
        *("migrate-start-postcopy", "migrate-pause", "migrate-recover", "calc-dirty-rate"),
        *("snapshot-save", "x-colo-lost-heartbeat", "query-colo-status", "yank", "add-fd"),
        *("set-vcpu-dirty-limit", "xen-save-devices-state", "migrate-set-speed", "migrate-cancel"),
    ],
)
async def test_command_that_is_lacking_is_not_found(fresh: Side, command: str) -> None:
    with pytest.raises(Refused) as caught:
        await fresh.execute(command)
    assert caught.value.error_class == "CommandNotFound"
    assert f"'{command}'" in caught.value.text


async def test_commands_are_listed_as_the_schema_has_them(
    fresh: Side, schema: dict[str, Json]
) -> None:
    listed = {one["name"] for one in await fresh.execute("query-commands")}
    assert listed == {name for name, one in schema.items() if one["meta-type"] == "command"}


# --- the commands of 2014 -------------------------------------------------------------------------


@pytest.mark.seed("S25")
@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (0, 0),
        (1, 1),
        (32 << 20, 32 << 20),
        (-1, 0),
        (-(1 << 63), 0),
        ((1 << 63) - 1, (1 << 63) - 1),
    ],
)
async def test_speed_is_clamped_and_is_the_bandwidth_of_today(
    here: Side, value: int, taken: int
) -> None:
    assert await here.execute("migrate_set_speed", value=value) == {}
    assert await parameter(here, "max-bandwidth") == taken


@pytest.mark.seed("S25")
async def test_speed_acts_upon_a_migration_that_is_under_way(bench: Bench) -> None:
    await bench.begin()
    await bench.here.execute("migrate_set_speed", value=98765)
    assert bench.here.host.active is not None
    assert bench.here.host.active.parameters.max_bandwidth_bytes_per_s == 98765
    await bench.finish()


@pytest.mark.seed("S26", "S12")
@pytest.mark.parametrize(
    ("value", "taken_s", "shown_ms"),
    [
        (0, 0.0, 0),
        (0.0, 0.0, 0),
        (0.03, 0.03, 30),
        (0.5, 0.5, 500),
        (1, 1.0, 1000),
        (2.25, 2.25, 2250),
        (0.0001, 0.0001, 0),
        (1.9e-9, 1e-9, 0),
        (1e-12, 0.0, 0),
        (-0.5, 0.0, 0),
        (-1e300, 0.0, 0),
        (2_000_000, 2e6, 2_000_000_000),
        (1e30, (2.0**64 - 1) / 1e9, 18_446_744_073_710),
        (1e308, (2.0**64 - 1) / 1e9, 18_446_744_073_710),
        ((1 << 63) - 1, (2.0**63 - 1), 9_223_372_036_854_775_808_000),
    ],
)
async def test_downtime_in_seconds_is_clamped_and_is_the_limit_of_today(
    here: Side, value: float, taken_s: float, shown_ms: int
) -> None:
    assert await here.execute("migrate_set_downtime", value=value) == {}
    limit_s = here.host.settings.parameters.downtime_limit_s
    assert limit_s == pytest.approx(min(taken_s, (2.0**64 - 1) / 1e9), rel=1e-12)
    assert await parameter(here, "downtime-limit") == pytest.approx(
        min(shown_ms, 18_446_744_073_710), rel=1e-9
    )


@pytest.mark.seed("S26")
async def test_downtime_of_2014_does_not_stand_in_the_way_of_parameters_of_today(
    here: Side,
) -> None:
    await here.execute("migrate_set_downtime", value=1e30)
    await here.execute("migrate-set-parameters", max_bandwidth=5)
    assert await parameter(here, "max-bandwidth") == 5


@pytest.mark.parametrize("command", ["migrate_set_speed", "migrate-set-cache-size"])
@pytest.mark.parametrize("wrong", [None, "1", 1.5, True, 1 << 63, 1 << 64, -(1 << 63) - 1, [1]])
async def test_value_of_2014_is_a_whole_number_of_64_bits(
    here: Side, command: str, wrong: object
) -> None:
    assert "'value'" in await here.refusal(command, value=wrong)


@pytest.mark.parametrize("wrong", [None, "0.3", True, [0.3]])
async def test_downtime_of_2014_is_a_number(here: Side, wrong: object) -> None:
    assert "'value'" in await here.refusal("migrate_set_downtime", value=wrong)


@pytest.mark.parametrize(
    "command", ["migrate_set_speed", "migrate_set_downtime", "migrate-set-cache-size"]
)
async def test_command_of_2014_needs_its_value_and_takes_nothing_else(
    here: Side, command: str
) -> None:
    assert "'value'" in await here.refusal(command)
    assert "'unit'" in await here.refusal(command, value=1 << 13, unit="MiB")


@pytest.mark.seed("S77", "S23")
@pytest.mark.parametrize("value", [(1 << 48) + 1, (1 << 63) - 1, -1, -(1 << 63)])
async def test_cache_beyond_the_address_space_is_refused(here: Side, value: int) -> None:
    text = await here.refusal("migrate-set-cache-size", value=value)
    assert "'cache size'" in text
    assert "address space" in text


@pytest.mark.seed("S78", "S23")
@pytest.mark.parametrize("value", [RAM + 1, 2 * RAM, 1 << 48])
async def test_cache_larger_than_the_guest_is_refused(here: Side, value: int) -> None:
    text = await here.refusal("migrate-set-cache-size", value=value)
    assert "'cache size'" in text
    assert "larger than the guest's RAM" in text
    assert text == text.strip()


@pytest.mark.seed("S79", "S23")
@pytest.mark.parametrize("value", [0, 1, PAGE - 1])
async def test_cache_smaller_than_a_page_is_refused(here: Side, value: int) -> None:
    text = await here.refusal("migrate-set-cache-size", value=value)
    assert "'cache size'" in text
    assert f"a page has {PAGE} bytes" in text


@pytest.mark.seed("S23", "S24", "S53")
@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (PAGE, PAGE),
        (PAGE + 1, PAGE),
        (2 * PAGE - 1, PAGE),
        (2 * PAGE, 2 * PAGE),
        (3 * PAGE, 2 * PAGE),
        (RAM - 1, RAM // 2),
        (RAM, RAM),
    ],
)
async def test_cache_size_is_rounded_down_and_what_was_taken_is_said(
    here: Side, value: int, taken: int
) -> None:
    assert await here.execute("migrate-set-cache-size", value=value) == {}
    assert await here.execute("query-migrate-cache-size") == taken
    assert await parameter(here, "xbzrle-cache-size") == taken


@pytest.mark.seed("S24", "S11")
async def test_cache_size_is_a_plain_number(fresh: Side) -> None:
    size = await fresh.execute("query-migrate-cache-size")
    assert size == 64 << 20 == QEMU_10_0.xbzrle_cache_bytes
    assert type(size) is int


@pytest.mark.seed("S23")
async def test_cache_size_acts_upon_a_migration_that_is_under_way(bench: Bench) -> None:
    await bench.begin()
    await bench.here.execute("migrate-set-cache-size", value=4 * PAGE)
    assert bench.here.host.active is not None
    assert bench.here.host.active.parameters.xbzrle_cache_bytes == 4 * PAGE
    await bench.finish()
