"""Why the destination failed: told in a few facts, and read as if an enemy had written them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from transship.errors import CancelledError, LocalError, PluginError, StreamError
from transship.wire.constants import ReturnType
from transship.wire.limits import REASON_BYTES
from transship.wire.reader import StreamReader, drive
from transship.wire.reason import read_reason, reason
from transship.wire.returnpath import ReturnMessage, read_message

FACTS = {"kind", "cause", "phase", "section", "offset", "expected", "found", "hint"}


def message(payload: bytes) -> ReturnMessage:
    return ReturnMessage(ReturnType.REASON, payload)


def read(**facts: Any) -> Any:
    return read_reason(message(json.dumps(facts).encode()))


@pytest.mark.seed("S31")
def test_facts_of_an_error_arrive_as_they_are() -> None:
    error = StreamError(
        "unknown record type",
        side="destination",
        phase="active",
        section="ram",
        offset=1 << 40,
        expected="a record type",
        found="0x61",
        source_may_resume=True,
        hint="the source is of another version",
    )
    assert read_reason(reason(error)) == {
        "kind": "StreamError",
        "cause": "unknown record type",
        "phase": "active",
        "section": "ram",
        "offset": 1 << 40,
        "expected": "a record type",
        "found": "0x61",
        "hint": "the source is of another version",
    }


def test_facts_that_are_not_known_are_left_out() -> None:
    assert read_reason(reason(CancelledError("somebody asked for it"))) == {
        "kind": "CancelledError",
        "cause": "somebody asked for it",
    }


def test_error_with_more_facts_than_these_tells_these() -> None:
    facts = read_reason(reason(PluginError("no plugin", distribution="transship-ram")))
    assert facts == {"kind": "PluginError", "cause": "no plugin"}


def test_message_fits_the_return_path_and_is_read_from_it() -> None:
    sent = reason(StreamError("x" * 5000, expected="y" * 5000, found="z" * 5000, hint="w" * 5000))
    reader = StreamReader()
    pieces = iter([sent.encode(), b""])
    came = drive(read_message(reader), reader, lambda room: _fill(room, next(pieces)))
    assert came == sent


def _fill(room: memoryview, piece: bytes) -> int:
    room[: len(piece)] = piece
    return len(piece)


texts = st.text(st.characters(), max_size=700)


@given(texts, texts, texts, texts, st.integers(0, 1 << 62))
def test_any_error_gives_a_message_that_is_read_with_its_cause(
    cause: str, section: str, expected: str, hint: str, offset: int
) -> None:
    sent = reason(StreamError(cause, section=section, expected=expected, hint=hint, offset=offset))
    assert len(sent.payload) <= REASON_BYTES
    facts = read_reason(sent)
    told = str(facts["cause"])
    assert told.isprintable()
    shown = "".join(c if c.isprintable() else "?" for c in cause)
    assert told.removesuffix("...") == shown[: len(told.removesuffix("..."))]
    assert facts.get("offset", offset) == offset


@pytest.mark.parametrize("letter", ["\U0001f40b", "é", '"', "\\", "x", "\n", "\ud800"])
def test_long_cause_of_any_letters_is_told_cut_short(letter: str) -> None:
    facts = read_reason(reason(LocalError(letter * 100_000)))
    assert len(str(facts["cause"])) == 403
    assert str(facts["cause"]).endswith("...")


def test_error_with_five_long_facts_tells_all_of_them() -> None:
    facts = read_reason(
        reason(
            StreamError(
                "c" * 9999,
                section="s" * 9999,
                offset=7,
                expected="e" * 9999,
                found="f" * 9999,
                hint="h" * 9999,
            )
        )
    )
    assert facts["offset"] == 7
    assert {str(facts[name])[0] for name in ("cause", "section", "expected", "found", "hint")} == (
        set("csefh")
    )


# From an enemy.


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"{",
        b"[]",
        b"null",
        b"17",
        b'"cause"',
        b"{}",
        b'{"cause": null}',
        b'{"cause": 7}',
        b'{"cause": ["x"]}',
        b'{"cause": true}',
        b'{"because": "x"}',
        b"[" * 4096,
        b'{"cause":' * 450,
        b'{"cause": "x", "hint": ' + b"[" * 4000,
        b"\xff\xfe\xfd" * 100,
        b'{"cause": "\xff"}',
        b'{"cause": "x"} trailing',
        b"9" * 4096,
    ],
    ids=lambda payload: repr(payload[:24]),
)
def test_payload_that_is_no_reason_is_none(payload: bytes) -> None:
    assert read_reason(message(payload)) == {}


def test_facts_that_nobody_knows_are_dropped() -> None:
    assert read(cause="x", side="source", source_may_resume=False, secret="y") == {"cause": "x"}


@pytest.mark.parametrize("value", [None, True, 1.5, [], {}, [1], {"a": 1}, float("inf")], ids=repr)
def test_facts_of_the_wrong_kind_are_dropped(value: object) -> None:
    assert read(cause="x", offset=value, hint=value) == {"cause": "x"}


@pytest.mark.parametrize(
    "value", [-1, 1 << 64, -(1 << 200), int("9" * 3900)], ids=["-1", "2^64", "-2^200", "huge"]
)
@pytest.mark.parametrize("name", ["offset", "hint"])
def test_number_that_no_stream_can_have_is_dropped(name: str, value: int) -> None:
    assert read(**{"cause": "x", name: value}) == {"cause": "x"}


def test_largest_offset_is_read() -> None:
    assert read(cause="x", offset=(1 << 64) - 1)["offset"] == (1 << 64) - 1


def test_control_characters_are_made_harmless() -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\r\nSUCCESS\u202e\u2028\x00\x7f\x9b"
    facts = read(cause=hostile, hint=hostile)
    assert str(facts["cause"]).isprintable()
    assert str(facts["hint"]).isprintable()
    assert "SUCCESS" in str(facts["cause"])


def test_half_of_a_surrogate_pair_is_made_harmless() -> None:
    facts = read_reason(message(b'{"cause": "\\ud800"}'))
    assert facts == {"cause": "?"}
    str(facts["cause"]).encode()


def test_overlong_facts_are_cut() -> None:
    facts = read(cause="x" * 3000)
    assert facts == {"cause": "x" * 400 + "..."}


def test_last_of_two_facts_of_one_name_counts() -> None:
    assert read_reason(message(b'{"cause": "x", "cause": "y"}')) == {"cause": "y"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(st.binary(max_size=REASON_BYTES))
def test_no_bytes_raise_anything(payload: bytes) -> None:
    _check(read_reason(message(payload)))


@given(st.dictionaries(st.sampled_from(sorted(FACTS)) | st.text(max_size=8), json_values))
def test_no_facts_raise_anything(facts: dict[str, object]) -> None:
    _check(read_reason(message(json.dumps(facts).encode())))


def _check(facts: Any) -> None:
    assert facts.keys() <= FACTS
    assert not facts or isinstance(facts["cause"], str)
    for value in facts.values():
        if isinstance(value, str):
            assert value.isprintable()
            assert len(value) <= 403
        else:
            assert 0 <= value < 1 << 64
