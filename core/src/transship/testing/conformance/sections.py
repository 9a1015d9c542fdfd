"""What a section must do, as classes to inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from transship.abc.settings import Settings
from transship.plugin.factories import SectionFactories
from transship.plugin.report import PluginReport
from transship.testing import (
    hostile_section_checks,
    live_section_checks,
    section_checks,
)
from transship.testing.section_case import (
    GoldenSection,
    MakeGuest,
    MakeSection,
    SectionCase,
    StateOf,
    play,
    ram_and_devices,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.abc.guest import Guest
    from transship.abc.section import Section


class SectionPlugin(Protocol):
    """A module or object with the hook of a section factory; it names the arguments it uses."""

    @property
    def create_sections(self) -> Callable[..., Sequence[Section]]: ...


class SectionConformance:
    """What every section must do; inherit it, and override the first three fixtures."""

    # Required

    @pytest.fixture
    def plugin(self) -> SectionPlugin:
        """The module or object with the hook, which makes one section for the guests below."""
        raise NotImplementedError("override the fixture plugin")

    @pytest.fixture
    def make_guest(self) -> MakeGuest:
        """Makes the source's guest, always in the same state; a ``FakeGuest``, best of all."""
        raise NotImplementedError("override the fixture make_guest")

    @pytest.fixture
    def make_destination(self) -> MakeGuest:
        """Makes the guest that is loaded into, in another state."""
        raise NotImplementedError("override the fixture make_destination")

    # Overridable

    @pytest.fixture
    def settings(self) -> Settings:
        """Of the migration; such that the section has no extra channels."""
        return Settings()

    @pytest.fixture
    def make_section(self, plugin: SectionPlugin, settings: Settings) -> MakeSection:
        """Makes the section as a migration has it made: validated."""

        def make(guest: Guest) -> Section:
            report = PluginReport(
                "transship.sections", "tested", "the one under test", "", "", "ok"
            )
            (section,) = SectionFactories([(report, plugin)]).create_sections(guest, settings)
            return section

        return make

    @pytest.fixture
    def state_of(self) -> StateOf:
        """What of a guest is to arrive: the RAM blocks and the devices that it declares."""
        return ram_and_devices

    @pytest.fixture
    def step(self) -> Callable[[Guest], object]:
        """Lets the guest work between two records: takes a step of a ``FakeGuest``'s script."""
        return play

    @pytest.fixture
    def golden(self) -> Sequence[GoldenSection]:
        """Streams that were kept, at least one of each older version that still loads."""
        return ()

    @pytest.fixture
    def most_beyond_budget_bytes(self) -> int:
        """By how much a PART may exceed its budget."""
        return 64 * 1024

    @pytest.fixture
    def case(
        self,
        make_section: MakeSection,
        make_guest: MakeGuest,
        make_destination: MakeGuest,
        state_of: StateOf,
        step: Callable[[Guest], object],
        golden: Sequence[GoldenSection],
        most_beyond_budget_bytes: int,
    ) -> SectionCase:
        """All of the above; no need to override it."""
        return SectionCase(
            make_section,
            make_guest,
            make_destination,
            state_of,
            step,
            golden,
            most_beyond_budget_bytes,
        )

    # Checks

    def test_section_says_what_it_is(self, case: SectionCase) -> None:
        section_checks.check_says_what_it_is(case)

    def test_section_loads_what_it_saved(self, case: SectionCase) -> None:
        section_checks.check_loads_what_it_saved(case)

    def test_section_loads_byte_by_byte(self, case: SectionCase) -> None:
        section_checks.check_loads_byte_by_byte(case)

    def test_section_works_in_any_thread(self, case: SectionCase) -> None:
        section_checks.check_works_in_any_thread(case)

    def test_section_leaves_the_guest_as_it_was(self, case: SectionCase) -> None:
        section_checks.check_leaves_the_guest_as_it_was(case)

    def test_section_lends_its_buffers(self, case: SectionCase) -> None:
        section_checks.check_lends_its_buffers(case)

    def test_section_holds_no_views_when_saved(self, case: SectionCase) -> None:
        section_checks.check_holds_no_views_when_saved(case)

    def test_section_holds_no_views_when_loaded(self, case: SectionCase) -> None:
        section_checks.check_holds_no_views_when_loaded(case)

    def test_section_refuses_cut_streams(self, case: SectionCase) -> None:
        hostile_section_checks.check_refuses_cut_streams(case)

    def test_section_refuses_damage(self, case: SectionCase) -> None:
        hostile_section_checks.check_refuses_damage(case)

    def test_section_bounds_its_memory(self, case: SectionCase) -> None:
        hostile_section_checks.check_bounds_its_memory(case)

    def test_section_loads_old_versions(self, case: SectionCase) -> None:
        section_checks.check_loads_old_versions(case)


class LiveSectionConformance(SectionConformance):
    """What a live section must do: all that any section must, and more."""

    # Checks

    def test_section_counts_down_to_nothing(self, case: SectionCase) -> None:
        live_section_checks.check_counts_down_to_nothing(case)

    def test_section_keeps_its_budget(self, case: SectionCase) -> None:
        live_section_checks.check_keeps_its_budget(case)

    def test_section_undoes_what_it_began(self, case: SectionCase) -> None:
        live_section_checks.check_undoes_what_it_began(case)
