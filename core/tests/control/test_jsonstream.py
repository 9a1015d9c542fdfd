"""Messages are found in bytes, however these are cut, and whatever they are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from transship.control.server import limits
from transship.control.server.jsonstream import Found, JsonReader, Malformed, Message


def read_all(data: bytes, step: int | None = None) -> list[Found]:
    reader, found = JsonReader(), []
    step = step or max(len(data), 1)
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        while (one := reader.next()) is not None:
            found.append(one)
    return found


def values(data: bytes) -> list[object]:
    """The messages in bytes that have nothing else in them, also one byte at a time."""
    found = read_all(data)
    assert found == read_all(data, 1)
    assert all(isinstance(one, Message) for one in found), found
    return [one.value for one in found if isinstance(one, Message)]


def kinds(data: bytes) -> str:
    """What is found, in order: ``m`` for a message, ``-`` for what is none, ``!`` for the end."""
    found = read_all(data)
    assert found == read_all(data, 1 if len(data) < 10_000 else 4099)
    return "".join(
        "m" if isinstance(one, Message) else "!" if one.is_fatal else "-" for one in found
    )


# What is a message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"{}", [{}]),
        (b'{"a":1}{"b":2}', [{"a": 1}, {"b": 2}]),
        (b' \r\n\t{"a" : 1 } \r\n', [{"a": 1}]),
        (b'{"a":[{"b":{}}]}', [{"a": [{"b": {}}]}]),
        (b'{"}{": "]["}', [{"}{": "]["}]),
        (b"{'a': 'b'}", [{"a": "b"}]),
        (b"""{'a"b': 'it\\'s "it"'}""", [{'a"b': 'it\'s "it"'}]),
        (b"""{"it\\'s": "it's"}""", [{"it's": "it's"}]),
        (b"""{'a\\\\': '\\\\\\'', "b": "\\\\"}""", [{"a\\": "\\'", "b": "\\"}]),
        (b"""{'\\"': 1}""", [{'"': 1}]),
        (rb'{"a":"\b\f\n\r\t\/\\\"\u00e9"}', [{"a": '\b\f\n\r\t/\\"é'}]),
        (rb'{"a":"\ud83d\ude00"}', [{"a": "😀"}]),
        ('{"a":"é😀"}'.encode(), [{"a": "é😀"}]),
        (rb'{"a":"\u0000"}', [{"a": "\0"}]),
        (b'{"a":"\x7f"}', [{"a": "\x7f"}]),
        (b'{"a":[null,true,false]}', [{"a": [None, True, False]}]),
        (b'{"a":-9223372036854775808}', [{"a": -(1 << 63)}]),
        (b'{"a":18446744073709551615}', [{"a": (1 << 64) - 1}]),
        (b'{"a":1.5e3}', [{"a": 1500.0}]),
        (b"\"a\" 'b' [1]", ["a", "b", [1]]),
    ],
)
def test_reader_finds_messages(data: bytes, expected: list[object]) -> None:
    assert values(data) == expected


@pytest.mark.parametrize("text", ["18446744073709551616", "-9223372036854775809", "9" * 300])
def test_whole_number_beyond_64_bits_becomes_a_float(text: str) -> None:
    (value,) = values(b"[%s]" % text.encode())
    assert value == [float(text)]
    assert isinstance(value, list)
    assert type(value[0]) is float


def test_message_is_found_when_it_closes_without_a_newline() -> None:
    reader = JsonReader()
    reader.feed(b'{"execute": "a"')
    assert reader.next() is None
    reader.feed(b"}")
    assert reader.next() == Message({"execute": "a"})


def test_reader_knows_whether_a_message_has_begun() -> None:
    for data, has_partial in [(b"", False), (b" ", False), (b"{", True), (b"{}", False)]:
        reader = JsonReader()
        reader.feed(data)
        while reader.next() is not None:
            pass
        assert reader.has_partial is has_partial


# What is none


@pytest.mark.parametrize(
    "text",
    [
        b"{,}",
        b"{1:2}",
        b"{a:2}",
        b'{"a"}',
        b'{"a" 1}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":1 "b":2}',
        b'{"a":1,"a":2}',
        b'{"b":{"a":1,"a":2}}',
        b"[1,]",
        b"[1 2]",
        b"[}",
        b"{]",
        b"[01]",
        b"[+1]",
        b"[.5]",
        b"[1.]",
        b"[1e]",
        b"[-]",
        b"[0x10]",
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[nan]",
        b"[1e999]",
        b"[-1e999]",
        b"[True]",
        b"[nul]",
        b"[undefined]",
        b"[%d]",
        rb'["\q"]',
        rb'["\u12g4"]',
        rb'["\u12"]',
        rb'["\ud800"]',
        rb'["\udc00"]',
        rb'["\ud800\u0041"]',
        rb'{"\ud800":1}',
        b'["\xc3"]',
        b'["\xed\xa0\x80"]',
        b'["\xc0\x80"]',
        b'["\xf5\x80\x80\x80"]',
        b"[\xc3\xa9]",
        b'{"a":1}garbage',
        b"// comment",
    ],
)
def test_reader_refuses_what_is_no_json_and_goes_on(text: bytes) -> None:
    found = kinds(text + b'\n{"execute":"a"}')
    assert found.endswith("m")
    assert "-" in found
    assert len(found) <= 4


def test_huge_number_takes_no_time_and_is_refused() -> None:
    assert kinds(b"[" + b"9" * (limits.MESSAGE_BYTES - 2) + b"]") == "-"


@pytest.mark.parametrize("text", [b"nonsense", b"42", b"}}}}", b"]]]", b":", b"true", b",,,"])
def test_run_of_what_begins_no_message_is_one_error(text: bytes) -> None:
    assert kinds(text + b" ") == "-"
    assert kinds(text + b'{"a":1}') == "-m"


# Getting back into step


@pytest.mark.parametrize("byte", [*range(0x20), 0xFF])
def test_control_byte_ends_a_message_and_gets_back_into_step(byte: int) -> None:
    control = bytes([byte])
    if control in b"\t\r\n":
        assert kinds(b'{"a"' + control + b":1}") == "m"
    else:
        assert kinds(b'{"a"' + control + b'{"b":1}') == "-m"
        assert kinds(control + b'{"b":1}') == "-m"
    assert kinds(b'{"a' + control + b'{"b":1}') == "-m"
    assert kinds(b"{'a\\" + control + b'{"b":1}') == "-m"


def test_run_of_control_bytes_is_one_error() -> None:
    assert kinds(bytes(1000) + b'{"b":1}') == "-m"


def test_newline_in_a_string_loses_that_line_alone() -> None:
    found = kinds(b'{"a": "b\n}\n{"c":1}')
    assert found.endswith("m")


# Limits


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":"' + b"x" * limits.MESSAGE_BYTES,
        b"{'a':'" + b"\\'" * limits.MESSAGE_BYTES,
        b'["' + b"\\\\" * limits.MESSAGE_BYTES,
        b"[" + b" " * limits.MESSAGE_BYTES,
        b"[" + b"1" * limits.MESSAGE_BYTES,
        b"[" * (limits.MESSAGE_DEPTH + 1),
        b'{"a":' * (limits.MESSAGE_DEPTH + 1),
        b"[" + b"1," * limits.MESSAGE_TOKENS + b"1]",
        b"[" + b'""' * limits.MESSAGE_TOKENS + b"]",
        b"[" + b"[]" * limits.MESSAGE_TOKENS + b"]",
    ],
    ids=lambda text: text[:10].decode(),
)
def test_too_large_message_is_the_last_that_is_read(text: bytes) -> None:
    found = read_all(b'{"a":1}' + text + b'"]}{"b":1}', 65536)
    assert found[0] == Message({"a": 1})
    assert isinstance(found[1], Malformed)
    assert found[1].is_fatal
    assert len(found) == 2


def test_largest_message_is_read() -> None:
    text = b'["' + b"x" * (limits.MESSAGE_BYTES - 4) + b'"]'
    assert len(text) == limits.MESSAGE_BYTES
    assert kinds(text + b"{}") == "mm"
    assert kinds(text[:-2] + b'x"]') == "!"


def test_deepest_message_is_read() -> None:
    depth = limits.MESSAGE_DEPTH
    assert kinds(b"[" * depth + b"]" * depth) == "m"


def test_message_of_most_tokens_is_read() -> None:
    commas = limits.MESSAGE_TOKENS - 2
    assert kinds(b"[" + b"1," * commas + b"1]") == "m"
    assert kinds(b"[" + b"1," * (commas + 1) + b"1]") == "!"


def test_commas_inside_strings_are_no_tokens() -> None:
    assert kinds(b'["' + b"," * limits.MESSAGE_TOKENS + b'"]') == "m"


def test_reader_keeps_nothing_of_what_is_too_large() -> None:
    reader = JsonReader()
    for _ in range(2 * limits.MESSAGE_BYTES // 65536):
        reader.feed(b"[" * 65536)
        while reader.next() is not None:
            pass
    assert not reader.has_partial
    assert not reader._data


# Properties

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
SCRAPS = st.text(st.sampled_from("{}[],:'\"\\ \n\x01ua1e-.x"), max_size=60).map(str.encode)


@given(st.lists(st.dictionaries(TEXT, JSON)), st.booleans(), st.integers(1, 7))
def test_what_json_writes_is_read_back(
    messages: list[dict[str, object]], is_ascii: bool, step: int
) -> None:
    data = "".join(json.dumps(one, ensure_ascii=is_ascii) for one in messages)
    assert read_all(data.encode(), step) == [Message(one) for one in messages]


@given(st.binary(max_size=200) | SCRAPS)
def test_any_bytes_are_read_the_same_however_they_are_cut(data: bytes) -> None:
    whole = read_all(data)
    assert read_all(data, 1) == whole
    assert read_all(data, 3) == whole


@given(SCRAPS)
def test_after_any_bytes_a_control_byte_gets_back_into_step(data: bytes) -> None:
    found = read_all(data + b'\xff{"execute":"a"}')
    assert found[-1] == Message({"execute": "a"})
