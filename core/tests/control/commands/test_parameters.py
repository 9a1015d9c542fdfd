"""Parameters: which there are, what they may be, and when they may be set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship import assembly
from transship.abc.compression import Compression, Compressor, Decompressor
from transship.control.commands.parameters import MigrationParameters, default_of
from transship.errors import PluginError
from transship.plugin import discovery

from .bench import PAGE, RAM, Bench, Side
from .settings_helpers import DEFAULTS, members_of, parameter

if TYPE_CHECKING:
    from transship.abc.settings import Parameters


class Squeeze(Compression):
    name = "squeeze"
    wire_flag = 0x30
    most_growth_bytes = 0

    def compressor(self, parameters: Parameters) -> Compressor:
        raise NotImplementedError

    def decompressor(self) -> Decompressor:
        raise NotImplementedError


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
    monkeypatch.setattr(discovery, "installed", lambda group: [])
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


async def test_incremental_copy_of_disks_is_shown_when_it_is_on(here: Side) -> None:
    for is_on in (True, False):
        await here.execute("migrate-set-parameters", block_incremental=is_on)
        present = await here.execute("query-migrate-parameters")
        assert present.get("block-incremental", False) is is_on


MAPPING = [
    {
        "node-name": "disk0",
        "alias": "a",
        "bitmaps": [
            {"name": "backup", "alias": "b", "transform": {"persistent": True}},
            {"name": "other", "alias": "o"},
        ],
    }
]


async def test_mapping_of_bitmaps_is_absent_until_it_is_set(here: Side) -> None:
    assert "block-bitmap-mapping" not in await here.execute("query-migrate-parameters")
    for mapping in (MAPPING, []):
        await here.execute("migrate-set-parameters", block_bitmap_mapping=mapping)
        present = await here.execute("query-migrate-parameters")
        assert present["block-bitmap-mapping"] == mapping


async def test_mapping_in_which_names_are_twice_is_refused(here: Side) -> None:
    twice = [*MAPPING, {**MAPPING[0], "node-name": "disk1"}]
    text = await here.refusal("migrate-set-parameters", block_bitmap_mapping=twice)
    assert "node alias 'a' is there twice" in text
