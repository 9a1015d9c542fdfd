"""What is an address of ``ws:`` and ``wss:``, and what is not."""

from __future__ import annotations

import pytest

from transship.abc import Address
from transship.errors import BlockedError
from transship_websocket._address import Place, parse_incoming, parse_outgoing


def test_parts_of_an_address_are_read() -> None:
    place = parse_outgoing(Address("wss", "[::1]:4444,ca=/a/b.pem"), {})
    assert place == Place("wss", "::1", 4444, ca="/a/b.pem")
    assert str(place) == "wss:[::1]:4444,ca=/a/b.pem"


def test_options_beside_the_address_are_read() -> None:
    place = parse_incoming(Address("wss", "host:0"), {"certificate": "c.pem", "key": "k.pem"})
    assert place == Place("wss", "host", 0, certificate="c.pem", key="k.pem")
    assert str(place.for_source(9)) == "wss:host:9"


@pytest.mark.parametrize("rest", ["", "host", ":1", "host:", "host:x", "host:65536", "a b:1"])
def test_anything_else_is_refused(rest: str) -> None:
    with pytest.raises(BlockedError, match="is no address"):
        parse_outgoing(Address("ws", rest), {})


@pytest.mark.parametrize("uri", ["ws:host:1,ca=a", "wss:host:1,key=a", "wss:host:1,x"])
def test_option_that_is_not_for_this_side_is_refused(uri: str) -> None:
    with pytest.raises(BlockedError, match="option that is not known here"):
        parse_outgoing(Address.parse(uri), {})


def test_option_that_is_there_twice_is_refused() -> None:
    with pytest.raises(BlockedError, match="twice"):
        parse_outgoing(Address.parse("wss:host:1,ca=a,ca=b"), {})


def test_listening_over_tls_needs_a_certificate() -> None:
    with pytest.raises(BlockedError, match="no certificate"):
        parse_incoming(Address.parse("wss:host:1"), {})
