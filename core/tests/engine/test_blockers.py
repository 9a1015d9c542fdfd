"""What forbids a migration: all of it is named, and by whom, before anything is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from engine_machine import Machine
from engine_pair import Pair

from transship.abc.guest import Blocker, Device
from transship.engine.blockers import Blockers, blockers_of, check_blockers
from transship.engine.notifiers import Notice, StatusReached
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError
from transship.testing import StallAfter
from transship.wire.fields import VMState

if TYPE_CHECKING:
    from collections.abc import Sequence


def device(idstr: str, *, is_migratable: bool) -> Device:
    return Device(idstr, VMState(idstr, fields=[]), object(), is_migratable=is_migratable)


class Blocked(Machine):
    """A machine with a device that cannot be moved, between two that can, and a reason."""

    def devices(self) -> Sequence[Device]:
        return (
            device("disk", is_migratable=True),
            device("gpu", is_migratable=False),
            device("net", is_migratable=True),
            device("tpm", is_migratable=False),
        )

    def blockers(self) -> Sequence[Blocker]:
        return (Blocker("a folder of the host is mounted", "9pfs"),)


@pytest.mark.seed("S74", "S75")
def test_devices_come_first_then_the_guest_then_the_others_in_order_of_coming() -> None:
    explicit = Blockers()
    explicit.add("a backup is being taken", "backup")
    explicit.add("an operator said so", "operator")
    found = blockers_of(Blocked(is_running=True), explicit)
    assert [blocker.owner for blocker in found] == ["gpu", "tpm", "9pfs", "backup", "operator"]


@pytest.mark.seed("S74", "S75")
def test_refusal_names_every_reason_with_its_owner() -> None:
    explicit = Blockers()
    explicit.add("a backup is being taken", "backup")
    with pytest.raises(BlockedError) as caught:
        check_blockers(Blocked(is_running=True), explicit)
    assert caught.value.phase == "setup"
    assert caught.value.cause == (
        "the state of device 'gpu' cannot be moved (says gpu); "
        "the state of device 'tpm' cannot be moved (says tpm); "
        "a folder of the host is mounted (says 9pfs); "
        "a backup is being taken (says backup)"
    )


@pytest.mark.seed("S49", "S50")
def test_reason_that_was_taken_away_forbids_nothing_and_equal_ones_are_told_apart() -> None:
    guest = Machine(is_running=True)
    blockers = Blockers()
    remove_first = blockers.add("a backup is being taken", "backup")
    remove_second = blockers.add("a backup is being taken", "backup")
    remove_first()
    remove_first()
    with pytest.raises(BlockedError):
        check_blockers(guest, blockers)
    remove_second()
    check_blockers(guest, blockers)


def test_guest_without_any_reason_may_move() -> None:
    check_blockers(Machine(is_running=True))
    check_blockers(Machine(is_running=True), Blockers())


@pytest.mark.seed("S49", "S75")
async def test_migration_that_is_forbidden_touches_neither_guest_nor_channel() -> None:
    blockers = Blockers()
    blockers.add("a backup is being taken", "backup")
    pair = Pair(blockers=blockers, near=lambda end: StallAfter(end, sent_bytes=0))
    with pytest.raises(BlockedError, match="says backup"):
        pair.migration.check()
    await pair.run_source_alone()
    assert isinstance(pair.source_error, BlockedError)
    assert pair.source_error.source_may_resume is True
    assert pair.source.history == []
    assert pair.source.log.starts == 0


@pytest.mark.seed("S49")
async def test_reason_that_comes_once_the_migration_has_begun_does_not_stop_it() -> None:
    blockers = Blockers()
    pair = Pair(blockers=blockers)

    def forbid(notice: Notice) -> None:
        if notice == StatusReached(MigrationStatus.ACTIVE):
            blockers.add("a backup is being taken", "backup")

    pair.migration.notifiers.add(forbid)
    await pair.run()
    assert pair.source_error is None
    assert list(blockers)
