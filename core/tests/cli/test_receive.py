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


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (["hd"], "'hd' is not NAME=SIZE"),
        (["=1GiB"], "is not NAME=SIZE"),
        (["hd=1GiB", "hd=2GiB"], "each name once"),
        (["hd=much"], "'much'"),
        (["hd=1000"], "whole sectors of 512 bytes"),
        (["hd=0"], "whole sectors of 512 bytes"),
        (["hd=32TiB"], "no more than 16.0 TiB"),
    ],
)
def test_size_that_no_disk_has_is_wrong_usage(
    tmp_path: Path, sizes: list[str], message: str
) -> None:
    said = [argument for size in sizes for argument in ("--disk-size", size)]
    result = CliRunner().invoke(receive, ["unix:/x", "--to", str(tmp_path / "vm"), *said])
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert message in " ".join(result.output.split())
