"""Every implementation of the kernels that there is here must do the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.memory import kernels
from transship.plugin.discovery import install_kernels

if TYPE_CHECKING:
    from transship.memory.kernels import Kernels

install_kernels()


@pytest.fixture(params=kernels.available(), ids=lambda implementation: implementation.name)
def implementation(request: pytest.FixtureRequest) -> Kernels:
    result: Kernels = request.param
    return result
