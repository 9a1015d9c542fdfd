"""What a block device must do, as a class to inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.testing import disk_checks

if TYPE_CHECKING:
    from transship.testing.disk_checks import OpenDevice


class BlockDeviceConformance:
    """What every block device must do; inherit it, and override ``open_device``."""

    # Required

    @pytest.fixture
    def open_device(self) -> OpenDevice:
        """Opens the device, of 4 MiB or more and the same each time; see :data:`OpenDevice`."""
        raise NotImplementedError("override the fixture open_device")

    # Checks

    def test_device_says_its_size(self, open_device: OpenDevice) -> None:
        disk_checks.check_says_its_size(open_device)

    def test_device_reads_what_was_written(self, open_device: OpenDevice) -> None:
        disk_checks.check_reads_what_was_written(open_device)

    def test_device_reaches_its_end(self, open_device: OpenDevice) -> None:
        disk_checks.check_reaches_its_end(open_device)

    def test_device_accepts_every_buffer(self, open_device: OpenDevice) -> None:
        disk_checks.check_accepts_every_buffer(open_device)

    def test_device_zeroes_a_range(self, open_device: OpenDevice) -> None:
        disk_checks.check_zeroes_a_range(open_device)

    def test_device_discards_no_more_than_said(self, open_device: OpenDevice) -> None:
        disk_checks.check_discards_no_more_than_said(open_device)

    def test_device_tells_what_it_consists_of(self, open_device: OpenDevice) -> None:
        disk_checks.check_tells_what_it_consists_of(open_device)

    def test_device_refuses_what_is_outside(self, open_device: OpenDevice) -> None:
        disk_checks.check_refuses_what_is_outside(open_device)

    def test_device_serves_several_threads(self, open_device: OpenDevice) -> None:
        disk_checks.check_serves_several_threads(open_device)

    def test_device_keeps_what_was_written(self, open_device: OpenDevice) -> None:
        disk_checks.check_keeps_what_was_written(open_device)

    def test_device_is_acquired_and_released(self, open_device: OpenDevice) -> None:
        disk_checks.check_is_acquired_and_released(open_device)

    def test_device_closes_for_good(self, open_device: OpenDevice) -> None:
        disk_checks.check_closes_for_good(open_device)

    def test_device_holds_no_views(self, open_device: OpenDevice) -> None:
        disk_checks.check_holds_no_device_views(open_device)
