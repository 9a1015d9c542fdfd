"""The same dialogue over QMP with a QEMU 10.0 and with us: members, types, error classes, events.

What is asked, and where the answers may differ, is data: see `tests/dialogue`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from dialogue.player import Answer, check, compare, play
from dialogue.script import Dial, Dialogue, dialogues, differences
from qemu_peer.find import qemu_binaries
from qemu_peer.process import QemuProcess
from support.commands import VerbProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dialogue.script import Side

pytest.importorskip("transship_tcp")
pytest.importorskip("transship_unix")
pytest.importorskip("transship_exec")
pytest.importorskip("transship_fd")
pytest.importorskip("transship_file")
pytest.importorskip("transship_nbd")
pytest.importorskip("transship_ram")
pytest.importorskip("transship_devstate")

GUEST: Final = "synthetic:ram=16MiB,dirty-rate=8MiB/s,working-set=1MiB"
"""Writes, as the one in QEMU does, or there would be nothing to throttle."""

OPTIONS: Final[dict[Side, tuple[str, ...]]] = {
    "source": ("--paused",),
    "destination": ("--paused", "--incoming", "defer"),
}

IN_SCOPE: Final = frozenset(
    {
        *("migrate", "migrate-incoming", "migrate_cancel", "migrate-continue", "query-migrate"),
        *("migrate-set-parameters", "query-migrate-parameters"),
        *("migrate-set-capabilities", "query-migrate-capabilities"),
        *("announce-self", "query-status", "stop", "cont", "quit"),
        *("getfd", "closefd", "add-fd", "remove-fd", "query-fdsets"),
        *("query-version", "query-commands", "query-qmp-schema", "qmp_capabilities"),
        *("nbd-server-start", "nbd-server-stop", "query-block-exports", "query-block"),
        *("block-export-add", "block-export-del", "blockdev-add", "blockdev-del"),
        *("blockdev-mirror", "block-job-cancel", "block-job-set-speed"),
        *("query-jobs", "job-dismiss", "query-named-block-nodes"),
        "human-monitor-command",
    }
)

DIALOGUES: Final = dialogues()
BINARIES: Final = {one.label: one for one in qemu_binaries()}
ABOUT_DESCRIPTORS: Final = ("descriptors", "incoming-descriptor")
"""Dialogues that a QEMU 7.2 has as well."""

with_qemu_7 = pytest.mark.skipif("7.2" not in BINARIES, reason="needs QEMU 7.2")
with_qemu_10 = pytest.mark.skipif(
    "10.0" not in BINARIES, reason="needs QEMU 10.0: tests/qemu_peer/fetch-qemu.sh unpacks it"
)
each_dialogue = pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda one: one.name)

_ATTEMPTS: Final = 3

_heard: dict[str, list[Answer]] = {}


@asynccontextmanager
async def qemu(side: Side, folder: Path, label: str = "10.0") -> AsyncIterator[Path]:
    """A QEMU whose guest does not run, or is awaited; gives the socket of a monitor of its own."""
    path = folder / f"{side}.sock"
    async with QemuProcess(
        BINARIES[label],
        folder,
        name=side,
        paused=True,
        incoming="defer" if side == "destination" else None,
        arguments=["-qmp", f"unix:{path},server=on,wait=off"],
    ):
        yield path


@asynccontextmanager
async def transship(side: Side, folder: Path) -> AsyncIterator[Path]:
    """The same with us."""
    path = folder / f"{side}.sock"
    async with VerbProcess("run", GUEST, *OPTIONS[side], "--qmp", f"unix:{path}"):
        yield path


async def told_by_qemu(dialogue: Dialogue, place: Path) -> list[Answer]:
    """What QEMU says. It is asked once in a test run.

    Again, though, if its guest, under software emulation on a busy machine, was not where the
    dialogue wants it: what a QEMU says on time it says again.
    """
    for attempt in range(_ATTEMPTS):
        if dialogue.name in _heard:
            break
        folder = place / f"qemu-{attempt}"
        folder.mkdir()
        answers = await play(dialogue, qemu, folder)
        if attempt + 1 == _ATTEMPTS or not _wrong(dialogue, answers):
            _heard[dialogue.name] = answers
    return _heard[dialogue.name]


def _wrong(dialogue: Dialogue, answers: list[Answer]) -> list[str]:
    """Where QEMU's answers are not those that the dialogue has."""
    return [
        one
        for step, answer in zip(dialogue.steps, answers, strict=True)
        for one in check(step, answer)
    ]


@pytest.mark.qemu
@with_qemu_10
@each_dialogue
async def test_qemu_answers_as_the_dialogue_has_it(dialogue: Dialogue, place: Path) -> None:
    wrong = _wrong(dialogue, await told_by_qemu(dialogue, place))
    assert not wrong, "\n".join(wrong)


@pytest.mark.qemu
@with_qemu_7
@pytest.mark.parametrize("name", ABOUT_DESCRIPTORS)
async def test_older_qemu_treats_descriptors_alike(name: str, place: Path) -> None:
    (dialogue,) = (one for one in DIALOGUES if one.name == name)
    wrong = _wrong(dialogue, await play(dialogue, partial(qemu, label="7.2"), place))
    assert not wrong, "\n".join(wrong)


@pytest.mark.qemu
@with_qemu_10
@each_dialogue
async def test_transship_answers_as_qemu_does(dialogue: Dialogue, place: Path) -> None:
    qemus = await told_by_qemu(dialogue, place)
    folder = place / "ours"
    folder.mkdir()
    ours = await play(dialogue, transship, folder)
    discrepancies = [
        str(one)
        for step, theirs, our in zip(dialogue.steps, qemus, ours, strict=True)
        for one in compare(step.title, theirs, our, step.differences)
    ]
    assert not discrepancies, "\n".join(discrepancies)


def test_every_difference_is_referred_to_by_a_step() -> None:
    used = {
        one.name for dialogue in DIALOGUES for step in dialogue.steps for one in step.differences
    }
    assert used == differences().keys()


def test_every_command_is_spoken_of() -> None:
    requests = [
        step.request
        for dialogue in DIALOGUES
        for step in dialogue.steps
        if not isinstance(step.request, Dial)
    ]
    assert not {
        command
        for command in IN_SCOPE
        if not any(f'"execute": "{command}"'.encode() in request for request in requests)
    }
