from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from transship.abc import Settings
from transship.errors import BlockedError, PluginError
from transship.plugin.discovery import section_factories

from .fake_distributions import SECTIONS, section_factory

if TYPE_CHECKING:
    from transship.abc import Guest

    from .fake_distributions import FakeDistributions

GUEST = cast("Guest", object())  # the fakes do not look at it


@pytest.fixture(autouse=True)
def only_fakes(site: FakeDistributions, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("fake-alpha", "fake-beta", "fake-gamma")
    monkeypatch.setenv("TRANSSHIP_PLUGINS", ",".join(names))


def idstrs() -> list[str]:
    return [section.idstr for section in section_factories().create_sections(GUEST, Settings())]


def test_sections_are_in_stream_order_live_ones_first(site: FakeDistributions) -> None:
    site.install("fake-beta", SECTIONS, "beta", section_factory(("b-live", True), ("b", False)))
    site.install("fake-alpha", SECTIONS, "alpha", section_factory(("a", False), ("a-live", True)))
    site.install("fake-gamma", SECTIONS, "gamma", section_factory())
    assert idstrs() == ["a-live", "b-live", "a", "b"]


def test_sections_are_new_for_every_migration(site: FakeDistributions) -> None:
    site.install("fake-alpha", SECTIONS, "alpha", section_factory(("a", False)))
    factories = section_factories()
    first, second = (factories.create_sections(GUEST, Settings()) for _ in range(2))
    assert first[0] is not second[0]


def test_module_with_two_names_is_asked_once(site: FakeDistributions) -> None:
    module = site.install("fake-alpha", SECTIONS, "one", section_factory(("a", False)))
    site.describe("fake-beta", f"[{SECTIONS}]\ntwo = {module}\n")
    assert idstrs() == ["a"]


def test_broken_factory_is_reported_and_the_others_work(site: FakeDistributions) -> None:
    site.install("fake-alpha", SECTIONS, "alpha", section_factory(("a", False)))
    site.install("fake-beta", SECTIONS, "beta", "import no_such_library")
    factories = section_factories()
    assert [section.idstr for section in factories.create_sections(GUEST, Settings())] == ["a"]
    failed = [report for report in factories.failures if report.status == "failed"]
    assert [report.distribution for report in failed] == ["fake-beta"]


def test_missing_section_of_a_broken_plugin_says_why(site: FakeDistributions) -> None:
    site.install("fake-beta", SECTIONS, "beta", "import no_such_library")
    error = section_factories().missing("beta")
    assert error.distribution == "fake-beta"
    assert "no_such_library" in str(error)


def test_missing_section_of_a_disabled_plugin_says_so(site: FakeDistributions) -> None:
    site.install("fake-disabled", SECTIONS, "delta", section_factory())
    error = section_factories().missing("delta")
    assert error.distribution == "fake-disabled"
    assert "TRANSSHIP_PLUGINS does not allow fake-disabled" in str(error)


def test_missing_section_that_is_known_names_the_distribution_to_install(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship.plugin.hints.SECTIONS", {"ghost": "transship-ghost"})
    error = section_factories().missing("ghost")
    assert str(error) == "no plugin carries 'ghost': install transship-ghost"


def test_missing_section_nobody_knows_names_no_distribution(site: FakeDistributions) -> None:
    error = section_factories().missing("0000:00:07.0/flux-capacitor")
    assert error.distribution is None
    assert "0000:00:07.0/flux-capacitor" in str(error)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return [7]", "made a int, which is no Section"),
        ("return 7", "made a int, which is no Section"),
        ("raise KeyError('x')", "failed: KeyError: 'x'"),
    ],
)
def test_factory_that_does_wrong_is_named(site: FakeDistributions, body: str, reason: str) -> None:
    source = f"from transship import hookimpl\n@hookimpl\ndef create_sections(guest):\n    {body}\n"
    site.install("fake-alpha", SECTIONS, "alpha", source)
    with pytest.raises(PluginError) as caught:
        section_factories().create_sections(GUEST, Settings())
    assert str(caught.value) == f"create_sections of plugin 'alpha' of fake-alpha {reason}"


def test_refusal_by_a_factory_reaches_the_caller_as_it_is(site: FakeDistributions) -> None:
    source = (
        "from transship import hookimpl\n"
        "from transship.errors import BlockedError\n"
        "@hookimpl\ndef create_sections(guest):\n    raise BlockedError('pinned')\n"
    )
    site.install("fake-alpha", SECTIONS, "alpha", source)
    with pytest.raises(BlockedError, match=r"^pinned$"):
        section_factories().create_sections(GUEST, Settings())
