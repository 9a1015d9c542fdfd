"""``--set`` and ``--cap`` of the verbs that migrate in their own process."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from transship.abc import Parameters
from transship.cli.local.settings import capabilities_on, parameters_with
from transship.cli.verbs.receive import receive
from transship.cli.verbs.run import run
from transship.cli.verbs.send import send
from transship.errors import BlockedError

if TYPE_CHECKING:
    from pathlib import Path


def test_parameters_are_said_in_the_names_and_units_of_qmp() -> None:
    changed = parameters_with(
        Parameters(stall_timeout_s=5.0),
        {"downtime-limit": 250, "multifd-channels": 4, "cpu-throttle-tailslow": True},
    )
    assert changed == Parameters(
        stall_timeout_s=5.0, downtime_limit_s=0.25, multifd_channels=4, throttle_tailslow=True
    )
    assert parameters_with(Parameters(), {}) == Parameters()


@pytest.mark.parametrize("name", ["tls-hostname", "tls-authz"])
def test_what_only_tls_has_is_refused_where_nothing_would_be_encrypted(name: str) -> None:
    with pytest.raises(BlockedError, match=f"'{name}' has no effect without 'tls-creds'"):
        parameters_with(Parameters(), {name: "b.example.org"})
    assert parameters_with(Parameters(), {name: ""}) == Parameters()
    changed = parameters_with(Parameters(tls_creds="/pki/"), {name: "b.example.org"})
    assert changed == parameters_with(Parameters(), {name: "b.example.org", "tls-creds": "/pki/"})


def test_capabilities_that_are_off_are_not_on() -> None:
    assert capabilities_on({"multifd": True, "events": False, "postcopy-ram": False}) == {"multifd"}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("multifd-channels", 0, "takes 1 to 255"),
        ("multifd-channels", True, "takes a number"),
        ("multifd-channels", "many", "takes a number"),
        ("multifd-compression", 7, "takes a name"),
        ("multifd-chanels", 2, r"no parameter 'multifd-chanels' \(multifd-channels, perhaps\?\)"),
        ("flying", 2, "there are announce-initial, "),
        ("max-postcopy-bandwidth", "1", "is not available: there is no postcopy yet"),
        ("xbzrle-cache-size", 3000, "no power of two"),
        ("max-cpu-throttle", 10, "no less than 'cpu-throttle-initial'"),
        ("cpu-throttle-tailslow", 1, "takes on or off"),
        ("downtime-limit", 2_000_001, "takes 0 to 2000000 ms"),
    ],
)
def test_senseless_parameter_is_refused(name: str, value: bool | int | str, reason: str) -> None:
    with pytest.raises(BlockedError, match=reason):
        parameters_with(Parameters(), {name: value})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("postcopy-ram", "is not available: there is no postcopy yet"),
        ("multifid", r"no capability 'multifid' \(multifd, perhaps\?\)"),
    ],
)
def test_capability_that_is_not_there_is_refused(name: str, reason: str) -> None:
    with pytest.raises(BlockedError, match=reason):
        capabilities_on({name: True})


@pytest.mark.parametrize(
    ("said", "exit_code", "message"),
    [
        (["--set", "multifd-channels=0"], 3, "'multifd-channels' takes 1 to 255"),
        (["--set", "multifd-channels"], 2, "write NAME=VALUE"),
        (["--set", "multifd-compression=no-such"], 3, "no compression method 'no-such'"),
        (["--cap", "flying"], 3, "no capability 'flying'"),
        (["--cap", "multifd=perhaps"], 2, "write NAME, NAME=on or NAME=off"),
        (["--cap", "multifd", "--cap", "xbzrle"], 3, "exclude each other"),
    ],
)
def test_receive_with_senseless_settings_is_refused_and_leaves_nothing(
    tmp_path: Path, said: list[str], exit_code: int, message: str
) -> None:
    result = CliRunner().invoke(receive, ["unix:/x", "--to", str(tmp_path / "vm"), *said])
    assert (result.exit_code, list(tmp_path.iterdir())) == (exit_code, [])
    assert message in " ".join(result.output.split())


def test_send_takes_its_cap_on_the_rate_once(tmp_path: Path) -> None:
    said = ["--bandwidth", "1MiB/s", "--set", "max-bandwidth=2MiB/s"]
    result = CliRunner().invoke(send, [str(tmp_path), "unix:/x", *said])
    assert result.exit_code == 2
    assert "--bandwidth and --set max-bandwidth say the same" in result.output


@pytest.mark.parametrize(
    ("said", "exit_code", "message"),
    [
        pytest.param(
            *(["--set", "multifd-compression=no-such"], 3, "no compression method 'no-such'"),
            marks=pytest.mark.skipif(
                find_spec("transship_unix") is None,
                reason="without transship-unix, that is what run says first",
            ),
        ),
        (["--set", "multifd-channels=0"], 3, "'multifd-channels' takes 1 to 255"),
        (["--cap", "flying"], 3, "no capability 'flying'"),
        (["--downtime", "1s", "--set", "downtime-limit=2s"], 2, "say the same"),
    ],
)
def test_run_with_senseless_settings_is_refused_before_the_guest_starts(
    said: list[str], exit_code: int, message: str
) -> None:
    result = CliRunner().invoke(run, ["synthetic:ram=1MiB", "--migrate-to", "unix:/x", *said])
    assert result.exit_code == exit_code, result.output
    assert "runs here" not in result.output
    assert message in " ".join(result.output.split())
