from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from transship.guests.pattern import PAGE, Traits

TRAITS = st.builds(
    Traits,
    seed=st.integers(0, 2**64 - 1),
    ram_bytes=st.just(600 * PAGE),
    working_pages=st.integers(0, 600),
    dirty_rate_bytes_per_s=st.integers(0, 2**34),
    tick_ns=st.sampled_from([1000, 1_000_000, 7_777_777]),
    zero_pages=st.integers(0, 256),
)


def after(traits: Traits, ticks: int) -> bytearray:
    """RAM as a processor leaves it that really makes all ticks."""
    ram = bytearray(traits.ram_bytes)
    view = memoryview(ram)
    traits.fill(view)
    for counter in range(1, ticks + 1):
        for run in traits.runs(counter):
            traits.stamp(view, run, counter)
    return ram


@given(TRAITS, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_ram_is_a_pure_function_of_traits_and_counter(traits: Traits, ticks: int) -> None:
    assert traits.first_wrong_page(memoryview(after(traits, ticks)), ticks) is None


@given(TRAITS, st.integers(0, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_one_wrong_byte_is_found_in_its_page(
    traits: Traits, ticks: int, data: st.DataObject
) -> None:
    ram = after(traits, ticks)
    place = data.draw(st.integers(0, len(ram) - 1))
    ram[place] ^= data.draw(st.integers(1, 255))
    assert traits.first_wrong_page(memoryview(ram), ticks) == place // PAGE


@given(TRAITS, st.integers(1, 1000))
def test_last_tick_agrees_with_the_runs_of_all_ticks(traits: Traits, ticks: int) -> None:
    last = {
        page: counter
        for counter in range(1, min(ticks, 60) + 1)
        for run in traits.runs(counter)
        for page in range(run.first, run.end)
    }
    for page in range(traits.working_pages):
        assert traits.last_tick(page, min(ticks, 60)) == last.get(page, 0)


def test_no_two_filled_pages_are_alike() -> None:
    ram = bytearray(40 * 256 * PAGE)
    Traits(7, len(ram), 0, 0, 1000, 64).fill(memoryview(ram))
    pages = [bytes(ram[start : start + PAGE]) for start in range(0, len(ram), PAGE)]
    assert pages.count(bytes(PAGE)) == 40 * 64
    assert len(set(pages)) == 40 * 192 + 1


def test_rate_is_met_over_a_second() -> None:
    traits = Traits(1, 2**30, 1000, 64 * 2**20, 1_000_000, 0)
    assert traits.writes(1000) * PAGE == 64 * 2**20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 2**64),
        ("seed", -1),
        ("ram_bytes", 0),
        ("ram_bytes", 4095),
        ("working_pages", 257),
        ("dirty_rate_bytes_per_s", -1),
        ("tick_ns", 0),
        ("zero_pages", 257),
    ],
)
def test_impossible_traits_are_refused(name: str, value: int) -> None:
    possible = Traits(0, 2**20, 0, 0, 1, 0)
    with pytest.raises(ValueError, match=r"\w"):
        replace(possible, **{name: value})
