from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from transship.errors import BlockedError
from transship_tcp._uri import TcpAddress, parse_incoming, parse_outgoing

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", "HOST:PORT"),
        ("host:0", "port from 1 to 65535"),
        ("host:4444,ipv5", "none but bind, interface, ipv4, ipv6, keep-alive, mptcp, numeric"),
        ("host:4444,to=4450", "found 'to', which is for listening"),
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
        ("host:4444,to=4443", "'to', the last port, to be 4444 or higher; found 4443"),
        ("host:4444,to=", "port for 'to' from 0 to 65535; found ''"),
        ("host:4444,to", "port for 'to' from 0 to 65535; found no value"),
        ("host:4444,to=4445x", "port for 'to'"),
        ("host:4444,to=65536", "port for 'to'"),
        ("host:0,to=4445", "the first port of a range, where 'to' says the last; found 0"),
    ],
)
def test_malformed_range_of_ports_is_refused(text: str, expected: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse_incoming(text, {})
    assert expected in str(caught.value)


def test_options_may_stand_beside_the_address() -> None:
    address = parse_incoming("h:4444", {"to": 4450, "ipv6": "off", "keep-alive": False})
    assert address == TcpAddress("h", 4444, last_port=4450, ipv6=False, keep_alive=False)


@pytest.mark.parametrize("options", [{"ipv4": True}, {"to": True}, {"to": -1}, {"mptcp": 1}])
def test_option_beside_the_address_is_read_as_strictly(options: dict[str, int]) -> None:
    with pytest.raises(BlockedError):
        parse_incoming("h:4444,ipv4", options)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("localhost:1,numeric", "'localhost'"),
        ("127.0.0.1:http,numeric=on", "'http'"),
        ("h:1,bind=localhost", "'localhost'"),
        ("h:1,bind=", "''"),
        ("h:1,interface=", "''"),
        ("h:1,interface=a/b", "'a/b'"),
        ("h:1,interface=sixteen-letters-", "'sixteen-letters-'"),
    ],
)
def test_where_from_and_numbers_are_read_strictly(text: str, found: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse_outgoing(text, {})
    assert caught.value.found == found


@pytest.mark.parametrize("text", ["127.0.0.1:1,numeric", "[::1]:1,numeric=on", ":1,numeric"])
def test_numeric_address_is_taken(text: str) -> None:
    assert parse_outgoing(text, {}).numeric
    assert parse_incoming(text, {}).numeric


def test_address_to_connect_from_is_not_for_listening() -> None:
    with pytest.raises(BlockedError, match="'bind', which is for connecting") as caught:
        parse_incoming("h:1,bind=127.0.0.1", {})
    assert caught.value.expected == (
        "none but interface, ipv4, ipv6, keep-alive, mptcp, numeric, to"
    )
