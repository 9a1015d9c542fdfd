from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from transship.errors import PluginError
from transship.plugin import hints
from transship.plugin.discovery import compression_names, find_compression, installed_plugins

from .fake_distributions import COMPRESSION, COMPRESSIONS

if TYPE_CHECKING:
    from .fake_distributions import FakeDistributions


def test_method_is_made_by_the_plugin_of_its_name_and_no_other_is_imported(
    site: FakeDistributions,
) -> None:
    wanted = site.install("fake-squeeze", COMPRESSIONS, "squeeze", COMPRESSION)
    other = site.install("fake-wring", COMPRESSIONS, "wring", COMPRESSION)
    method = find_compression("squeeze")
    assert (method.name, method.wire_flag, method.most_growth_bytes) == ("squeeze", 0x30, 8)
    assert wanted in sys.modules
    assert other not in sys.modules


def test_names_are_told_without_importing_anything(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeeze = site.install("fake-squeeze", COMPRESSIONS, "squeeze", COMPRESSION)
    site.install("fake-wring", COMPRESSIONS, "wring", COMPRESSION)
    assert {"squeeze", "wring"} <= set(compression_names())
    monkeypatch.setenv("TRANSSHIP_PLUGINS", "squeeze")
    assert compression_names() == ["squeeze"]
    assert squeeze not in sys.modules


def test_unknown_method_names_the_distribution_to_install(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "COMPRESSIONS", {"squeeze": "transship-squeeze"})
    with pytest.raises(PluginError) as caught:
        find_compression("squeeze")
    assert str(caught.value) == "no compression method 'squeeze': install transship-squeeze"
    assert caught.value.distribution == "transship-squeeze"


def test_method_nobody_knows_names_those_there_are(site: FakeDistributions) -> None:
    site.install("fake-squeeze", COMPRESSIONS, "squeeze", COMPRESSION)
    with pytest.raises(PluginError, match=r"no compression method 'wring'.*'squeeze'"):
        find_compression("wring")


def test_method_of_two_distributions_is_an_error_that_names_both(site: FakeDistributions) -> None:
    site.install("fake-squeeze", COMPRESSIONS, "squeeze", COMPRESSION)
    site.install("fake-press", COMPRESSIONS, "squeeze", COMPRESSION)
    with pytest.raises(PluginError, match="fake-press and fake-squeeze"):
        find_compression("squeeze")


def test_method_that_is_left_out_is_refused(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("fake-squeeze", COMPRESSIONS, "squeeze", COMPRESSION)
    monkeypatch.setenv("TRANSSHIP_PLUGINS", "tcp")
    with pytest.raises(PluginError, match="TRANSSHIP_PLUGINS does not allow fake-squeeze"):
        find_compression("squeeze")


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ("return Squeeze()", "return None", "made a NoneType, which is no Compression"),
        ("return Squeeze()", "return 7", "made a int, which is no Compression"),
        ("return Squeeze()", "return Squeeze(1)", "failed: TypeError: "),
        ('"squeeze"', '"wring"', "made a method called 'wring'"),
        ("    name", "    title", "failed: AttributeError: "),
        ("0x30", "0", "made a method with wire flag 0x0, not of the bits 0x3e"),
        ("0x30", "0x41", "made a method with wire flag 0x41, not of the bits 0x3e"),
        ("0x30", "0x20", "made a method with wire flag 0x20, which is QEMU's for 'qatzip'"),
        ("= 8", "= -1", "made a method whose data grow by -1 bytes at most"),
    ],
)
def test_wrong_method_names_the_plugin_and_its_distribution(
    site: FakeDistributions, right: str, wrong: str, reason: str
) -> None:
    site.install("fake-squeeze", COMPRESSIONS, "squeeze", COMPRESSION.replace(right, wrong))
    with pytest.raises(PluginError) as caught:
        find_compression("squeeze")
    text = str(caught.value)
    assert text.startswith(f"create_compression of plugin 'squeeze' of fake-squeeze {reason}")
    assert caught.value.distribution == "fake-squeeze"


def test_misspelt_hook_is_refused_and_reported(site: FakeDistributions) -> None:
    source = COMPRESSION.replace("def create_compression", "def create_compresion")
    site.install("fake-squeeze", COMPRESSIONS, "squeeze", source)
    with pytest.raises(PluginError, match="there are create_compression"):
        find_compression("squeeze")
    (report,) = [one for one in installed_plugins() if one.distribution == "fake-squeeze"]
    assert report.status == "failed"
