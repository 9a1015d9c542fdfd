"""Settings by the commands of 2014, which mean those of today."""

from __future__ import annotations

import pytest

from transship.abc.settings import QEMU_10_0

from .bench import PAGE, RAM, Bench, Side
from .settings_helpers import parameter


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
