"""Every behaviour that this project began with is shown by a test that names it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [f"S{number}" for number in range(1, 80)]


def _load_seed() -> Any:
    """The part of the documentation that knows the rows; Sphinx itself is not needed."""
    folder = ROOT / "docs" / "_ext" / "code_reference"
    name = "code_reference_of_the_seed"
    found = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert found is not None
    assert found.loader is not None
    package = sys.modules[name] = importlib.util.module_from_spec(found)
    found.loader.exec_module(package)
    return sys.modules[f"{name}.seed"]


seed = _load_seed()


@pytest.fixture(scope="module")
def shown() -> dict[str, list[str]]:
    """The rows that tests name, with those tests."""
    named: dict[str, list[str]] = seed.tests()
    return named


@pytest.mark.parametrize("row", ROWS)
def test_row_is_shown_by_a_test(row: str, shown: dict[str, list[str]]) -> None:
    assert row in shown, f"no test is marked with {row}: {seed.rows()[row]}"


def test_every_row_is_described_once_and_in_order() -> None:
    rows = seed.rows()
    assert list(rows) == ROWS
    assert all(rows.values())
    assert len(set(rows.values())) == len(ROWS)


def test_every_marker_names_rows_that_there_are(shown: dict[str, list[str]]) -> None:
    assert {row: names for row, names in shown.items() if row not in ROWS} == {}


def test_page_shows_every_row_with_its_tests() -> None:
    lines = seed.text().splitlines()
    assert len(lines) == len(ROWS) + 2
    for row, line in zip(ROWS, lines[2:], strict=True):
        assert line.startswith(f"| {row} | ")
        assert "`test_" in line


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("@pytest.mark.seed('S1', 'S2')\ndef test_a(): ...", {("S1", "test_a"), ("S2", "test_a")}),
        ("@pytest.mark.seed('S1')\nasync def test_a(): ...", {("S1", "test_a")}),
        ("@pytest.mark.seed('S1')\nclass TestAll: ...", {("S1", "TestAll")}),
        ("pytestmark = pytest.mark.seed('S1')", {("S1", "test_made_up")}),
        (
            "@pytest.mark.parametrize('a', [pytest.param(1, marks=pytest.mark.seed('S3'))])\n"
            "def test_a(a): ...",
            {("S3", "test_a")},
        ),
        ("@pytest.mark.soak\ndef test_a(): ...", set()),
    ],
)
def test_markers_are_found_wherever_they_stand(
    source: str, found: set[tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "test_made_up.py"
    path.write_text(source)
    assert set(seed._marks(path)) == found


@pytest.mark.parametrize(
    "mark",
    [
        "pytest.mark.seed()",
        "pytest.mark.seed(*ROWS)",
        "pytest.mark.seed(7)",
        "pytest.mark.seed('S1', row)",
    ],
)
def test_marker_that_says_nothing_readable_is_an_error(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "test_made_up.py"
    path.write_text(f"@{mark}\ndef test_a(): ...")
    with pytest.raises(ValueError, match="named by strings"):
        list(seed._marks(path))
