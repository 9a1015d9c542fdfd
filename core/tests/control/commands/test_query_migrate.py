"""What ``query-migrate`` says in every status, on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc.guest import Blocker
from transship.control.commands.query_migrate import MigrationStatus
from transship.engine.rates import Period
from transship.engine.status import MigrationStatus as EngineStatus

from .bench import ADDRESS, BLIND, CAP, PAGE, RAM, Bench, Json, Side

if TYPE_CHECKING:
    from transship.engine.migration import Migration

RAM_MEMBERS = {
    *("transferred", "remaining", "total", "duplicate", "skipped", "normal", "normal-bytes"),
    *("dirty-pages-rate", "mbps", "dirty-sync-count", "postcopy-requests", "page-size"),
    *("multifd-bytes", "pages-per-second", "precopy-bytes", "downtime-bytes", "postcopy-bytes"),
    "dirty-sync-missed-zero-copy",
}
TIMES = {"total-time", "setup-time", "expected-downtime"}
XBZRLE_MEMBERS = {
    *("cache-size", "bytes", "pages", "cache-miss", "cache-miss-rate", "encoding-rate", "overflow"),
}


def outgoing(side: Side) -> Migration:
    """The migration itself, for figures that a test cannot wait for."""
    assert side.host.outgoing is not None
    return side.host.outgoing


# --- the source -----------------------------------------------------------------------------------


@pytest.mark.seed("S27", "S2")
async def test_nothing_is_said_before_there_was_a_migration(bench: Bench, prelaunch: Side) -> None:
    for side in (bench.here, bench.there, prelaunch):
        assert await side.info() == {}


@pytest.mark.seed("S28", "S3")
async def test_setup_is_said_alone(bench: Bench) -> None:
    bench.wires.may_connect = trio.Event()
    await bench.here.execute("migrate", uri=ADDRESS)
    assert await bench.here.info() == {"status": "setup"}


@pytest.mark.seed("S29", "S6")
async def test_active_comes_with_all_figures(bench: Bench) -> None:
    here = bench.here
    here.guest.figures |= {"duplicate": 7, "remaining": 5 * PAGE, "transferred": 12345}
    here.guest.figures |= {"multifd_bytes": 678}
    await bench.begin()
    info = await here.info()
    assert info.keys() == {"status", "ram", "dirty-log", *TIMES}
    assert info["status"] == "active"
    ram = info["ram"]
    assert ram.keys() == RAM_MEMBERS
    assert ram["total"] == RAM
    assert ram["page-size"] == PAGE
    assert ram["duplicate"] == 7
    assert ram["remaining"] == 5 * PAGE
    assert ram["normal-bytes"] == ram["normal"] * PAGE
    assert ram["transferred"] > 0
    assert ram["precopy-bytes"] == 12345
    assert ram["downtime-bytes"] == 0
    assert ram["dirty-sync-count"] == 1
    assert ram["multifd-bytes"] == 678
    assert [ram[one] for one in ("skipped", "postcopy-bytes")] == [0, 0]
    assert [ram[one] for one in ("postcopy-requests", "dirty-sync-missed-zero-copy")] == [0, 0]
    assert info["total-time"] >= info["setup-time"] >= 0
    assert info["dirty-log"] == here.guest.dirty_log().name


@pytest.mark.seed("S15", "S29")
async def test_expected_downtime_begins_as_the_downtime_limit(bench: Bench) -> None:
    await bench.here.execute("migrate-set-parameters", downtime_limit=1234)
    await bench.begin()
    assert (await bench.here.info())["expected-downtime"] == 1234


@pytest.mark.seed("S29")
async def test_figures_go_on_while_a_migration_is_active(bench: Bench) -> None:
    here = bench.here
    await bench.begin()
    before = await here.info()
    after = await here.until(lambda info: info["ram"]["mbps"] > 0)
    assert after["ram"]["transferred"] > before["ram"]["transferred"]
    assert after["ram"]["normal"] > before["ram"]["normal"]
    assert after["total-time"] >= before["total-time"]
    assert after["ram"]["pages-per-second"] > 0
    assert 0 < after["ram"]["mbps"] < 3 * CAP * 8 / 1e6


@pytest.mark.seed("S29")
async def test_dirty_rate_is_that_of_the_last_period(bench: Bench) -> None:
    await bench.begin()
    outgoing(bench.here).statistics.period = Period(
        elapsed_s=2.0, transferred_bytes=1, dirtied_pages=500, page_size=PAGE
    )
    assert (await bench.here.info())["ram"]["dirty-pages-rate"] == 250
    await bench.finish()
    assert (await bench.here.info())["ram"]["dirty-pages-rate"] == 0


@pytest.mark.parametrize("percent", [1, 20, 99])
async def test_throttling_is_said_while_the_guest_is_slowed_down(
    bench: Bench, percent: int
) -> None:
    await bench.begin()
    assert "cpu-throttle-percentage" not in await bench.here.info()
    outgoing(bench.here).statistics.throttle_percent = percent
    assert (await bench.here.info())["cpu-throttle-percentage"] == percent
    outgoing(bench.here).statistics.throttle_percent = 0
    assert "cpu-throttle-percentage" not in await bench.here.info()


async def test_pre_switchover_comes_with_all_figures(bench: Bench) -> None:
    here = bench.here
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    info = await here.info()
    assert info["status"] == "pre-switchover"
    assert info.keys() == {"status", "ram", "dirty-log", *TIMES}


async def test_device_comes_with_all_figures(bench: Bench) -> None:
    bench.there.guest.hold("prepare")
    await bench.begin(held=False)
    await bench.here.reached("device")
    info = await bench.here.info()
    assert info["status"] == "device"
    assert info.keys() == {"status", "ram", "dirty-log", *TIMES}


@pytest.mark.seed("S4", "S29")
async def test_cancelling_comes_with_all_figures(bench: Bench) -> None:
    here = bench.here
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    gate = here.guest.hold("resume")
    await here.execute("migrate_cancel")
    await here.reached("cancelling")
    info = await here.info()
    assert info["status"] == "cancelling"
    assert info.keys() == {"status", "ram", "dirty-log", *TIMES}
    gate.set()
    await here.reached("cancelled")
    assert await here.info() == {"status": "cancelled"}


@pytest.mark.seed("S30", "S7", "S62")
async def test_completed_comes_with_final_figures(bench: Bench) -> None:
    here = bench.here
    here.guest.figures |= {"remaining": 5 * PAGE, "dirtied_pages": 12}
    await bench.move()
    info = await here.info()
    assert info.keys() == {"status", "ram", "dirty-log", "total-time", "setup-time", "downtime"}
    assert info["status"] == "completed"
    assert info["ram"].keys() == RAM_MEMBERS
    assert info["ram"]["remaining"] == 0
    assert info["ram"]["dirty-pages-rate"] == 0
    assert info["ram"]["dirty-sync-count"] >= 2
    assert info["ram"]["mbps"] > 0
    assert info["total-time"] >= info["downtime"] >= 0
    assert await here.info() == info


@pytest.mark.seed("S30")
async def test_waiting_to_switch_over_counts_as_downtime(bench: Bench) -> None:
    here = bench.here
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    await trio.sleep(0.1)
    await here.execute("migrate-continue", state="pre-switchover")
    await bench.finish()
    assert (await here.info())["downtime"] >= 100


@pytest.mark.seed("S30")
async def test_guest_that_stood_still_had_no_downtime(bench: Bench) -> None:
    await bench.here.execute("stop")
    await bench.move()
    assert (await bench.here.info())["downtime"] == 0


@pytest.mark.seed("S31", "S1")
async def test_failed_comes_with_the_reason_alone(bench: Bench) -> None:
    here = bench.here
    await here.execute("migrate", uri="unix:/nobody")
    await here.reached("failed")
    info = await here.info()
    assert info.keys() == {"status", "error-desc"}
    assert info["status"] == "failed"
    assert "nobody listens at unix:/nobody" in info["error-desc"]


@pytest.mark.seed("S31", "S5")
async def test_cancelled_is_said_alone(bench: Bench) -> None:
    await bench.begin()
    await bench.here.execute("migrate_cancel")
    await bench.here.reached("cancelled")
    assert await bench.here.info() == {"status": "cancelled"}


@pytest.mark.seed("S48")
async def test_next_attempt_begins_with_nothing_of_the_last(bench: Bench) -> None:
    here = bench.here
    await here.execute("migrate", uri="unix:/nobody")
    await here.reached("failed")
    here.notices.clear()
    bench.wires.may_connect = trio.Event()
    await here.execute("migrate", uri=ADDRESS)
    assert await here.info() == {"status": "setup"}
    await here.execute("migrate_cancel")
    await here.reached("cancelled")
    assert await here.info() == {"status": "cancelled"}


@pytest.mark.seed("S32")
async def test_xbzrle_is_said_when_it_is_on(bench: Bench) -> None:
    here = bench.here
    here.guest.figures |= {
        "xbzrle_cache_size": 1 << 26,
        "xbzrle_bytes": 100,
        "xbzrle_pages": 3,
        "xbzrle_cache_miss": 5,
        "xbzrle_overflow": 2,
    }
    await here.switch(xbzrle=True)
    await bench.begin()
    assert (await here.info())["xbzrle-cache"] == {
        "cache-size": 1 << 26,
        "bytes": 100,
        "pages": 3,
        "cache-miss": 5,
        "cache-miss-rate": 0.0,
        "encoding-rate": 0.0,
        "overflow": 2,
    }
    outgoing(here).statistics.period = Period(
        elapsed_s=1.5,
        reported={
            "ram": {
                "handled_pages": 8,
                "xbzrle_cache_miss": 2,
                "xbzrle_raw_bytes": 3 * PAGE,
                "xbzrle_encoded_bytes": PAGE,
            }
        },
    )
    cache = (await here.info())["xbzrle-cache"]
    assert (cache["cache-miss-rate"], cache["encoding-rate"]) == (0.25, 3.0)
    await bench.finish()
    assert (await here.info())["xbzrle-cache"].keys() == XBZRLE_MEMBERS


@pytest.mark.seed("S32")
async def test_xbzrle_is_not_said_in_a_status_without_figures(bench: Bench) -> None:
    here = bench.here
    await here.switch(xbzrle=True)
    await here.execute("migrate", uri="unix:/nobody")
    await here.reached("failed")
    assert "xbzrle-cache" not in await here.info()


# --- the destination ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("unix:/run/there.sock", {"type": "unix", "path": "/run/there.sock"}),
        (
            "tcp:127.0.0.1:0",
            {"type": "inet", "host": "127.0.0.1", "port": "4444", "ipv4": True},
        ),
        ("tcp:[::1]:0", {"type": "inet", "host": "::1", "port": "4444", "ipv6": True}),
        ("tcp:there:5000", {"type": "inet", "host": "there", "port": "5000"}),
        ("tcp::5000", {"type": "inet", "host": "", "port": "5000"}),
        (
            "tcp:10.0.0.1:5000,ipv4=on",
            {"type": "inet", "host": "10.0.0.1", "port": "5000", "ipv4": True},
        ),
    ],
)
async def test_destination_says_where_it_listens(there: Side, uri: str, address: Json) -> None:
    await there.execute("migrate-incoming", uri=uri)
    info = await there.info()
    (said,) = info["socket-address"]
    assert info == {"status": "setup", "socket-address": [said]}
    assert {name: value for name, value in said.items() if name not in ("abstract", "tight")} == (
        address
    )


@pytest.mark.parametrize("uri", ["exec:cat", "file:/a", "fd:3"])
async def test_destination_that_listens_at_no_socket_says_none(there: Side, uri: str) -> None:
    await there.execute("migrate-incoming", uri=uri)
    assert await there.info() == {"status": "setup"}


@pytest.mark.parametrize("tight", [True, False])
async def test_destination_at_an_abstract_socket_says_so(there: Side, tight: bool) -> None:
    address = {"transport": "socket", "type": "unix", "path": "a", "abstract": True, "tight": tight}
    await there.execute("migrate-incoming", channels=[{"channel-type": "main", "addr": address}])
    (said,) = (await there.info())["socket-address"]
    assert said.get("abstract") is True
    assert said.get("tight", True) is tight
    assert said["path"] == "a"


async def test_destination_says_what_it_has_received(bench: Bench) -> None:
    there = bench.there
    await bench.begin()
    info = await there.until(lambda info: info["received"]["normal"] > 0)
    assert info.keys() == {"status", "received", "total-time", "socket-address"}
    assert info["status"] == "active"
    received = info["received"]
    assert received.keys() == {
        *("transferred", "total", "normal", "duplicate", "xbzrle", "page-size"),
    }
    assert received["transferred"] > 0
    assert (received["total"], received["page-size"]) == (RAM, PAGE)
    assert (received["duplicate"], received["xbzrle"]) == (0, 0)


async def test_destination_is_active_until_the_guest_is_there(bench: Bench) -> None:
    bench.there.guest.hold("prepare")
    await bench.begin(held=False)
    await bench.there.reached("device")
    assert (await bench.there.info())["status"] == "active"


async def test_destination_is_completed_with_what_it_received(bench: Bench) -> None:
    there = bench.there
    await bench.move()
    info = await there.info()
    assert info.keys() == {"status", "received", "total-time"}
    assert info["status"] == "completed"
    assert await there.info() == info


async def test_destination_fails_with_the_reason(bench: Bench) -> None:
    there = bench.there
    await bench.begin()
    await bench.here.execute("migrate_cancel")
    await there.reached("failed")
    info = await there.info()
    assert info.keys() == {"status", "error-desc", "received", "total-time"}
    assert info["status"] == "failed"
    assert info["error-desc"]


async def test_destination_that_is_told_to_end_is_cancelled(bench: Bench) -> None:
    there = bench.there
    await bench.begin()
    assert there.host.incoming is not None
    there.host.incoming.cancel()
    await there.reached("cancelled")
    info = await there.info()
    assert info["status"] == "cancelled"
    assert "error-desc" not in info
    await bench.here.reached("failed")
    assert (await bench.here.info()).keys() == {"status", "error-desc"}


async def test_last_migration_away_hides_the_one_to_here(bench: Bench) -> None:
    there = bench.there
    await bench.move()
    assert (await there.info())["status"] == "completed"
    there.notices.clear()
    await there.execute("migrate", uri="unix:/nobody")
    await there.reached("failed")
    info = await there.info()
    assert info.keys() == {"status", "error-desc"}
    assert info["status"] == "failed"


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.seed("S18", "S49", "S50", "S75")
async def test_all_that_forbids_a_migration_is_said_at_any_time(bench: Bench) -> None:
    here, there = bench.here, bench.there
    remove_first = here.host.blockers.add("a backup runs", "backup")
    remove_second = here.host.blockers.add("a snapshot is taken", "snapshots")
    here.guest.reasons.append(Blocker("the disk is local", "ide0"))
    assert await here.info() == {
        "blocked-reasons": [
            "the disk is local (says ide0)",
            "a backup runs (says backup)",
            "a snapshot is taken (says snapshots)",
        ]
    }
    remove_first()
    here.guest.reasons.clear()
    assert await here.info() == {"blocked-reasons": ["a snapshot is taken (says snapshots)"]}
    remove_second()
    assert await here.info() == {}
    await bench.begin()
    for side in (here, there):
        side.host.blockers.add("a backup runs", "backup")
        info = await side.info()
        assert info["status"] == "active"
        assert info["blocked-reasons"] == ["a backup runs (says backup)"]


def test_every_status_of_the_engine_has_a_word() -> None:
    assert {one.value for one in EngineStatus} <= {one.value for one in MigrationStatus}


@pytest.mark.seed("S27")
async def test_guest_that_moved_blindly_is_completed(bench: Bench) -> None:
    await bench.move(BLIND)
    for side in (bench.here, bench.there):
        assert (await side.info())["status"] == "completed"


@pytest.mark.parametrize("command", ["query-migrate", "migrate_cancel", "query-status"])
async def test_command_without_arguments_takes_none(here: Side, command: str) -> None:
    assert "'all'" in await here.refusal(command, all=True)
