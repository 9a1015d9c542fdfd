from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, strategies as st

from transship.errors import BlockedError
from transship_tcp._uri import TcpAddress, parse_incoming, parse_outgoing

if TYPE_CHECKING:
    import ipaddress

Parse = Callable[[str, Mapping[str, str | int | bool]], TcpAddress]

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
def outgoing_addresses(draw: st.DrawFn) -> TcpAddress:
    ipv4, ipv6 = draw(families)
    return TcpAddress(
        draw(hosts),
        draw(st.integers(1, 65_535) | services),
        ipv4=ipv4,
        ipv6=ipv6,
        keep_alive=draw(st.booleans()),
        mptcp=draw(st.booleans()),
    )


@st.composite
def incoming_addresses(draw: st.DrawFn) -> TcpAddress:
    address = draw(outgoing_addresses())
    if draw(st.booleans()):
        return replace(address, port=0)
    if isinstance(address.port, int) and draw(st.booleans()):
        return replace(address, last_port=draw(st.integers(address.port, 65_535)))
    return address


def rest(address: TcpAddress) -> str:
    return str(address).removeprefix("tcp:")


@given(outgoing_addresses())
def test_address_to_connect_to_is_read_back_from_its_text(address: TcpAddress) -> None:
    assert parse_outgoing(rest(address), {}) == address


@given(incoming_addresses())
def test_address_to_listen_on_is_read_back_from_its_text(address: TcpAddress) -> None:
    assert parse_incoming(rest(address), {}) == address


@given(incoming_addresses(), st.integers(1, 65_535))
def test_address_with_the_real_port_can_be_connected_to(address: TcpAddress, port: int) -> None:
    actual = parse_outgoing(rest(address.with_port(port)), {})
    assert (actual.host, actual.port) == (address.host, port)


@given(st.text(string.printable + "é\0"))
@example("h:1,")
@example("[::1]1:2")
@example("[[::1]]:2")
@example("h:１")
@example(":0x10")
def test_any_text_is_an_address_or_refused_with_what_was_expected(text: str) -> None:
    for parse in (parse_outgoing, parse_incoming):
        outcome = attempt(parse, text)
        if isinstance(outcome, BlockedError):
            assert outcome.expected
            assert outcome.found
        else:
            assert parse(rest(outcome), {}) == outcome


def attempt(parse: Parse, text: str) -> TcpAddress | BlockedError:
    try:
        return parse(text, {})
    except BlockedError as error:
        return error


@given(st.ip_addresses(v=6))
def test_ipv6_literal_needs_brackets_and_loses_them(literal: ipaddress.IPv6Address) -> None:
    assert parse_outgoing(f"[{literal}]:1", {}).host == str(literal)
    with pytest.raises(BlockedError):
        parse_outgoing(f"{literal}:1", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "HOST:PORT"),
        ("host", "HOST:PORT"),
        ("host:", "port from 0 to 65535"),
        ("host:-1", "port from 0 to 65535"),
        ("host:65536", "port from 0 to 65535"),
        ("host:99999999999999999999", "port from 0 to 65535"),
        ("host:0", "port from 1 to 65535"),
        ("host:4444 ", "port from 0 to 65535"),
        ("ho st:4444", "host name"),
        ("h" * 254 + ":4444", "host name"),
        ("::1:4444", "host name"),
        ("[::1]", "]:PORT"),
        ("[::1:4444", "]:PORT"),
        ("[host]:4444", "IPv6 address in brackets"),
        ("[127.0.0.1]:4444", "IPv6 address in brackets"),
        ("host:4444,", "one of the options"),
        ("host:4444,,ipv4", "one of the options"),
        ("host:4444,ipv5", "one of the options"),
        ("host:4444,IPV4", "one of the options"),
        ("host:4444,ipv4=yes", "ipv4=on or ipv4=off"),
        ("host:4444,ipv4=", "ipv4=on or ipv4=off"),
        ("host:4444,ipv4,ipv4", "once"),
        ("host:4444,ipv4=off,ipv6=off", "IPv4, IPv6 or both"),
        ("host:4444,to=4450", "address to connect to"),
    ],
)
def test_malformed_address_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse_outgoing(text, {})
    assert expected in str(caught.value)
    assert f"'tcp:{text}'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host:4444,to=4443", "to=4444 or higher"),
        ("host:4444,to=", "port for 'to'"),
        ("host:4444,to", "port for 'to'"),
        ("host:4444,to=4445x", "port for 'to'"),
        ("host:4444,to=65536", "port for 'to'"),
        ("host:0,to=4445", "either port 0 or option 'to'"),
    ],
)
def test_malformed_range_of_ports_is_refused(text: str, expected: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse_incoming(text, {})
    assert expected in str(caught.value)


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
    address = parse_outgoing(text, {})
    assert (address.ipv4, address.ipv6) == families


def test_options_may_stand_beside_the_address() -> None:
    address = parse_incoming("h:4444", {"to": 4450, "ipv6": "off", "keep-alive": False})
    assert address == TcpAddress("h", 4444, last_port=4450, ipv6=False, keep_alive=False)


@pytest.mark.parametrize("options", [{"ipv4": True}, {"to": True}, {"to": -1}, {"mptcp": 1}])
def test_option_beside_the_address_is_read_as_strictly(options: dict[str, int]) -> None:
    with pytest.raises(BlockedError):
        parse_incoming("h:4444,ipv4", options)
