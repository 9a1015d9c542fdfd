"""What makes no sense is refused before anything begins."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import pytest

from transship.abc.settings import QEMU_10_0, Capability, Parameters, Settings
from transship.assembly import migrate, receive
from transship.errors import BlockedError, PluginError
from transship.testing import FakeGuest

if TYPE_CHECKING:
    from collections.abc import Callable

both_sides = pytest.mark.parametrize("begin", [migrate, receive])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("max_bandwidth_bytes_per_s", -1),
        ("downtime_limit_s", -0.1),
        ("downtime_limit_s", math.nan),
        ("switchover_bandwidth_bytes_per_s", -1),
        ("xbzrle_cache_bytes", 0),
        ("xbzrle_cache_bytes", 3 << 20),
        ("multifd_channels", 0),
        ("multifd_channels", 256),
        ("multifd_zlib_level", 10),
        ("multifd_zlib_level", -1),
        ("multifd_zstd_level", 21),
        ("throttle_trigger_percent", 0),
        ("throttle_initial_percent", 0),
        ("throttle_increment_percent", 100),
        ("throttle_max_percent", 100),
        ("announce_initial_s", -1.0),
        ("announce_rounds", -1),
        ("connect_timeout_s", 0.0),
        ("stall_timeout_s", -1.0),
        ("handover_timeout_s", math.nan),
        ("guest_timeout_s", 0.0),
        ("cleanup_timeout_s", 0.0),
    ],
)
def test_senseless_parameter_is_refused_by_name(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {wrong}\b"):
        dataclasses.replace(QEMU_10_0, **{name: wrong})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_bandwidth_bytes_per_s", 0),
        ("downtime_limit_s", 0),
        ("downtime_limit_s", math.inf),
        ("xbzrle_cache_bytes", 1 << 50),
        ("multifd_channels", 1),
        ("multifd_channels", 255),
        ("multifd_zlib_level", 0),
        ("multifd_zstd_level", 20),
        ("stall_timeout_s", math.inf),
    ],
)
def test_extreme_parameter_is_taken(name: str, value: Any) -> None:
    assert getattr(dataclasses.replace(QEMU_10_0, **{name: value}), name) == value


def test_unknown_capability_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BlockedError, match=r"no such capability; .*multifd.* found flying"):
        Settings(frozenset({"flying", "events"}))


def test_every_capability_can_be_on_alone() -> None:
    for capability in Capability:
        assert Settings(frozenset({capability})).has(capability)


@both_sides
@pytest.mark.parametrize(
    ("capabilities", "reason"),
    [(["flying"], "no such capability"), (["xbzrle", "multifd"], "exclude each other")],
)
def test_migration_with_capabilities_that_cannot_be_had_is_refused(
    begin: Callable[..., object], capabilities: list[str], reason: str
) -> None:
    with pytest.raises(BlockedError, match=reason):
        begin(FakeGuest({}), "anywhere:", capabilities=capabilities)


@both_sides
def test_migration_with_a_method_of_compression_that_is_not_there_is_refused(
    begin: Callable[..., object],
) -> None:
    parameters = Parameters(multifd_compression="no-such-method")
    with pytest.raises(PluginError, match="no compression method 'no-such-method'"):
        begin(FakeGuest({}), "anywhere:", parameters=parameters)
