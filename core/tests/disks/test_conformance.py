"""Raw images do what every block device must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.disks import RawImage
from transship.testing.pytest_plugin import BlockDeviceConformance

if TYPE_CHECKING:
    from pathlib import Path

    from transship.testing import OpenDevice


class TestRawImage(BlockDeviceConformance):
    @pytest.fixture
    def open_device(self, tmp_path: Path) -> OpenDevice:
        path = tmp_path / "disk.raw"
        RawImage.create(path, 4 << 20).close()
        return lambda: RawImage.open(path)
