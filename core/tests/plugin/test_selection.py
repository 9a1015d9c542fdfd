"""What an administrator's file and the environment let load: exactly what they name."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from transship.errors import PluginError
from transship.plugin import selection
from transship.plugin.discovery import (
    compression_names,
    find_transport,
    install_kernels,
    installed_plugins,
    section_factories,
)

from .fake_distributions import (
    COMPRESSION,
    COMPRESSIONS,
    GOOD_TRANSPORT,
    SECTIONS,
    TRANSPORTS,
    section_factory,
)

if TYPE_CHECKING:
    from pathlib import Path

    from .fake_distributions import FakeDistributions


@pytest.fixture
def etc(site: FakeDistributions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the administrator's file is; there are two transports, and one of everything else."""
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    site.install("fake-bottle", TRANSPORTS, "bottle", GOOD_TRANSPORT)
    site.install("fake-squeeze", COMPRESSIONS, "squeeze", COMPRESSION)
    site.install("fake-state", SECTIONS, "state", section_factory())
    site.install("fake-kernels", "transship.kernels", "fake", "raise RuntimeError")
    path = tmp_path / "plugins.toml"
    monkeypatch.setattr(selection, "SYSTEM_FILE", str(path))
    return path


def usable() -> set[str]:
    """The fakes that load; checks that no other was imported."""
    ok = {one.distribution for one in installed_plugins() if one.status in ("ok", "failed")}
    imported = {name.replace("_", "-") for name in sys.modules if name.startswith("fake_")} - {
        "fake-distributions"
    }
    assert imported <= ok
    return {name for name in ok if name.startswith("fake-")}


ALL = {"fake-carrier", "fake-bottle", "fake-squeeze", "fake-state", "fake-kernels"}


@pytest.mark.parametrize(
    ("content", "loads"),
    [
        ("", ALL),
        ("allow = []", set()),
        ('allow = ["carrier", "fake-state"]', {"fake-carrier", "fake-state"}),
        ('allow = ["transports/carrier", "sections/bottle"]', {"fake-carrier"}),
        ('deny = ["carrier", "Fake_State", "kernels/fake"]', {"fake-bottle", "fake-squeeze"}),
        ('allow = ["carrier", "bottle"]\ndeny = ["transports/bottle"]', {"fake-carrier"}),
        ('deny = ["compressions/carrier"]', ALL),
    ],
)
def test_file_names_exactly_what_loads_of_every_group(
    etc: Path, content: str, loads: set[str]
) -> None:
    etc.write_text(content)
    assert usable() == loads


def test_variable_does_not_widen_what_the_file_allows(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc.write_text('allow = ["carrier", "state"]')
    monkeypatch.setenv("TRANSSHIP_PLUGINS", "carrier,bottle")
    assert usable() == {"fake-carrier"}
    with pytest.raises(PluginError, match=f"{etc} does not allow fake-bottle"):
        find_transport("bottle")
    with pytest.raises(PluginError, match="no plugin carries 'state': TRANSSHIP_PLUGINS does not"):
        raise section_factories().missing("state")


def test_variable_that_denies_wins_over_one_that_allows(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_PLUGINS", "carrier,bottle")
    monkeypatch.setenv("TRANSSHIP_PLUGINS_DENY", "fake-bottle")
    assert usable() == {"fake-carrier"}
    with pytest.raises(PluginError, match="TRANSSHIP_PLUGINS_DENY denies fake-bottle"):
        find_transport("bottle")


def test_named_file_narrows_what_the_administrators_allows(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc.write_text('allow = ["carrier", "state"]')
    mine = tmp_path / "mine.toml"
    mine.write_text('allow = ["carrier", "bottle"]')
    monkeypatch.setenv("TRANSSHIP_PLUGINS_FILE", str(mine))
    assert usable() == {"fake-carrier"}


def test_changed_file_counts_at_once(etc: Path) -> None:
    etc.write_text('deny = ["carrier"]')
    with pytest.raises(PluginError, match=f"{etc} denies fake-carrier"):
        find_transport("carrier")
    etc.write_text('deny = ["barrier"]')
    assert find_transport("carrier").distribution == "fake-carrier"


def test_plugin_that_is_not_installed_is_reported_whether_it_is_allowed_or_denied(
    etc: Path,
) -> None:
    etc.write_text('allow = ["carrier", "fake-teleport"]\ndeny = ["transports/carier"]')
    missing = {one.name: one.reason for one in installed_plugins() if one.status == "missing"}
    assert missing == {
        "fake-teleport": f"{etc} names it, and it is not installed",
        "transports/carier": f"{etc} denies it, and nothing that is installed is called so",
    }


def test_unknown_scheme_is_offered_only_what_may_load(etc: Path) -> None:
    etc.write_text('allow = ["carrier"]')
    with pytest.raises(PluginError, match=r"expected 'carrier:' \("):
        find_transport("drum")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("allow = [}", "it is no TOML: .*line 1"),
        ("deny = []\nallow = tcp", "it is no TOML: .*line 2"),
        (b"allow = ['\xff']", "it is no TOML"),
        ("allowed = []", "unknown key; expected allow or deny; found allowed"),
        ('allow = "carrier"', "allow; expected names in quotes.*; found 'carrier'"),
        ("allow = false", "allow; expected names in quotes.*; found False"),
        ("deny = 0", "deny; expected names in quotes.*; found 0"),
        ('deny = ["carrier", 7]', "deny; expected names in quotes.*; found 7"),
        ("deny = [[]]", r"deny; expected names in quotes.*; found \[\]"),
        ('deny = [""]', "a name is no plugin's; .*; found ''"),
        (
            'deny = ["transport/carrier"]',
            "a name is no plugin's; .*KIND: transports, .*; found 'transport/carrier'",
        ),
        ("#" * (1024 * 1024 + 1), "it has more than 1048576 bytes"),
        (f"allow = {'[' * 9000}", "it is no TOML"),
    ],
)
def test_file_that_makes_no_sense_lets_nothing_load(
    etc: Path, content: str | bytes, told: str
) -> None:
    etc.write_bytes(content.encode() if isinstance(content, str) else content)
    refused = f"^no plugin is loaded because of {etc}: {told}"
    for find in (
        lambda: find_transport("carrier"),
        compression_names,
        section_factories,
        install_kernels.__wrapped__,
        installed_plugins,
    ):
        with pytest.raises(PluginError, match=refused):
            find()
    assert not {"fake_carrier", "fake_bottle", "fake_squeeze", "fake_state"} & sys.modules.keys()


def test_file_that_cannot_be_read_lets_nothing_load(etc: Path) -> None:
    etc.mkdir()
    with pytest.raises(PluginError, match=f"because of {etc}: it cannot be read: .*directory"):
        find_transport("carrier")


def test_named_file_that_is_not_there_lets_nothing_load(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_PLUGINS_FILE", str(tmp_path / "none.toml"))
    with pytest.raises(PluginError, match=r"none\.toml: TRANSSHIP_PLUGINS_FILE names it"):
        find_transport("carrier")


@pytest.mark.parametrize("variable", ["TRANSSHIP_PLUGINS", "TRANSSHIP_PLUGINS_DENY"])
def test_variable_with_an_unknown_kind_lets_nothing_load(
    etc: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "carrier,schemes/bottle")
    with pytest.raises(PluginError, match=f"because of {variable}: .*found 'schemes/bottle'"):
        find_transport("carrier")
