from __future__ import annotations

import pytest

from transship.errors import BlockedError
from transship_nbd._uri import DEFAULT_PORT, NbdAddress, parse


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("nbd://host", NbdAddress(host="host")),
        ("nbd://host/", NbdAddress(host="host")),
        ("nbd://host:4444/disk", NbdAddress("disk", "host", 4444)),
        ("nbd://host:0/disk", NbdAddress("disk", "host", 0)),
        ("nbd://host//disk", NbdAddress("/disk", "host")),
        ("nbd://host/hello%20world", NbdAddress("hello world", "host")),
        ("nbd://[::1]:5/d", NbdAddress("d", "::1", 5)),
        ("nbd+unix:///disk?socket=/run/nbd", NbdAddress("disk", path="/run/nbd")),
        ("nbd+unix://?socket=nbd.sock", NbdAddress(path="nbd.sock")),
        ("nbd+unix:///?socket=%00name", NbdAddress(path="\0name")),
        ("nbd+unix:///a?socket=/with%20blank", NbdAddress("a", path="/with blank")),
        ("nbds://host/disk", NbdAddress("disk", "host", is_secure=True)),
        ("NBD://host/disk", NbdAddress("disk", "host")),
        ("NBDS://host/disk", NbdAddress("disk", "host", is_secure=True)),
        ("Nbds+Unix:///disk?socket=/s", NbdAddress("disk", path="/s", is_secure=True)),
        (
            "nbds://host:4/?tls-certificates=/etc/a%20b&tls-hostname=other.example",
            NbdAddress(
                host="host",
                port=4,
                is_secure=True,
                certificates="/etc/a b",
                tls_hostname="other.example",
            ),
        ),
        (
            "nbds+unix:///disk?tls-hostname=host&socket=/run/nbd",
            NbdAddress("disk", path="/run/nbd", is_secure=True, tls_hostname="host"),
        ),
    ],
)
def test_address_is_read(uri: str, address: NbdAddress) -> None:
    assert parse(uri) == address
    assert parse(address.uri) == address


def test_port_is_the_one_of_nbd_if_none_is_named() -> None:
    assert parse("nbd://host").port == DEFAULT_PORT == 10809


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("nbd:", "names no host"),
        ("nbd:///disk", "names no host"),
        ("nbd:host:10809", "two slashes are missing"),
        ("nbd://host:port/", "is no address of NBD"),
        ("nbd://host:70000/", "is no address of NBD"),
        ("nbd://user@host/", "names a user"),
        ("nbd://host/a#b", "fragment"),
        ("nbd://host/a%00b", "an export's name"),
        ("nbd://host/" + "a" * 4097, "an export's name"),
        ("nbd://host/?tls-certificates=/etc", "tls-certificates is not known here, as it would be"),
        ("nbd+unix:///?socket=/s&tls-hostname=host", "tls-hostname is not known here, as it would"),
        ("nbds://host/?tls-psk-file=/etc/psk", "tls-psk-file is not known here: TLS is with cert"),
        ("nbds://host/?tls-verify-peer=0", "tls-verify-peer is not known here: TLS is with cert"),
        ("nbds://user@host/", "names a user: that is for TLS with pre-shared keys"),
        ("nbds://host/?socket=/run/nbd", "parameter socket is not known here"),
        ("nbds+unix:///disk", "names no socket"),
        ("nbd://host/?socket=/run/nbd", "parameter socket is not known here"),
        ("nbd://host/?x-y=z", "parameter x-y is not known here"),
        ("nbd+unix:///disk", "names no socket"),
        ("nbd+unix:///disk?socket=", "names no socket"),
        ("nbd+unix://host/disk?socket=/s", "has no host"),
        ("nbd+unix:///disk?socket=/s&socket=/t", "given twice"),
        ("nbd+unix:///disk?socket=/" + "s" * 107, "a socket's path"),
        ("nbd+unix:///disk?socket=/a%00b", "a socket's path"),
        ("nbdt://host/", "scheme"),
    ],
)
def test_malformed_address_is_refused_with_the_reason(uri: str, why: str) -> None:
    with pytest.raises(BlockedError, match="is no address of NBD") as caught:
        parse(uri)
    assert "with nbds in place of nbd" in str(caught.value)
    assert why in str(caught.value)


@pytest.mark.parametrize(("said", "seconds"), [("2.5", 2.5), (3, 3.0), ("0.1", 0.1)])
def test_time_out_is_a_number_of_seconds(said: str | int, seconds: float) -> None:
    assert parse("nbd://host", {"timeout": said}).timeout_s == seconds


@pytest.mark.parametrize("said", ["soon", "0", "-1", "nan", "inf", True, 0])
def test_time_out_that_is_none_is_refused(said: str | int) -> None:
    with pytest.raises(BlockedError, match="number of seconds"):
        parse("nbd://host", {"timeout": said})


def test_unknown_option_is_refused() -> None:
    with pytest.raises(BlockedError, match="none but open-timeout, timeout; found 'tls'"):
        parse("nbd://host", {"tls": True})
