"""Addresses in JSON and options beside an address, as they are typed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from transship.cli.addresses import Target, channel_in, parse_options, target
from transship.cli.main import main
from transship.errors import BlockedError

CAT = {"transport": "exec", "args": ["cat"]}


def test_uri_is_left_as_it_is() -> None:
    assert channel_in("exec:{ cat; }") is None
    assert target("unix:/a,b", {"mode": "0660"}) == Target("unix:/a,b", {"mode": "0660"})


@pytest.mark.parametrize("said", [CAT, {"channel-type": "main", "addr": CAT}])
def test_address_in_json_is_a_channel_or_what_is_in_one(said: object) -> None:
    text = f" {json.dumps(said)}"
    assert channel_in(text) == {"channel-type": "main", "addr": CAT}
    assert target(text, {}) == Target("exec:", {"args": ["cat"]})


def test_options_go_with_an_address_in_json() -> None:
    said = json.dumps({"transport": "socket", "type": "unix", "path": "/a"})
    assert target(said, {"mode": "0660"}) == Target("unix:/a", {"mode": "0660"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"transport"', "no JSON object"),
        ("{" * 100_000, "no JSON object"),
        ("{}", "channel.addr.transport"),
        ('{"transport": "pigeon"}', "pigeon"),
        ('{"transport": "exec", "args": "cat"}', "channel.addr.args"),
        ('{"channel-type": "cpr", "addr": {"transport": "exec", "args": ["a"]}}', "'main'"),
        ('{"channel-type": "main"}', "channel.addr"),
    ],
)
def test_json_that_is_no_address_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(BlockedError, match="is no address") as caught:
        target(text, {})
    assert said in str(caught.value)


def test_what_is_said_twice_is_refused() -> None:
    with pytest.raises(BlockedError, match="args: said by"):
        target(json.dumps(CAT), {"args": "x"})
    with pytest.raises(ValueError, match="twice"):
        parse_options(["a=1", "a=2"])


def test_options_are_words_and_switches() -> None:
    assert parse_options(["mode=0660", "abstract", "x="]) == {
        "mode": "0660",
        "abstract": True,
        "x": "",
    }
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parse_options(["=1"])


@pytest.mark.parametrize(
    "addresses",
    [[], ["--incoming", "defer"], ["--incoming", "unix:/a", "--migrate-to", "unix:/b"]],
)
def test_option_of_a_run_needs_one_address(addresses: list[str]) -> None:
    arguments = ["run", "synthetic:ram=1MiB", *addresses, "--option", "mode=0660"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "--option needs one address" in result.output
