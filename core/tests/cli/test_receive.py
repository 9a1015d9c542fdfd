"""``transship receive`` leaves nothing behind when it never begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from transship.cli.verbs.receive import receive

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("uri", ["no-address", "carrierpigeon:loft"])
def test_receive_at_an_address_that_is_refused_leaves_no_folder(tmp_path: Path, uri: str) -> None:
    result = CliRunner().invoke(receive, [uri, "--to", str(tmp_path / "vm")])
    assert result.exit_code
    assert list(tmp_path.iterdir()) == []
