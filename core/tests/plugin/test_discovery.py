from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from transship.abc import Address
from transship.errors import BlockedError, PluginError
from transship.plugin import hints
from transship.plugin.discovery import find_transport, installed_plugins

from .fake_distributions import GOOD_TRANSPORT, SECTIONS, TRANSPORTS, section_factory

if TYPE_CHECKING:
    from pathlib import Path

    from transship.plugin.report import PluginReport

    from .fake_distributions import FakeDistributions

CARRIER = Address("carrier", "pigeon")


def transport_source(outgoing_body: str) -> str:
    """A transport whose ``start_outgoing`` has this body."""
    return (
        "from transship import hookimpl\n"
        "from transship.errors import BlockedError\n\n"
        f"@hookimpl\ndef start_outgoing(address, options):\n    {outgoing_body}\n"
    )


def reports_of(*distributions: str) -> dict[str, PluginReport]:
    """The reports on these distributions alone, without those of this environment."""
    return {
        report.distribution: report
        for report in installed_plugins()
        if report.distribution in distributions
    }


# Finding


async def test_transport_of_scheme_is_called_through_its_hooks(site: FakeDistributions) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    transport = find_transport("carrier")
    assert transport.distribution == "fake-carrier"
    async with transport.start_outgoing(CARRIER, {"speed": 3}) as channel:
        assert str(channel) == "to carrier:pigeon {'speed': 3}"
    async with transport.start_incoming(CARRIER, {}) as listener:
        assert str(listener) == "from carrier:pigeon {}"


def test_only_the_plugin_of_the_scheme_is_imported(site: FakeDistributions) -> None:
    wanted = site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    other = site.install("fake-bottle", TRANSPORTS, "bottle", GOOD_TRANSPORT)
    sections = site.install("fake-ram", SECTIONS, "fake-ram", section_factory())
    find_transport("carrier")
    assert wanted in sys.modules
    assert other not in sys.modules
    assert sections not in sys.modules


@pytest.mark.seed("S34", "S51", "S69", "S76")
def test_unknown_scheme_names_the_distribution_to_install(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "TRANSPORTS", {"carrier": "transship-carrier"})
    with pytest.raises(PluginError) as caught:
        find_transport("carrier")
    assert str(caught.value) == "no transport for 'carrier:': install transship-carrier"
    assert caught.value.distribution == "transship-carrier"


@pytest.mark.seed("S34", "S51", "S69", "S76")
def test_scheme_nobody_knows_names_those_there_are(site: FakeDistributions) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    with pytest.raises(PluginError, match=r"no transport for 'drum:'.*'carrier:'"):
        find_transport("drum")


def test_scheme_in_capitals_names_the_right_one(site: FakeDistributions) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    with pytest.raises(PluginError, match="expected 'carrier:'"):
        find_transport("Carrier")


def test_removed_plugin_is_missing_at_once(
    site: FakeDistributions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    find_transport("carrier")
    site.uninstall("fake-carrier")
    with pytest.raises(PluginError, match="no transport"):
        find_transport("carrier")
    assert not cache.exists()


# Plugins that are wrong


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def broken(:", "SyntaxError"),
        ("raise RuntimeError('needs a licence')", "RuntimeError: needs a licence"),
        ("raise AssertionError('never')", "AssertionError: never"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
    ],
)
def test_import_failure_is_named_with_its_distribution(
    site: FakeDistributions, source: str, reason: str
) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", source)
    with pytest.raises(PluginError, match="fake-carrier cannot be imported") as caught:
        find_transport("carrier")
    assert reason in str(caught.value)
    assert caught.value.distribution == "fake-carrier"
    assert caught.value.__cause__ is not None


def test_entry_point_to_nothing_is_named_with_its_distribution(site: FakeDistributions) -> None:
    site.describe("fake-carrier", f"[{TRANSPORTS}]\ncarrier = fake_carrier_is_gone:plugin\n")
    with pytest.raises(PluginError, match="fake-carrier cannot be imported: ModuleNotFoundError"):
        find_transport("carrier")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (transport_source("...").replace("start_outgoing", "start_outgong"), "start_outgong"),
        (transport_source("...").replace("options", "option"), "option"),
        ("def start_outgoing(address): ...", "implements no hook"),
        ("", "implements no hook"),
    ],
)
def test_misspelt_hook_is_refused_with_plugin_and_hook(
    site: FakeDistributions, source: str, reason: str
) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", source)
    with pytest.raises(PluginError, match=r"'carrier' of fake-carrier is refused") as caught:
        find_transport("carrier")
    assert reason in str(caught.value)


def test_misspelt_hook_is_told_which_hooks_there_are(site: FakeDistributions) -> None:
    source = transport_source("...").replace("start_outgoing", "start_outgong")
    site.install("fake-carrier", TRANSPORTS, "carrier", source)
    with pytest.raises(PluginError, match=r"there are channel_\w+, start_incoming, start_outgoing"):
        find_transport("carrier")


def test_scheme_of_two_distributions_is_an_error_that_names_both_and_imports_neither(
    site: FakeDistributions,
) -> None:
    one = site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    two = site.install("fake-pigeon", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    site.install("fake-bottle", TRANSPORTS, "bottle", GOOD_TRANSPORT)
    with pytest.raises(PluginError, match="fake-carrier and fake-pigeon"):
        find_transport("carrier")
    assert one not in sys.modules
    assert two not in sys.modules
    assert find_transport("bottle").distribution == "fake-bottle"


# Results that are wrong


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return None", "does not take 'carrier:pigeon'"),
        ("return 7", "returned a int, not an async context manager"),
        ("raise KeyError('loft')", "failed: KeyError: 'loft'"),
    ],
)
def test_wrong_result_of_a_hook_names_plugin_and_hook(
    site: FakeDistributions, body: str, reason: str
) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", transport_source(body))
    transport = find_transport("carrier")
    with pytest.raises(PluginError) as caught:
        transport.start_outgoing(CARRIER, {})
    assert str(caught.value) == (f"start_outgoing of plugin 'carrier' of fake-carrier {reason}")


@pytest.mark.parametrize("body", ["return 7", "yield 7"])
def test_hook_to_be_awaited_is_refused_when_the_plugin_is_loaded(
    site: FakeDistributions, body: str
) -> None:
    source = transport_source(body).replace("def ", "async def ")
    site.install("fake-carrier", TRANSPORTS, "carrier", source)
    with pytest.raises(PluginError, match=r"fake-carrier is refused: hook '\w+' is an async"):
        find_transport("carrier")
    (report,) = (one for one in installed_plugins() if one.name == "carrier")
    assert report.status == "failed"
    assert "nobody awaits a hook" in report.reason


def test_hook_that_returns_a_coroutine_is_refused_without_a_warning(
    site: FakeDistributions,
) -> None:
    body = "async def later(): ...\n    return later()"
    site.install("fake-carrier", TRANSPORTS, "carrier", transport_source(body))
    with pytest.raises(PluginError, match="returned a coroutine"):
        find_transport("carrier").start_outgoing(CARRIER, {})


def test_hook_that_is_not_implemented_says_that_it_takes_nothing(site: FakeDistributions) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", transport_source("return None"))
    with pytest.raises(PluginError, match=r"start_incoming of plugin 'carrier'.*does not take"):
        find_transport("carrier").start_incoming(CARRIER, {})


def test_refusal_by_a_hook_reaches_the_caller_as_it_is(site: FakeDistributions) -> None:
    body = "raise BlockedError('no pigeon in winter')"
    site.install("fake-carrier", TRANSPORTS, "carrier", transport_source(body))
    with pytest.raises(BlockedError, match=r"^no pigeon in winter$"):
        find_transport("carrier").start_outgoing(CARRIER, {})


# What is installed


def test_report_of_a_good_plugin_says_where_it_is_from(site: FakeDistributions) -> None:
    module = site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT, version="2.5")
    report = reports_of("fake-carrier")["fake-carrier"]
    assert (report.group, report.name, report.version) == (TRANSPORTS, "carrier", "2.5")
    assert (report.status, report.reason, report.module) == ("ok", "", module)
    assert report.hooks == ("start_incoming", "start_outgoing")


def test_report_names_every_failure_and_the_others_still_work(site: FakeDistributions) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    site.install("fake-broken", TRANSPORTS, "broken", "import no_such_library")
    site.install("fake-misspelt", SECTIONS, "misspelt", section_factory().replace("_sec", "_sce"))
    site.install("fake-drum", TRANSPORTS, "drum", GOOD_TRANSPORT)
    site.install("fake-tomtom", TRANSPORTS, "drum", GOOD_TRANSPORT)
    reports = reports_of("fake-carrier", "fake-broken", "fake-misspelt", "fake-drum", "fake-tomtom")
    assert {name: report.status for name, report in reports.items()} == {
        "fake-carrier": "ok",
        "fake-broken": "failed",
        "fake-misspelt": "failed",
        "fake-drum": "conflict",
        "fake-tomtom": "conflict",
    }
    assert "no_such_library" in reports["fake-broken"].reason
    assert "create_scetions" in reports["fake-misspelt"].reason
    assert "fake-tomtom" in reports["fake-drum"].reason
    assert "fake-drum" in reports["fake-tomtom"].reason
    assert find_transport("carrier").distribution == "fake-carrier"


def test_distribution_without_a_name_is_reported_all_the_same(site: FakeDistributions) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    info = site.info_folder("fake-carrier", "1.0")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nVersion: 1.0\n")
    report = next(report for report in installed_plugins() if report.name == "carrier")
    assert report.status == "ok"


# TRANSSHIP_PLUGINS


@pytest.mark.parametrize("chosen", ["carrier", "fake-carrier", " Fake_Carrier ,nothing"])
def test_variable_chooses_by_name_or_distribution(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    left_out = site.install("fake-bottle", TRANSPORTS, "bottle", GOOD_TRANSPORT)
    monkeypatch.setenv("TRANSSHIP_PLUGINS", chosen)
    assert find_transport("carrier").distribution == "fake-carrier"
    with pytest.raises(PluginError, match="TRANSSHIP_PLUGINS does not allow fake-bottle"):
        find_transport("bottle")
    statuses = {report.name: report.status for report in installed_plugins()}
    assert statuses["carrier"] == "ok"
    assert statuses["bottle"] == "disabled"
    assert left_out not in sys.modules


def test_empty_variable_chooses_none(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    monkeypatch.setenv("TRANSSHIP_PLUGINS", "")
    assert {report.status for report in installed_plugins()} == {"disabled"}


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("TRANSSHIP_PLUGINS", "carrier,fake-teleport"),
        ("TRANSSHIP_PLUGINS_DENY", "fake-teleport"),
    ],
)
def test_variable_that_names_what_is_not_installed_is_reported(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch, variable: str, names: str
) -> None:
    monkeypatch.setenv("TRANSSHIP_PLUGINS", "carrier")
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    monkeypatch.setenv(variable, names)
    (missing,) = [report for report in installed_plugins() if report.status == "missing"]
    assert missing.name == "fake-teleport"


def test_variable_decides_a_conflict(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    site.install("fake-pigeon", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    monkeypatch.setenv("TRANSSHIP_PLUGINS", "fake-pigeon")
    assert find_transport("carrier").distribution == "fake-pigeon"
    reports = reports_of("fake-carrier", "fake-pigeon")
    assert reports["fake-pigeon"].status == "ok"
    assert reports["fake-carrier"].status == "disabled"


# Cost


def test_importing_discovery_does_not_import_what_only_loading_needs() -> None:
    program = (
        "import sys, transship.plugin.discovery\n"
        "print([name for name in ('stevedore', 'importlib.metadata') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
