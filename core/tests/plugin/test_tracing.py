from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.abc import Address
from transship.errors import PluginError
from transship.plugin.discovery import find_transport

from .fake_distributions import GOOD_TRANSPORT, TRANSPORTS

if TYPE_CHECKING:
    from .fake_distributions import FakeDistributions

CARRIER = Address("carrier", "pigeon")


def test_trace_shows_hook_arguments_plugin_and_result(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRANSSHIP_TRACE_PLUGINS", "1")
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    find_transport("carrier").start_outgoing(CARRIER, {})
    before, after = capsys.readouterr().err.splitlines()
    assert before.startswith("transship: start_outgoing(address=Address(scheme='carrier'")
    assert before.endswith("options={}) calls carrier")
    assert after.startswith("transship: start_outgoing returned <")


def test_trace_shows_what_was_raised_and_stays_short(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRANSSHIP_TRACE_PLUGINS", "1")
    source = GOOD_TRANSPORT.replace('return entered("to"', 'raise KeyError("x" * 5000) #')
    site.install("fake-carrier", TRANSPORTS, "carrier", source)
    with pytest.raises(PluginError):
        find_transport("carrier").start_outgoing(CARRIER, {})
    after = capsys.readouterr().err.splitlines()[-1]
    assert after.startswith("transship: start_outgoing raised KeyError('xxx")
    assert len(after) < 300


def test_without_the_variable_nothing_is_traced(
    site: FakeDistributions, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("fake-carrier", TRANSPORTS, "carrier", GOOD_TRANSPORT)
    find_transport("carrier").start_outgoing(CARRIER, {})
    assert capsys.readouterr().err == ""
