"""The sections of one migration: which are refused, and that each is called alone."""

from __future__ import annotations

import pytest

from transship import hookimpl
from transship.abc.section import Pending, Section, Segments
from transship.errors import PluginError
from transship.plugin.registry import SectionRegistry


class Whole(Section):
    """Has nothing to hide."""

    idstr = "whole"

    @hookimpl
    def complete(self) -> Segments:
        yield b"body"
        return True


class Forgetful(Whole):
    """Overrides a hook, and forgets the mark."""

    def complete(self) -> Segments:
        yield b"another body"
        return True


class HalfLive(Whole):
    is_live = True

    def pending(self, exact: bool) -> Pending:
        return Pending(1 << 20)


@pytest.mark.parametrize(
    ("section", "method"), [(Forgetful(), "Forgetful.complete"), (HalfLive(), "HalfLive.pending")]
)
def test_registry_refuses_a_phase_without_the_mark(section: Section, method: str) -> None:
    with pytest.raises(PluginError, match=rf"{method} of .* is not marked as a hook") as caught:
        SectionRegistry([section])
    assert caught.value.section == "whole"
    assert caught.value.distribution == __name__


def test_registry_calls_what_is_marked_and_takes_the_rest_as_empty() -> None:
    section = Whole()
    registry = SectionRegistry([section])
    assert list(registry.complete(section)) == [b"body"]
    assert list(registry.begin(section)) == []
    assert registry.pending(section, exact=True) == Pending()


def test_registry_refuses_two_sections_with_one_name() -> None:
    with pytest.raises(PluginError, match="two sections are called 'whole', instance 0"):
        SectionRegistry([Whole(), Whole()])


def test_plugin_error_tells_its_distribution_among_its_facts() -> None:
    facts = PluginError("it is broken", distribution="transship-carrier", section="whole").facts()
    assert facts["distribution"] == "transship-carrier"
    assert (facts["kind"], facts["section"]) == ("PluginError", "whole")
