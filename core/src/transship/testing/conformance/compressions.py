"""What a method of compression must do, as a class to inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from transship.plugin.compression import create_compression
from transship.testing import (
    compression_checks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc.compression import Compression
    from transship.testing.compression_checks import MakeMethod


class CompressionPlugin(Protocol):
    """A module or object with the hook of a method of compression."""

    @property
    def create_compression(self) -> Callable[[], Compression]: ...


class CompressionConformance:
    """What every method must do; inherit it, and override ``plugin`` and ``name``."""

    # Required

    @pytest.fixture
    def plugin(self) -> CompressionPlugin:
        """The module or object with the hook."""
        raise NotImplementedError("override the fixture plugin")

    @pytest.fixture
    def name(self) -> str:
        """The method's name, which is that of the entry point."""
        raise NotImplementedError("override the fixture name")

    # Overridable

    @pytest.fixture
    def make_method(self, plugin: CompressionPlugin, name: str) -> MakeMethod:
        """Makes the method as a migration has it made: validated."""
        return lambda: create_compression(name, plugin, "the one under test")

    # Checks

    def test_method_says_what_it_is(self, make_method: MakeMethod) -> None:
        compression_checks.check_says_what_it_is(make_method)

    def test_method_carries_many_packets(self, make_method: MakeMethod) -> None:
        compression_checks.check_carries_many_packets(make_method)

    def test_method_accepts_every_buffer(self, make_method: MakeMethod) -> None:
        compression_checks.check_accepts_every_buffer(make_method)

    def test_method_keeps_packets_within_bounds(self, make_method: MakeMethod) -> None:
        compression_checks.check_keeps_packets_within_bounds(make_method)

    def test_method_keeps_channels_apart(self, make_method: MakeMethod) -> None:
        compression_checks.check_keeps_channels_apart(make_method)

    def test_method_holds_no_views(self, make_method: MakeMethod) -> None:
        compression_checks.check_holds_no_views(make_method)

    def test_method_refuses_what_does_not_fit(self, make_method: MakeMethod) -> None:
        compression_checks.check_refuses_what_does_not_fit(make_method)

    def test_method_refuses_garbage(self, make_method: MakeMethod) -> None:
        compression_checks.check_refuses_garbage(make_method)

    def test_method_bounds_its_memory(self, make_method: MakeMethod) -> None:
        compression_checks.check_bounds_its_memory(make_method)

    def test_method_outlives_a_guest_that_writes(self, make_method: MakeMethod) -> None:
        compression_checks.check_outlives_a_guest_that_writes(make_method)
