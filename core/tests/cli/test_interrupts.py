"""The first signal cancels, the second Ctrl-C leaves: one rule for every verb."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import NoReturn

import pytest
import trio
from click.testing import CliRunner

from transship.cli import main as main_module
from transship.cli.exits import ExitCode
from transship.cli.interrupts import Interrupts, until_interrupted
from transship.errors import BlockedError


def struck(*numbers: int) -> tuple[Interrupts, list[str]]:
    interrupts, notes = Interrupts(), list[str]()
    for number in numbers:
        interrupts.heed(number, notes.append)
    return interrupts, notes


@pytest.mark.parametrize(
    ("numbers", "is_leaving"),
    [
        ([signal.SIGINT], False),
        ([signal.SIGINT, signal.SIGINT], True),
        ([signal.SIGTERM, signal.SIGTERM], False),
        ([signal.SIGTERM, signal.SIGINT], False),
        ([signal.SIGINT, signal.SIGTERM], False),
        ([signal.SIGINT, signal.SIGTERM, signal.SIGINT], True),
    ],
)
def test_second_ctrl_c_leaves_and_nothing_else_does(numbers: list[int], is_leaving: bool) -> None:
    interrupts, _ = struck(*numbers)
    assert interrupts.is_leaving is is_leaving


def test_what_once_more_does_is_said_to_whoever_has_a_keyboard() -> None:
    assert struck(signal.SIGTERM)[1] == ["cancelling"]
    assert struck(signal.SIGINT, signal.SIGINT)[1] == ["cancelling; once more leaves at once"]


def test_code_of_leaving_is_that_of_a_shell() -> None:
    assert ExitCode.LEFT == 128 + signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_body_with_nothing_to_give_back_is_left_at_the_first_signal(number: int) -> None:
    async def body(told: str) -> int:
        assert told == "it"
        os.kill(os.getpid(), number)
        await trio.sleep_forever()
        raise AssertionError

    assert await until_interrupted(body, "it") == ExitCode.LEFT


async def test_body_that_ends_by_itself_has_its_own_code_and_its_own_error() -> None:
    async def done() -> int:
        return ExitCode.SPLIT

    async def refused() -> int:
        raise BlockedError("no")

    assert await until_interrupted(done) == ExitCode.SPLIT
    with pytest.raises(BlockedError, match="no"):
        await until_interrupted(refused)


def test_ctrl_c_while_a_verb_is_being_imported_leaves_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(name: str) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "import_module", interrupted)
    result = CliRunner().invoke(main_module.main, ["status"])
    assert result.exit_code == ExitCode.LEFT
    assert "left before anything began" in result.output


@pytest.mark.parametrize("text", ["host:4444", "tcp:localhost", "tcp::70000", "vsock:1:2"])
def test_address_of_a_host_is_checked_with_the_other_options(text: str) -> None:
    result = CliRunner().invoke(main_module.main, ["run", "nonsense", "--qmp", text])
    assert result.exit_code == ExitCode.USAGE
    assert "no address of a QMP server" in " ".join(result.output.split())


def test_ctrl_c_while_the_command_is_imported_leaves_with_one_line() -> None:
    interrupted = """if True:
        import runpy, sys

        class Interrupted:
            def find_spec(self, name, path=None, target=None):
                if name == "transship.cli.main":
                    raise KeyboardInterrupt

        sys.meta_path.insert(0, Interrupted())
        runpy.run_module("transship", run_name="__main__")
    """
    result = subprocess.run(
        [sys.executable, "-c", interrupted], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (130, "left before anything began\n")
