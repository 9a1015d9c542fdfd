"""How much is carried to see whether anything is left behind."""

from __future__ import annotations

import pytest

from transship.testing import endurance_checks


class Endurance:
    """What the classes share that look whether anything is left behind."""

    # Overridable

    @pytest.fixture
    def endurance_bytes(self) -> int:
        """How much is carried to see whether anything is left of it."""
        return endurance_checks.SHORT_BYTES
