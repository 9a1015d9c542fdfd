"""HOST:PORT and its options are read as strictly as they are written back."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, strategies as st

from transship.errors import BlockedError
from transship.toolkit import AddressText, NetworkAddress

if TYPE_CHECKING:
    import ipaddress

    from transship.abc import Option, Options

names = st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=60)
hosts = (
    names
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
    | st.just("fe80::1%eth0")
    | st.just("")
)
services = st.from_regex(r"[a-z][a-z0-9-]{0,14}", fullmatch=True)
families = st.sampled_from([(True, True), (True, False), (False, True)])


@st.composite
def addresses(draw: st.DrawFn) -> NetworkAddress:
    return NetworkAddress(draw(hosts), draw(st.integers(0, 65_535) | services), *draw(families))


def written(rest: str) -> AddressText:
    return AddressText("kite", rest, "address of a kite")


def read_colour(text: AddressText, name: str, value: Option) -> str:
    if not isinstance(value, str):
        text.refuse(f"{name}=COLOUR", repr(value))
    return value.upper()


READERS = {"colour": read_colour, "tail": AddressText.switch}


def read(rest: str, options: Options | None = None) -> tuple[NetworkAddress, dict[str, Any]]:
    return written(rest).read(options or {}, READERS)


@given(addresses())
def test_address_is_read_back_from_its_text(address: NetworkAddress) -> None:
    text = address.written("kite")
    assert text.startswith("kite:")
    assert read(text.removeprefix("kite:")) == (address, {})


def test_options_that_are_not_empty_are_written_behind_the_families() -> None:
    address = NetworkAddress("::1", 7, ipv4=False)
    assert address.written("kite", "", "colour=red", "") == "kite:[::1]:7,ipv4=off,colour=red"


@given(st.text(string.printable + "é\0"))
@example("h:1,")
@example("[::1]1:2")
@example("[[::1]]:2")
@example("h:１")
@example(":0x10")
def test_any_text_is_an_address_or_refused_with_what_was_expected(text: str) -> None:
    try:
        address, more = read(text)
    except BlockedError as error:
        assert error.expected
        assert error.found
    else:
        assert read(address.written("").removeprefix(":"))[0] == address
        assert set(more) <= set(READERS)


@given(st.ip_addresses(v=6))
def test_ipv6_literal_needs_brackets_and_loses_them(literal: ipaddress.IPv6Address) -> None:
    assert read(f"[{literal}]:1")[0].host == str(literal)
    with pytest.raises(BlockedError):
        read(f"{literal}:1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "HOST:PORT"),
        ("host", "HOST:PORT"),
        ("host:", "port from 0 to 65535"),
        ("host:-1", "port from 0 to 65535"),
        ("host:65536", "port from 0 to 65535"),
        ("host:99999999999999999999", "port from 0 to 65535"),
        ("host:4444 ", "port from 0 to 65535"),
        ("ho st:4444", "host name"),
        ("h" * 254 + ":4444", "host name"),
        ("::1:4444", "host name"),
        ("[::1]", "]:PORT"),
        ("[::1:4444", "]:PORT"),
        ("[host]:4444", "IPv6 address in brackets"),
        ("[127.0.0.1]:4444", "IPv6 address in brackets"),
        ("host:4444,ipv4=yes", "ipv4=on or ipv4=off"),
        ("host:4444,ipv4=", "ipv4=on or ipv4=off"),
        ("host:4444,ipv4,ipv4", "once"),
        ("host:4444,ipv4=off,ipv6=off", "IPv4, IPv6 or both"),
        ("host:4444,tail=2", "tail=on or tail=off"),
        ("host:4444,colour", "colour=COLOUR"),
        ("host:4444,colour=red,colour=red", "once"),
    ],
)
def test_malformed_address_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(BlockedError, match="is no address of a kite") as caught:
        read(text)
    assert expected in str(caught.value)
    assert f"'kite:{text}'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_told"), [("::1:4444", True), ("[host]:1", True), ("host:1,ipv4=yes", False)]
)
def test_how_an_address_is_written_is_told_where_that_was_wrong(text: str, is_told: bool) -> None:
    with pytest.raises(BlockedError) as caught:
        read(text)
    assert ("kite:[::1]:4444" in str(caught.value)) is is_told


@pytest.mark.parametrize("text", ["host:4444,", "host:4444,,ipv4", "h:1,ipv5", "h:1,IPV4"])
def test_option_that_is_not_known_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(BlockedError, match="expected none but colour, ipv4, ipv6, tail"):
        read(text)


def test_option_of_the_other_side_is_refused_with_what_it_is_for() -> None:
    with pytest.raises(BlockedError) as caught:
        written("h:1,colour=red,wind").read({}, READERS, {"wind": "flying", "calm": "landing"})
    assert caught.value.found == "'wind', which is for flying"
    assert caught.value.expected == "none but colour, ipv4, ipv6, tail"


@pytest.mark.parametrize(
    ("text", "families"),
    [
        ("h:1", (True, True)),
        ("h:1,ipv4", (True, False)),
        ("h:1,ipv4=on", (True, False)),
        ("h:1,ipv6", (False, True)),
        ("h:1,ipv4=off", (False, True)),
        ("h:1,ipv6=off", (True, False)),
        ("h:1,ipv4,ipv6", (True, True)),
        ("h:1,ipv4=on,ipv6=off", (True, False)),
    ],
)
def test_family_that_is_asked_for_leaves_out_the_other(
    text: str, families: tuple[bool, bool]
) -> None:
    address, _ = read(text)
    assert (address.ipv4, address.ipv6) == families


def test_options_may_stand_beside_the_address() -> None:
    address, more = read("h:4444,tail", {"ipv6": "off", "colour": "red"})
    assert address == NetworkAddress("h", 4444, ipv6=False)
    assert more == {"tail": True, "colour": "RED"}


@pytest.mark.parametrize("options", [{"ipv4": True}, {"ipv6": 1}, {"tail": 1}, {"colour": 7}])
def test_option_beside_the_address_is_read_as_strictly(options: dict[str, int]) -> None:
    with pytest.raises(BlockedError):
        read("h:4444,ipv4", options)


@pytest.mark.parametrize("value", [True, -1, 65_536, "1x", "", ["1"]])
def test_port_is_a_number_that_ports_have(value: Option) -> None:
    with pytest.raises(BlockedError, match="a port for kites from 0 to 65535"):
        written("h:1").port_number("port for kites", value)


def test_port_that_is_still_to_be_chosen_cannot_be_connected_to() -> None:
    text = written("h:0")
    text.check_connectable(NetworkAddress("h", 1))
    text.check_connectable(NetworkAddress("h", "http"))
    with pytest.raises(BlockedError, match="a port from 1 to 65535"):
        text.check_connectable(NetworkAddress("h", 0))
