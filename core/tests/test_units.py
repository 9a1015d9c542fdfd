"""Sizes, rates and times as people write them."""

from __future__ import annotations

import pytest

from transship import units


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("64MiB", 64 << 20),
        ("64M", 64 << 20),
        ("64MB", 64_000_000),
        ("1.5k", 1536),
        ("0", 0),
    ],
)
def test_size_is_read_as_people_write_it(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1XB", "1iB", "1 2", "0x10", "1e3"])
def test_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("1GiB/s", 1 << 30), ("100MB/s", 10**8), ("unlimited", 0), ("5M", 5 << 20)]
)
def test_rate_is_read_as_people_write_it(text: str, rate: int) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "time_s"), [("300ms", 0.3), ("2s", 2), ("1.5s", 1.5), ("0", 0), ("1min", 60)]
)
def test_time_is_read_as_people_write_it(text: str, time_s: float) -> None:
    assert units.parse_time(text) == pytest.approx(time_s)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1Gb/s", "write 0.125GB/s for 1 Gbit/s"),
        ("100mbit/s", "write 12.5MB/s for 100 mbit/s"),
        ("8kibps", "write 1KiB/s for 8 kibit/s"),
        ("10 Gb", "write 1.25GB/s for 10 Gbit/s"),
    ],
)
def test_rate_that_may_mean_bits_is_refused_with_the_same_in_bytes(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"may mean bits.*{hint}"):
        units.parse_rate(text)


@pytest.mark.parametrize("text", ["300", "1.5"])
def test_time_without_a_unit_is_refused_with_both_that_it_may_mean(text: str) -> None:
    with pytest.raises(ValueError, match=f"write {text}ms or {text}s"):
        units.parse_time(text)


@pytest.mark.parametrize(("count", "text"), [(0, "0 passes"), (1, "1 pass"), (2, "2 passes")])
def test_one_thing_is_counted_as_one(count: int, text: str) -> None:
    assert units.counted(count, "pass", "passes") == text


def test_time_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a time"):
        units.parse_time("3 weeks")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1536, "1.50 KiB"), (1 << 30, "1.00 GiB"), (300 << 20, "300 MiB")],
)
def test_size_is_written_with_three_digits(size: int, text: str) -> None:
    assert units.format_size(size) == text


@pytest.mark.parametrize(
    ("time_s", "text"), [(2e-5, "20 µs"), (0.0351, "35.1 ms"), (2.414, "2.41 s")]
)
def test_time_is_written_with_the_unit_that_suits_it(time_s: float, text: str) -> None:
    assert units.format_time(time_s) == text
