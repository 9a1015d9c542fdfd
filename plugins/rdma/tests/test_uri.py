from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

pytest.importorskip("transship_rdma", reason="transship-rdma is not installed")

from transship.errors import BlockedError
from transship_rdma._uri import RdmaAddress, parse_incoming, parse_outgoing

names = st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=60)
hosts = (
    names
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
    | st.just("fe80::1%eth0")
    | st.just("")
)
services = st.from_regex(r"[a-z][a-z0-9-]{0,14}", fullmatch=True)
providers = st.none() | st.sampled_from(["verbs;ofi_rxm", "tcp;ofi_rxm", "sockets", "net", "efa"])
families = st.sampled_from([(True, True), (True, False), (False, True)])


@st.composite
def outgoing_addresses(draw: st.DrawFn) -> RdmaAddress:
    ipv4, ipv6 = draw(families)
    return RdmaAddress(
        draw(hosts),
        draw(st.integers(1, 65_535) | services),
        ipv4=ipv4,
        ipv6=ipv6,
        provider=draw(providers),
    )


@st.composite
def incoming_addresses(draw: st.DrawFn) -> RdmaAddress:
    address = draw(outgoing_addresses())
    if draw(st.booleans()):
        return replace(address, port=0)
    return address


def rest(address: RdmaAddress) -> str:
    return str(address).removeprefix("rdma:")


@given(outgoing_addresses())
def test_address_to_connect_to_is_read_back_from_its_text(address: RdmaAddress) -> None:
    assert parse_outgoing(rest(address), {}) == address


@given(incoming_addresses())
def test_address_to_listen_on_is_read_back_from_its_text(address: RdmaAddress) -> None:
    assert parse_incoming(rest(address), {}) == address


@given(incoming_addresses(), st.integers(1, 65_535))
def test_address_with_the_real_port_can_be_connected_to(address: RdmaAddress, port: int) -> None:
    actual = parse_outgoing(rest(address.with_port(port)), {})
    assert (actual.host, actual.port) == (address.host, port)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", "HOST:PORT"),
        ("host:0", "port from 1 to 65535"),
        ("host:4444,to=4450", "none but ipv4, ipv6, provider"),
        ("host:4444,provider", "name of a provider"),
        ("host:4444,provider=", "name of a provider"),
        ("host:4444,provider=a;b;c", "name of a provider"),
        ("host:4444,provider=tcp ofi_rxm", "name of a provider"),
        ("host:4444,provider=sockets,provider=tcp", "once"),
    ],
)
def test_malformed_address_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse_outgoing(text, {})
    assert expected in str(caught.value)
    assert f"'rdma:{text}'" in str(caught.value)


def test_options_may_stand_beside_the_address() -> None:
    address = parse_incoming("h:4444", {"ipv6": "off", "provider": "sockets"})
    assert address == RdmaAddress("h", 4444, ipv6=False, provider="sockets")


@pytest.mark.parametrize(
    "options", [{"ipv4": True}, {"ipv6": 1}, {"provider": True}, {"provider": 7}, {"to": 4445}]
)
def test_option_beside_the_address_is_read_as_strictly(options: dict[str, int]) -> None:
    with pytest.raises(BlockedError):
        parse_incoming("h:4444,ipv4", options)
