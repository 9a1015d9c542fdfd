"""What is said of the future of a migration is true, as far as anybody can know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from transship.cli.driving.following import look
from transship.cli.driving.peer import MigrationInfo
from transship.cli.progress.forecast import (
    PARAMETER_NAMES,
    Bounds,
    Forecast,
    Outlook,
    forecast,
)
from transship.cli.progress.measure import Measurements, Meter

MIB = 1 << 20
BOUNDS = Bounds(cap_bytes_per_s=128 * MIB, downtime_limit_s=0.3)
LATER = Measurements(
    at_s=60.0,
    status="active",
    passes=3,
    transferred_bytes=5000 * MIB,
    remaining_bytes=400 * MIB,
    total_bytes=4096 * MIB,
    page_size=4096,
    left_bytes=400 * MIB,
    send_rate_bytes_per_s=128.0 * MIB,
    dirty_rate_bytes_per_s=32.0 * MIB,
    is_trend_known=True,
)
FIRST = replace(
    LATER,
    passes=1,
    remaining_bytes=1024 * MIB,
    pass_rate_bytes_per_s=256.0 * MIB,
    dirty_rate_bytes_per_s=None,
)


def test_first_pass_tells_its_own_end_and_nothing_of_the_switchover() -> None:
    expected = forecast(FIRST, BOUNDS)
    assert expected.outlook is Outlook.FIRST_PASS
    assert expected.first_pass_ends_in_s == 4
    assert expected.switchover_in_s is None
    assert "about 4 s more; only then is known" in expected.text


@pytest.mark.parametrize("rate", [None, 0.0, -1.0])
def test_first_pass_whose_rate_is_unknown_tells_nothing(rate: float | None) -> None:
    expected = forecast(replace(FIRST, pass_rate_bytes_per_s=rate), BOUNDS)
    assert (expected.outlook, expected.text) == (Outlook.FIRST_PASS, "first pass")
    assert expected.first_pass_ends_in_s is None


def test_right_after_the_first_pass_the_dirty_rate_is_unknown_and_nothing_is_foretold() -> None:
    now = replace(LATER, passes=2, dirty_rate_bytes_per_s=None)
    assert forecast(now, BOUNDS).outlook is Outlook.MEASURING
    assert forecast(now, BOUNDS).switchover_in_s is None
    now = replace(LATER, passes=2, send_rate_bytes_per_s=None)
    assert forecast(now, BOUNDS).outlook is Outlook.MEASURING


def test_moment_in_which_nothing_is_sent_is_no_reason_to_despair() -> None:
    assert forecast(replace(LATER, send_rate_bytes_per_s=0.0), BOUNDS).outlook is Outlook.MEASURING


def test_converging_migration_switches_over_when_passes_have_become_small_enough() -> None:
    # 400 MiB take 3.125 s, in which 100 MiB are written; they take 0.78 s, and 25 MiB fit 0.3 s.
    expected = forecast(LATER, BOUNDS)
    assert expected.outlook is Outlook.CONVERGING
    assert expected.threshold_bytes == pytest.approx(38.4 * MIB)
    assert expected.switchover_in_s == pytest.approx(3.125 + 0.78125)
    assert expected.passes_left == 2
    assert expected.text == "switches over in about 4 s"


def test_forecast_from_one_pass_alone_is_the_earliest_moment() -> None:
    # A page that was written a thousand times in it was counted once.
    expected = forecast(replace(LATER, passes=2, is_trend_known=False), BOUNDS)
    assert expected.text == "switches over in about 4 s, at the earliest"


def test_forecast_within_a_pass_counts_what_was_written_since_it_began() -> None:
    expected = forecast(replace(LATER, remaining_bytes=128 * MIB), BOUNDS)
    assert expected.switchover_in_s == pytest.approx(1 + 0.78125)


def test_guest_that_writes_nothing_switches_over_when_the_rest_is_sent() -> None:
    expected = forecast(replace(LATER, dirty_rate_bytes_per_s=0.0), BOUNDS)
    assert expected.outlook is Outlook.CONVERGING
    assert expected.switchover_in_s == pytest.approx(3.125)
    assert expected.passes_left == 1


def test_rest_that_fits_the_downtime_limit_is_the_switchover() -> None:
    expected = forecast(replace(LATER, remaining_bytes=MIB, left_bytes=MIB), BOUNDS)
    assert expected.outlook is Outlook.SWITCHING_OVER
    assert expected.switchover_in_s == 0


def test_guest_that_writes_faster_than_is_sent_will_not_converge_and_the_cap_is_to_blame() -> None:
    expected = forecast(replace(LATER, dirty_rate_bytes_per_s=200.0 * MIB), BOUNDS)
    assert expected.outlook is Outlook.NOT_CONVERGING
    assert expected.switchover_in_s is None
    assert expected.text == (
        "will not converge at this rate: dirties 200 MiB/s, sends 128 MiB/s, "
        "cap 128 MiB/s (--bandwidth)"
    )


@pytest.mark.parametrize(
    ("cap", "end"),
    [(None, "no cap (--downtime)"), (1024 * MIB, "cap 1.00 GiB/s is not reached (--downtime)")],
)
def test_cap_is_not_blamed_where_it_is_not_to_blame(cap: int | None, end: str) -> None:
    now = replace(LATER, dirty_rate_bytes_per_s=200.0 * MIB)
    text = forecast(now, replace(BOUNDS, cap_bytes_per_s=cap)).text
    assert text.startswith("will not converge at this rate: dirties 200 MiB/s, sends 128 MiB/s, ")
    assert text.endswith(end)


@pytest.mark.parametrize(
    ("cap", "end"),
    [
        (None, "no cap (downtime-limit)"),
        (128 * MIB, "cap 128 MiB/s (max-bandwidth)"),
        (1024 * MIB, "cap 1.00 GiB/s is not reached (downtime-limit)"),
    ],
)
def test_onlooker_is_told_the_parameters_rather_than_options_of_another_verb(
    cap: int | None, end: str
) -> None:
    now = replace(LATER, dirty_rate_bytes_per_s=200.0 * MIB)
    text = forecast(now, replace(BOUNDS, cap_bytes_per_s=cap), PARAMETER_NAMES).text
    assert text.startswith("will not converge at this rate: dirties 200 MiB/s, sends 128 MiB/s, ")
    assert text.endswith(end)


def test_guest_that_is_slowed_is_said_to_be() -> None:
    now = replace(LATER, dirty_rate_bytes_per_s=200.0 * MIB, throttle_percent=40)
    assert forecast(now, BOUNDS).text.endswith("(--bandwidth); the guest is slowed by 40 %")


def test_rates_that_hardly_differ_are_not_turned_into_a_promise() -> None:
    now = replace(LATER, dirty_rate_bytes_per_s=127.0 * MIB)
    assert forecast(now, BOUNDS).outlook is Outlook.NOT_CONVERGING


def test_downtime_limit_of_nothing_is_reached_when_nothing_is_left() -> None:
    expected = forecast(LATER, replace(BOUNDS, downtime_limit_s=0.0))
    assert expected.outlook is Outlook.CONVERGING
    assert expected.switchover_in_s == pytest.approx(400 / 128 / (1 - 0.25), rel=1e-3)


def test_nothing_is_left_as_soon_as_it_is_less_than_a_page_of_the_guest() -> None:
    def passes_left(page_size: int) -> int | None:
        now = replace(LATER, page_size=page_size)
        return forecast(now, replace(BOUNDS, downtime_limit_s=0.0)).passes_left

    # 400 MiB become a quarter with every pass: 1.6 KiB after nine, 25 KiB after seven.
    assert passes_left(4096) == 9
    assert passes_left(64 << 10) == 7


def test_rate_that_the_operator_states_decides_over_the_switchover_alone() -> None:
    expected = forecast(LATER, replace(BOUNDS, switchover_rate_bytes_per_s=1024 * MIB))
    assert expected.threshold_bytes == pytest.approx(307.2 * MIB)
    assert expected.passes_left == 1


def test_channel_on_which_nothing_moves_is_said_to_stand_still() -> None:
    expected = forecast(replace(LATER, idle_s=12.0), BOUNDS)
    assert (expected.outlook, expected.text) == (
        Outlook.STALLED,
        "nothing has been sent for 12 s",
    )


@pytest.mark.parametrize(
    ("status", "outlook", "words"),
    [
        ("setup", Outlook.PREPARING, "connecting"),
        ("wait-unplug", Outlook.PREPARING, "device"),
        ("device", Outlook.SWITCHING_OVER, "stands still"),
        ("pre-switchover", Outlook.WAITING, "migrate-continue"),
        ("postcopy-active", Outlook.POSTCOPY, "runs at the destination; 400 MiB"),
        ("postcopy-paused", Outlook.WAITING, "migrate-recover"),
        ("cancelling", Outlook.ENDING, "cancelling"),
        ("a-word-of-the-future", Outlook.MEASURING, "a-word-of-the-future"),
    ],
)
def test_other_statuses_are_explained_and_not_foretold(
    status: str, outlook: Outlook, words: str
) -> None:
    expected = forecast(replace(LATER, status=status, idle_s=100.0), BOUNDS)
    assert expected.outlook is outlook
    assert words in expected.text
    assert expected.switchover_in_s is None


# --- recordings of real migrations ----------------------------------------------------------------


def replay(name: str, bounds: Bounds) -> list[tuple[float, Measurements, Forecast]]:
    """What would have been shown of a recorded migration."""
    meter = Meter()
    shown = []
    for line in (Path(__file__).parent / "recorded" / name).read_text().splitlines():
        recorded = json.loads(line)
        info = msgspec.convert(recorded["query-migrate"], MigrationInfo)
        now = meter.measure(look(info, recorded["at_s"]))
        shown.append((recorded["at_s"], now, forecast(now, bounds)))
    return shown


def test_recorded_first_pass_is_foretold_and_its_bar_only_grows() -> None:
    # A guest of 256 MiB, 200 of them random, that writes little: QEMU 7.2.22, cap 40 MiB/s.
    shown = replay("qemu-7.2-first-pass.jsonl", Bounds(40 * MIB, 0.3))
    bars = [now.first_pass for _, now, _ in shown]
    assert bars == sorted(bars)
    assert bars[-1] == 1
    end_s = shown[-1][0]
    for at_s, _, expected in shown:
        if expected.first_pass_ends_in_s is not None and at_s < 4:
            assert end_s - at_s == pytest.approx(expected.first_pass_ends_in_s, abs=3.0)


def test_recorded_migration_that_does_not_converge_is_known_after_three_passes() -> None:
    # A guest that writes to half a MiB again and again: QEMU 10.0.2, downtime limit 1 ms.
    shown = replay("qemu-10.0-not-converging.jsonl", Bounds(500 << 10, 0.001))
    later = [expected for _, now, expected in shown if now.passes >= 4]
    never = [expected for expected in later if expected.outlook is Outlook.NOT_CONVERGING]
    assert len(never) >= 0.8 * len(later)
