from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from transship.cli.local.plugins import collect, lists_in_force, render, render_details
from transship.cli.verbs.plugins import plugins
from transship.errors import PluginError

from .fake_distributions import GOOD_TRANSPORT, SECTIONS, TRANSPORTS, section_factory

if TYPE_CHECKING:
    from .fake_distributions import FakeDistributions


def install_some(site: FakeDistributions, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT, version="1.2")
    site.install("fake-drum", TRANSPORTS, "drum", GOOD_TRANSPORT)
    site.install("fake-tomtom", TRANSPORTS, "drum", GOOD_TRANSPORT)
    site.install("fake-ghost", SECTIONS, "ghost", "import no_such_library")
    site.install("fake-state", SECTIONS, "state", section_factory())
    names = "fake-carrier,fake-drum,fake-tomtom,fake-ghost,fake-state,fake-absent"
    monkeypatch.setenv("TRANSSHIP_PLUGINS", names)


def test_rows_are_plain_data_with_every_field(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_some(site, monkeypatch)
    rows = {str(row["distribution"]): row for row in json.loads(json.dumps(collect()))}
    assert rows["fake-carrier"] == {
        "group": "transship.transports",
        "name": "carrier",
        "distribution": "fake-carrier",
        "version": "1.2",
        "made_for": "",
        "licence": "",
        "folder": str(site.folder),
        "is_editable": False,
        "module": "fake_carrier",
        "status": "ok",
        "reason": "",
        "conflicts": [],
        "hooks": ["start_incoming", "start_outgoing"],
        "capabilities": None,
    }
    assert rows["fake-drum"]["conflicts"] == ["fake-tomtom"]


def test_table_lists_every_plugin_and_the_reason_below_each_that_fails(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_some(site, monkeypatch)
    rows = [row for row in collect() if row["status"] != "disabled"]
    assert render(rows).splitlines() == [
        "KIND       NAME         STATUS    FROM",
        "transport  carrier      ok        fake-carrier 1.2",
        "transport  drum         conflict  fake-drum 1.0",
        "    'drum' is also claimed by fake-tomtom; none is used",
        "transport  drum         conflict  fake-tomtom 1.0",
        "    'drum' is also claimed by fake-drum; none is used",
        "section    ghost        failed    fake-ghost 1.0",
        "    plugin 'ghost' of fake-ghost cannot be imported: ModuleNotFoundError: "
        "No module named 'no_such_library'",
        "section    state        ok        fake-state 1.0",
        "           fake-absent  missing",
        "    TRANSSHIP_PLUGINS names it, and it is not installed",
    ]


def test_table_of_nothing_says_what_to_install() -> None:
    assert "install transship-tcp" in render([])


DECLARING = """
from transship.abc import ExtraChannels, ReturnPath

@hookimpl
def channel_capabilities():
    return {}
"""


def declare(site: FakeDistributions, declared: str, *metadata: str) -> None:
    """Install a transport that says something of itself."""
    source = GOOD_TRANSPORT + DECLARING.format(declared)
    site.install("fake-carrier", TRANSPORTS, "carrier", source)
    path = site.info_folder("fake-carrier", "1.0") / "METADATA"
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in metadata))


def test_details_say_where_a_plugin_is_from_and_what_it_can_do(site: FakeDistributions) -> None:
    declare(
        site,
        "[ReturnPath, ExtraChannels]",
        "License-Expression: MIT",
        "Requires-Dist: transship~=0.1",
    )
    url = "file:///home/me/fake%20carrier"
    (site.info_folder("fake-carrier", "1.0") / "direct_url.json").write_text(
        json.dumps({"url": url, "dir_info": {"editable": True}})
    )
    for name in ("carrier", "Fake.Carrier", "transports/carrier"):
        lines = render_details(collect([name])).splitlines()
        assert lines[0] == "transport carrier: ok"
        facts = dict(line.strip().split("  ", 1) for line in lines[1:])
        assert {fact: text.strip() for fact, text in facts.items()} == {
            "from": "fake-carrier 1.0",
            "licence": "MIT",
            "made for": "transship ~=0.1 (this is 0.1.0)",
            "installed in": "/home/me/fake carrier (editable)",
            "module": "fake_carrier",
            "hooks": "channel_capabilities, start_incoming, start_outgoing",
            "capabilities": "extra-channels, return-path",
        }


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        (["License: GPLv2"], "GPLv2"),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: MIT License"], "MIT License"),
        (["Classifier: Topic :: System"], ""),
    ],
)
def test_licence_is_found_where_older_tools_wrote_it(
    site: FakeDistributions, metadata: list[str], licence: str
) -> None:
    declare(site, "()", *metadata)
    (row,) = collect(["carrier"])
    assert row["licence"] == licence
    assert row["capabilities"] == []
    assert "capabilities  none" in render_details([row])


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("['return-path']", "names 'return-path', which is no type"),
        ("7", "failed: TypeError"),
        ("1 / 0", "failed: ZeroDivisionError"),
    ],
)
def test_wrong_capabilities_are_the_plugins_failure(
    site: FakeDistributions, declared: str, reason: str
) -> None:
    declare(site, declared)
    (row,) = collect(["carrier"])
    assert row["status"] == "failed"
    assert f"channel_capabilities of plugin 'carrier' of fake-carrier {reason}" in row["reason"]


def test_name_of_nobody_is_refused(site: FakeDistributions) -> None:
    with pytest.raises(PluginError, match="no plugin is called fake-nobody"):
        collect(["fake-nobody"])


def test_table_ends_with_the_lists_in_force(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    monkeypatch.setenv("TRANSSHIP_PLUGINS", "carrier, Fake_Drum")
    monkeypatch.setenv("TRANSSHIP_PLUGINS_DENY", "exec")
    assert render(collect(["carrier"]), lists_in_force()).splitlines()[2:] == [
        "TRANSSHIP_PLUGINS_DENY denies: exec",
        "TRANSSHIP_PLUGINS allows only: carrier, fake-drum",
    ]


def test_table_of_ours_fits_into_a_hundred_columns() -> None:
    assert max(map(len, render(collect()).splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 0), (["carrier"], 0), (["ghost"], 1), (["drum"], 1)]
)
def test_exit_code_says_whether_those_asked_about_can_be_used(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    install_some(site, monkeypatch)
    assert CliRunner().invoke(plugins, arguments).exit_code == code
