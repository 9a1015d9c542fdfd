"""What the description says, held against the bytes that real QEMUs sent with it."""

import json
from dataclasses import replace

import pytest
from capture_files import MAIN_STREAMS, CapturedTail, captured_tail
from hypothesis import given, settings, strategies as st

from transship.errors import StreamError
from transship.wire import limits
from transship.wire.vmdesc import (
    DeviceDescription,
    DeviceRecord,
    Object,
    StreamDescription,
    decode_fields,
    parse_description,
    parse_json,
    serialise,
    split_devices,
)


@pytest.fixture(params=MAIN_STREAMS)
def tail(request: pytest.FixtureRequest) -> CapturedTail:
    return captured_tail(request.param)


def one_device(body: bytes, fields: str, subsections: str = "") -> DeviceRecord:
    text = (
        f'{{"name": "toy", "instance_id": 0, "vmsd_name": "toy", "version": 1, "fields": [{fields}]'
    )
    text += f', "subsections": [{subsections}]}}' if subsections else "}"
    return DeviceRecord("toy", 0, 1, 7, body, text)


def decoded(fields: str, body: str, subsections: str = "") -> object:
    return decode_fields(one_device(bytes.fromhex(body), fields, subsections))["fields"]


# The JSON.


def test_real_description_serialises_to_the_same_bytes(tail: CapturedTail) -> None:
    assert serialise(parse_json(tail.description)).encode() == tail.description


def test_devices_of_real_description_keep_their_text(tail: CapturedTail) -> None:
    texts = [device.text for device in parse_description(tail.description).devices]
    assert f'"devices": [{", ".join(texts)}]}}'.encode() in tail.description


def test_repeated_keys_are_kept_in_order() -> None:
    text = '{"fields": [1], "type": "qtailq", "fields": [2], "fields": []}'
    value = parse_json(text)
    assert isinstance(value, Object)
    assert [key for key, _ in value] == ["fields", "type", "fields", "fields"]
    assert serialise(value) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**63) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(st.tuples(st.text(max_size=4), inner), max_size=4).map(Object)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(json_values)
def test_any_value_serialises_and_parses_to_itself(value: object) -> None:
    text = serialise(value)  # type: ignore[arg-type]
    assert parse_json(text) == value
    assert serialise(parse_json(text)) == text


@pytest.mark.parametrize("bracket", ["[", '{"a": '], ids=["lists", "objects"])
def test_text_nested_beyond_the_limit_is_refused(bracket: str) -> None:
    closing = "]" if bracket == "[" else "}"

    def nested(depth: int) -> str:
        return bracket * (depth - 1) + bracket[0] + closing * depth

    parse_json(nested(limits.DESCRIPTION_DEPTH))
    with pytest.raises(StreamError, match="deep"):
        parse_json(nested(limits.DESCRIPTION_DEPTH + 1))
    with pytest.raises(StreamError, match="deep"):
        parse_json(bracket * 100_000)


def test_brackets_within_strings_do_not_count_as_nesting() -> None:
    text = json.dumps("[" * 100 + '\\"' + "{" * 100)
    assert serialise(parse_json(text)) == text


def test_text_with_too_many_values_is_refused_before_it_is_built() -> None:
    with pytest.raises(StreamError, match=f"more than {limits.DESCRIPTION_VALUES} values"):
        parse_json("[" + "[]," * limits.DESCRIPTION_VALUES + "0]")


@pytest.mark.parametrize("unit", ['\\"', '"', "[", "\\"])
def test_hostile_text_is_refused_in_linear_time(unit: str) -> None:
    """Were it quadratic, this many would take hours."""
    with pytest.raises(StreamError):
        parse_json('"' + unit * 500_001)


def test_text_beyond_the_limit_of_bytes_is_refused() -> None:
    with pytest.raises(StreamError, match=f"more than {limits.DESCRIPTION_BYTES} bytes"):
        parse_json(b" " * (limits.DESCRIPTION_BYTES + 1))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'{"a" 1}', b"[1] 2", b"1.5", b"1e9", b"NaN", b"-0", b"9" * 5000, b'"\xff"', b'"'],
)
def test_text_that_is_not_whole_json_of_integers_is_refused(text: bytes) -> None:
    with pytest.raises(StreamError) as caught:
        parse_json(text, offset=33)
    assert caught.value.offset == 33


# The lengths of the devices.


def test_devices_of_real_stream_tile_it_exactly(tail: CapturedTail) -> None:
    description = parse_description(tail.description)
    records = split_devices(tail.devices, description)
    rebuilt = b"".join(
        b"\x04"
        + record.section_id.to_bytes(4, "big")
        + bytes([len(record.idstr)])
        + record.idstr.encode()
        + record.instance_id.to_bytes(4, "big")
        + record.version_id.to_bytes(4, "big")
        + record.body
        + b"\x7e"
        + record.section_id.to_bytes(4, "big")
        for record in records
    )
    assert rebuilt + b"\0" == tail.devices
    assert records[0].idstr == "timer"
    assert records[-1].idstr == "globalstate"
    assert [record.description for record in records] == [one.text for one in description.devices]


def test_description_of_7_2_has_no_configuration_and_of_10_0_has_one() -> None:
    old, new = (captured_tail(f"{version}-pc-tcg-boot.mig") for version in ("q72", "q10"))
    assert old.description.startswith(b'{"page_size"')
    assert new.description.startswith(b'{"configuration"')
    assert parse_description(old.description).page_size == 4096
    assert parse_description(new.description).page_size == 4096


def test_length_of_a_body_counts_arrays_and_headers_of_subsections() -> None:
    record = one_device(
        b"",
        '{"name": "a", "array_len": 3, "type": "uint16", "size": 2}, '
        '{"name": "b", "type": "uint8", "size": 1}',
        '{"vmsd_name": "toy/x", "version": 1, '
        '"fields": [{"name": "c", "type": "bool", "size": 1}], '
        '"subsections": [{"vmsd_name": "toy/x/y", "version": 1, "fields": []}]}',
    )
    text = f'{{"page_size": 4096, "devices": [{record.description}]}}'
    (device,) = parse_description(text).devices
    assert device == DeviceDescription("toy", 0, 1, 7 + 11 + 1 + 13, record.description)


def test_device_of_an_old_handler_has_no_version_of_its_own() -> None:
    data = '{"name": "data", "size": 5, "type": "buffer"}'
    old = f'{{"name": "old", "instance_id": 2, "size": 5, "fields": [{data}]}}'
    (device,) = parse_description(f'{{"page_size": 4096, "devices": [{old}]}}').devices
    assert device == DeviceDescription("old", 2, None, 5, old)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"devices": {}}',
        '{"devices": [1]}',
        '{"devices": [{}]}',
        '{"devices": [{"name": 5, "instance_id": 0, "fields": []}]}',
        '{"devices": [{"name": "a", "instance_id": true, "fields": []}]}',
        '{"devices": [{"name": "a", "instance_id": 0, "fields": [{"name": "x"}]}]}',
        '{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": -1}]}]}',
        '{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": 1, "array_len": "2"}]}]}',
        '{"devices": [{"name": "a", "instance_id": 0, "subsections": [{"fields": []}]}]}',
        '{"devices": [], "page_size": "4096"}',
        '{"devices": [], "page_size": 4294967296}',
    ],
)
def test_json_that_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(StreamError, match="known form"):
        parse_description(text)


def small_tail(body: bytes = b"\x01\x02", *, footer_id: int = 7) -> bytes:
    head = b"\x04\x00\x00\x00\x07\x03toy\x00\x00\x00\x00\x00\x00\x00\x01"
    return head + body + b"\x7e" + footer_id.to_bytes(4, "big") + b"\0"


TOY = StreamDescription((DeviceDescription("toy", 0, 1, 2, "{}"),))


def test_split_finds_a_small_device() -> None:
    assert split_devices(small_tail(), TOY) == (DeviceRecord("toy", 0, 1, 7, b"\x01\x02", "{}"),)


@pytest.mark.parametrize(
    ("data", "offset", "expected"),
    [
        (small_tail(b"\x01"), 119, "footer 0x7e of section 7"),
        (small_tail(b""), 100, "24 bytes"),
        (small_tail(b"\x01\x02\x03"), 119, "footer 0x7e of section 7"),
        (small_tail(footer_id=8), 119, "footer 0x7e of section 7"),
        (small_tail()[:-1], 124, "the EOF byte, and nothing more"),
        (small_tail() + b"\0", 124, "the EOF byte, and nothing more"),
        (b"\x01" + small_tail()[1:], 100, "record type 0x04"),
        (small_tail().replace(b"toy", b"tox"), 105, "toy"),
        (b"\x04\x00\x00\x00\x07\x03toy\x00\x00\x00\x09" + small_tail()[13:], 109, "0"),
        (
            b"\x04\x00\x00\x00\x07\x03toy\x00\x00\x00\x00\x00\x00\x00\x02" + small_tail()[17:],
            113,
            "1",
        ),
    ],
    ids=[
        "short body",
        "no body",
        "long body",
        "other footer",
        "no EOF",
        "more",
        "no FULL",
        "name",
        "instance",
        "version",
    ],
)
def test_split_says_where_description_and_bytes_part(
    data: bytes, offset: int, expected: str
) -> None:
    with pytest.raises(StreamError) as caught:
        split_devices(data, TOY, offset=100)
    assert caught.value.offset == offset
    assert caught.value.expected == expected
    assert caught.value.found


def test_split_of_every_prefix_of_a_real_tail_is_refused() -> None:
    tail = captured_tail("q10-q35-S.mig")
    description = parse_description(tail.description)
    for end in range(0, len(tail.devices), 97):
        with pytest.raises(StreamError):
            split_devices(tail.devices[:end], description)


# The values.


def test_every_device_of_a_real_stream_decodes(tail: CapturedTail) -> None:
    records = split_devices(tail.devices, parse_description(tail.description))
    values = {(one.idstr, one.instance_id): decode_fields(one) for one in records}
    state = values["globalstate", 0]["fields"]
    size, name = state["size"], state["runstate"]
    assert isinstance(size, int)
    assert isinstance(name, str)
    assert bytes.fromhex(name)[: size - 1] in (b"running", b"paused", b"prelaunch")
    assert list(values["timer", 0]["fields"]) == ["cpu_ticks_offset", "unused", "cpu_clock_offset"]
    assert values["timer", 0]["fields"]["unused"] == "00" * 8
    registers = values["cpu", 0]["fields"]["env.regs"]
    assert isinstance(registers, list)
    assert len(registers) == 16
    assert all(isinstance(one, int) for one in registers)


def test_decoded_cpu_has_nested_structs_and_subsections() -> None:
    tail = captured_tail("q10-pc-tcg-boot.mig")
    records = split_devices(tail.devices, parse_description(tail.description))
    cpu = decode_fields(next(one for one in records if one.idstr == "cpu"))
    fpregs = cpu["fields"]["env.fpregs"]
    assert isinstance(fpregs, list)
    assert len(fpregs) == 8
    assert isinstance(fpregs[0], dict)
    assert isinstance(fpregs[0]["tmp"], dict)
    assert set(fpregs[0]["tmp"]) == {"tmp_mant", "tmp_exp"}
    names = [one["name"] for one in cpu["subsections"]]
    assert names == ["cpu/poll_control_msr", "cpu/msr_smi_count"]
    assert cpu["subsections"][0]["version"] == 1
    assert cpu["subsections"][0]["fields"] == {"env.poll_control_msr": 0}
    assert cpu["subsections"][0]["subsections"] == []


@pytest.mark.parametrize("version", ["q72", "q10"])
def test_array_described_element_by_element_decodes_to_a_list(version: str) -> None:
    """7.2 gives every element its index, 10.0 all but the last."""
    tail = captured_tail(f"{version}-pc-tcg-boot.mig")
    records = split_devices(tail.devices, parse_description(tail.description))
    ide = decode_fields(next(one for one in records if one.idstr.endswith("/ide")))
    bmdma = ide["fields"]["bmdma"]
    assert isinstance(bmdma, list)
    assert len(bmdma) == 2
    assert all(isinstance(one, dict) and "addr" in one for one in bmdma)


@pytest.mark.parametrize(
    ("fields", "body", "expected"),
    [
        ('{"name": "x", "type": "int16", "size": 2}', "fe00", {"x": -512}),
        ('{"name": "x", "type": "bool", "size": 1}', "02", {"x": True}),
        ('{"name": "x", "type": "int64 equal", "size": 8}', "ff" * 8, {"x": 2**64 - 1}),
        ('{"name": "x", "type": "int32 le", "size": 4}', "ffffffff", {"x": -1}),
        ('{"name": "x", "type": "timer", "size": 8}', "ff" * 8, {"x": None}),
        ('{"name": "x", "type": "timer", "size": 8}', "00" * 7 + "05", {"x": 5}),
        ('{"name": "x", "type": "pci config", "size": 3}', "0a0b0c", {"x": "0a0b0c"}),
        ('{"name": "x", "type": "unknown", "size": 0}', "", {"x": ""}),
        ('{"name": "x", "array_len": 2, "type": "buffer", "size": 1}', "0a0b", {"x": ["0a", "0b"]}),
        ('{"name": "x", "array_len": 9, "type": "buffer", "size": 0}', "", {"x": []}),
        (
            '{"name": "x", "array_len": 2, "type": "uint8", "size": 1}, '
            '{"name": "x", "type": "nullptr", "size": 1}, '
            '{"name": "x", "type": "uint8", "size": 1}',
            "01023004",
            {"x": [1, 2, None, 4]},
        ),
        (
            '{"name": "x", "type": "nullptr", "size": 1}, '
            '{"name": "x", "type": "uint8", "size": 1}',
            "3004",
            {"x": [None, 4]},
        ),
        (
            '{"name": "q", "type": "qtailq", "vmsd_name": "e", "version": 1, '
            '"fields": [{"name": "a", "type": "uint8", "size": 1}], '
            '"vmsd_name": "e", "version": 1, '
            '"fields": [{"name": "a", "type": "uint8", "size": 1}], "size": 5}',
            "0105010600",
            {"q": [{"a": 5}, {"a": 6}]},
        ),
        ('{"name": "q", "type": "qlist", "size": 1}', "00", {"q": []}),
        (
            '{"name": "t", "type": "gtree", "vmsd_name": "e", "version": 1, '
            '"fields": [{"name": "a", "type": "uint8", "size": 1}], "size": 15}',
            "00000001" + "01" + "0000000000000009" + "07" + "00",
            {"t": [{"key": 9, "value": {"a": 7}}]},
        ),
        (
            '{"name": "t", "type": "gtree", "vmsd_name": "k", "version": 1, '
            '"fields": [{"name": "k", "type": "uint8", "size": 1}], '
            '"vmsd_name": "e", "version": 1, '
            '"fields": [{"name": "a", "type": "uint8", "size": 1}], "size": 8}',
            "00000001" + "01" + "0907" + "00",
            {"t": [{"key": {"k": 9}, "value": {"a": 7}}]},
        ),
        (
            '{"name": "v", "type": "vstruct", "vmsd_name": "e", "version": 3, '
            '"fields": [{"name": "a", "type": "uint8", "size": 1}], "size": 1}',
            "07",
            {"v": {"a": 7}},
        ),
        (
            '{"name": "s", "type": "struct", "struct": {"vmsd_name": "e", "version": 1, '
            '"fields": [{"name": "a", "type": "uint8", "size": 1}], "subsections": [{"vmsd_name": '
            '"e/s", "version": 1, "fields": [{"name": "b", "type": "uint8", "size": 1}], '
            '"subsections": [{"vmsd_name": "e/s/t", "version": 2, "fields": []}]}]}, "size": 22}',
            "07" + "0503" + b"e/s".hex() + "00000001" + "08" + "0505" + b"e/s/t".hex() + "00000002",
            {"s": {"a": 7, "e/s": {"b": 8, "e/s/t": {}}}},
        ),
    ],
)
def test_values_decode_to_plain_data(fields: str, body: str, expected: object) -> None:
    result = decoded(fields, body)
    assert result == expected
    json.dumps(result)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ('{"name": "x", "type": "uint32", "size": 4}', "000000"),
        ('{"name": "x", "type": "uint32", "size": 4}', "0000000000"),
        ('{"name": "x", "type": "nullptr", "size": 1}', "31"),
        ('{"name": "x", "type": "struct", "size": 1}', "31"),
        ('{"name": "x", "type": "struct", "struct": {"fields": []}, "size": 1}', "31"),
        ('{"name": "q", "type": "qlist", "size": 1}', "01"),
        ('{"name": "q", "type": "gtree", "size": 5}', "0000000100"),
        ('{"name": "x", "array_len": 1000000000000, "type": "uint32", "size": 4}', "00"),
        ('{"type": "uint32", "size": 4}', "00000000"),
    ],
)
def test_body_that_its_description_does_not_fit_is_refused(fields: str, body: str) -> None:
    with pytest.raises(StreamError) as caught:
        decoded(fields, body)
    assert caught.value.section == "toy"


def test_subsection_other_than_described_is_refused() -> None:
    described = '{"vmsd_name": "toy/a", "version": 1, "fields": []}'
    header = b"\x05\x05toy/b\x00\x00\x00\x01"
    with pytest.raises(StreamError, match="toy/a, version 1"):
        decode_fields(one_device(header, "", described))


def test_description_that_asks_for_too_many_values_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transship.wire._decode.ELEMENTS", 1000)
    empty = ", ".join(f'{{"name": "{n}", "type": "x", "size": 0}}' for n in range(20))
    some = f'{{"name": "b", "type": "bool", "size": 1}}, {empty}'
    one = f'{{"vmsd_name": "e", "version": 1, "fields": [{some}]}}'
    fields = f'{{"name": "s", "array_len": 100, "type": "struct", "struct": {one}, "size": 1}}'
    with pytest.raises(StreamError, match="more values than can be shown"):
        decode_fields(one_device(bytes(100), fields))


@pytest.mark.parametrize("name", ["\\ud800", "a\\u0000b"])
def test_name_that_is_no_text_is_refused(name: str) -> None:
    with pytest.raises(StreamError, match="is no text"):
        parse_description(f'{{"devices": [{{"name": "{name}", "instance_id": 0}}]}}')


def test_record_without_an_object_for_description_is_refused() -> None:
    with pytest.raises(StreamError, match="no JSON object"):
        decode_fields(replace(one_device(b"", ""), description="[]"))
