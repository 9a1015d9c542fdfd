from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from transship.errors import PluginError
from transship.plugin import requirement
from transship.plugin.discovery import find_transport, installed_plugins

from .fake_distributions import GOOD_TRANSPORT, TRANSPORTS

if TYPE_CHECKING:
    from .fake_distributions import FakeDistributions


@pytest.mark.parametrize(
    ("requirements", "made_for"),
    [
        (["transship~=0.1"], "~=0.1"),
        (["Transship (>= 0.1, <0.3)", "trio"], ">=0.1,<0.3"),
        (["transship[tui] ~= 0.1"], "~=0.1"),
        (["transship-tcp~=0.9", "transshipment>=3"], ""),
        (["transship"], ""),
        (['transship~=0.1; extra == "test"'], ""),
        ([], ""),
    ],
)
def test_pin_on_the_core_is_found(requirements: list[str], made_for: str) -> None:
    assert requirement.of_core(requirements) == made_for


@pytest.mark.parametrize(
    ("made_for", "version", "fits"),
    [
        ("~=0.1", "0.1.0", True),
        ("~=0.1", "0.2.dev1", True),
        ("~=0.1", "1.0", False),
        ("~=0.2", "0.1.9", False),
        ("~=0.1.2", "0.1.1", False),
        ("~=0.1.2", "0.1.10", True),
        ("~=0.1.2", "0.2.0", False),
        (">=0.1,<0.3", "0.2.7", True),
        (">=0.1,<0.3", "0.3", False),
        ("==0.1", "0.1.0", True),
        ("==0.1.*", "0.1.5", True),
        ("!=0.1.*", "0.1.5", False),
        ("<=0.1", "0.1.0", True),
        (">0.1", "0.1.0", False),
        ("", "0.1.0", True),
        ("===whatever", "0.1.0", True),
        (">=0.1rc1", "0.1.0", True),
    ],
)
def test_release_is_compared_with_a_pin(made_for: str, version: str, fits: bool) -> None:
    assert requirement.is_met(made_for, version) is fits


def test_plugin_made_for_another_release_is_not_imported(site: FakeDistributions) -> None:
    module = site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    metadata = site.info_folder("fake-carrier", "1.0") / "METADATA"
    metadata.write_text(metadata.read_text() + "Requires-Dist: transship~=99.1\n")
    with pytest.raises(PluginError, match=r"is made for another release .*asks for ~=99\.1"):
        find_transport("carrier")
    (report,) = [one for one in installed_plugins() if one.name == "carrier"]
    assert (report.status, report.made_for) == ("failed", "~=99.1")
    assert module not in sys.modules
