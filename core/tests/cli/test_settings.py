"""What people write after ``--set`` and ``--cap``, and what QMP is told."""

from __future__ import annotations

import pytest

from transship.cli.settings import milliseconds, parse_capabilities, parse_parameters


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("downtime-limit=300ms", 300),
        ("downtime-limit=2s", 2000),
        ("downtime-limit=300", 300),
        ("downtime-limit=0s", 0),
        ("x-checkpoint-delay=1min", 60_000),
        ("max-bandwidth=1GiB/s", 1 << 30),
        ("max-bandwidth=1000", 1000),
        ("max-bandwidth=unlimited", 0),
        ("max-bandwidth=-1", -1),
        ("max-postcopy-bandwidth=100MB/s", 100_000_000),
        ("avail-switchover-bandwidth=1MiB/s", 1 << 20),
        ("xbzrle-cache-size=64MiB", 64 << 20),
        ("multifd-channels=4", 4),
        ("cpu-throttle-tailslow=on", True),
        ("cpu-throttle-tailslow=FALSE", False),
        ("some-new-thing=64MiB", "64MiB"),
        ("multifd-compression=zstd", "zstd"),
        ("multifd-compression=none", "none"),
        ("tls-creds=", ""),
        ("tls-creds=1", "1"),
        ("mode=1", "1"),
        ("zero-page-detection=on", "on"),
        ("tls-hostname=on", "on"),
        ("tls-authz=a=b", "a=b"),
    ],
)
def test_parameter_is_converted_to_the_unit_of_the_protocol(text: str, value: object) -> None:
    (converted,) = parse_parameters([text]).values()
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    "texts",
    [
        ["downtime-limit"],
        ["=3"],
        ["downtime-limit=3 parsecs"],
        ["downtime-limit=64MiB"],
        ["downtime-limit=0.1ms"],
        ["max-bandwidth=2s"],
        ["xbzrle-cache-size=on"],
        ["multifd-channels=2", "multifd-channels=3"],
    ],
)
def test_parameter_that_makes_no_sense_is_named(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=texts[0].partition("=")[0] or "="):
        parse_parameters(texts)


def test_capability_is_on_unless_it_is_switched_off() -> None:
    switched = parse_capabilities(["a", "b=on", "c=off", "d=TRUE", "e=false"])
    assert switched == {"a": True, "b": True, "c": False, "d": True, "e": False}


@pytest.mark.parametrize("texts", [["a=maybe"], ["=on"], [""], ["a=on", "a=off"]])
def test_capability_that_makes_no_sense_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="switche"):
        parse_capabilities(texts)


def test_time_is_rounded_but_not_to_nothing() -> None:
    assert milliseconds(0.0014) == 1
    assert milliseconds(0) == 0
    with pytest.raises(ValueError, match="less than a millisecond"):
        milliseconds(0.0001)
