"""Which sections are sent while the guest runs."""

from __future__ import annotations

from transship.abc import Section
from transship.engine.live import live_sections


class Named(Section):
    def __init__(self, idstr: str, *, is_live: bool, is_needed: bool) -> None:
        self.idstr = idstr
        self.is_live = is_live
        self._is_needed = is_needed

    def is_needed(self) -> bool:
        return self._is_needed


def test_live_section_that_is_not_needed_is_left_out() -> None:
    sections = [
        Named("block", is_live=True, is_needed=False),
        Named("ram", is_live=True, is_needed=True),
        Named("device", is_live=False, is_needed=True),
    ]
    assert [section.idstr for section in live_sections(sections)] == ["ram"]
