from __future__ import annotations

import json
from typing import TYPE_CHECKING

from transship.cli.local.plugins import collect, render

from .fake_distributions import GOOD_TRANSPORT, SECTIONS, TRANSPORTS, section_factory

if TYPE_CHECKING:
    import pytest

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
        "module": "fake_carrier",
        "status": "ok",
        "reason": "",
        "hooks": ["start_incoming", "start_outgoing"],
    }


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
