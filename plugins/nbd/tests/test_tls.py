"""Disks over TLS between two of us: who is let in, and what becomes of those who are not."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from nbd_certificates import CLIENT, SERVER, make_folder, of_client, of_server
from nbd_peers import PATIENCE_S, Exporting, owned
from nbd_relay import Relay, Then

from transship import assembly
from transship.disks import RawImage
from transship.errors import BlockedError, ConnectError
from transship.testing.memory_device import MemoryDevice
from transship.testing.pytest_plugin import BlockDeviceConformance
from transship.tls import AccessList, Policy, Rule
from transship_nbd._uri import NbdAddress
from transship_nbd.client import NbdDevice, connect
from transship_nbd.server import Export, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transship.testing import OpenDevice

SIZE = 4 << 20
PATIENT = {"timeout": 120}
"""Seconds: longer than any test waits."""

SECRET = b"what nobody else may read; " * 40


@pytest.fixture(scope="session")
def other_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another authority."""
    return make_folder(tmp_path_factory.mktemp("other"))


@pytest.fixture
def device() -> MemoryDevice:
    device = MemoryDevice(SIZE)
    device.acquire()
    return device


@pytest.fixture
def server(device: MemoryDevice, place: Path, pki: Path) -> Iterator[Exporting]:
    with Exporting({"disk": Export(device)}, f"{place}/socket", of_server(pki)) as server:
        yield server


def read(device: NbdDevice, offset: int, length: int) -> bytes:
    data = bytearray(length)
    device.read_into(offset, memoryview(data))
    return bytes(data)


def wait_until_alone(server: Exporting) -> None:
    """Return when nobody is connected: no thread of the server is left with a client."""
    deadline = time.monotonic() + PATIENCE_S
    while server.server.clients:
        assert time.monotonic() < deadline, "a client is still served"
        time.sleep(0.01)


def refused(server: Exporting, uri: str = "", **options: Any) -> str:
    """Why a client is not let in, or does not go in."""
    security = options.pop("security", None)
    with pytest.raises(ConnectError) as caught:
        connect(uri or server.uri, {"timeout": 10, **options}, security)
    wait_until_alone(server)
    return str(caught.value)


class TestExportOverTls(BlockDeviceConformance):
    @pytest.fixture(params=["unix", "tcp"])
    def open_device(
        self, request: pytest.FixtureRequest, place: Path, pki: Path
    ) -> Iterator[OpenDevice]:
        image = RawImage.create(place / "disk.raw", SIZE)
        image.acquire()
        listen = "nbds://127.0.0.1:0" if request.param == "tcp" else f"{place}/socket"
        try:
            with Exporting({"disk": Export(image)}, listen, of_server(pki)) as server:
                yield lambda: connect(server.uri, None, of_client(pki))
        finally:
            image.close()


def test_nothing_is_on_the_wire_in_plain_but_that_tls_is_to_come(
    server: Exporting, place: Path, pki: Path
) -> None:
    with Relay(place / "relay", place / "socket") as relay:
        uri = NbdAddress("disk", path=f"{place}/relay", is_secure=True).uri
        client = owned(uri, None, of_client(pki))
        client.write(0, SECRET)
        assert read(client, 0, len(SECRET)) == SECRET
        client.close()
    assert len(relay.from_clients) > len(SECRET)
    assert len(relay.from_server) > len(SECRET)
    for said in (relay.from_clients, relay.from_server):
        assert SECRET[:27] not in said
        assert said.count(b"disk") == 0
        assert said.count(b"base:allocation") == 0


def test_certificates_may_be_named_in_the_address(
    device: MemoryDevice, place: Path, pki: Path
) -> None:
    client = trio.run(_through_addresses, device, place, pki)
    assert client == f"nbds+unix:///disk?socket={place}/socket&tls-hostname={SERVER}"
    assert device.medium.data[:5] == b"named"


async def _through_addresses(device: MemoryDevice, place: Path, pki: Path) -> str:
    beside = f"socket={place}/socket&tls-certificates={pki}"

    def write() -> str:
        client = assembly.open_block_device(f"nbds+unix:///disk?{beside}&tls-hostname={SERVER}")
        client.acquire()
        client.write(0, b"named")
        client.close()
        return client.address

    async with assembly.serve_block_devices(f"nbds+unix:///?{beside}") as server:
        server.export("disk", device, is_writable=True)
        return await trio.to_thread.run_sync(write)


def test_device_connects_anew_over_tls(server: Exporting, pki: Path) -> None:
    client = owned(server.uri, None, of_client(pki))
    for number in range(3):
        client.write(number, bytes([number + 1]))
        client.release()
        client.acquire()
    assert read(client, 0, 3) == b"\1\2\3"
    client.close()
    wait_until_alone(server)


# What one of the two does not agree to


def test_address_and_credentials_must_both_ask_for_tls(place: Path, pki: Path) -> None:
    with pytest.raises(BlockedError, match=r"names no certificates.*tls-certificates=DIR"):
        connect("nbds://127.0.0.1:1/")
    folder = f"nbds://127.0.0.1:1/?tls-certificates={pki}"
    with pytest.raises(BlockedError, match=r"names certificates, which nobody has read.*assembly"):
        connect(folder)
    with pytest.raises(BlockedError, match="others were given beside it; expected either of them"):
        connect(folder, None, of_client(pki))
    with pytest.raises(BlockedError, match="goes in plain, and TLS is asked for; expected nbds:"):
        connect("nbd://127.0.0.1:1/", None, of_client(pki))


@pytest.mark.parametrize(
    ("uri", "is_given", "why"),
    [
        ("nbds+unix:///?socket=", False, "names no certificates"),
        ("nbds+unix:///?tls-certificates=/pki&socket=", False, "which nobody has read"),
        ("nbds+unix:///?tls-certificates=/pki&socket=", True, "others were given beside it"),
        ("nbd+unix:///?socket=", True, "goes in plain, and TLS is asked for"),
        ("nbds+unix:///?tls-hostname=host&socket=", True, "for clients to say"),
    ],
)
async def test_server_is_not_begun_unless_all_agree(
    place: Path, pki: Path, uri: str, is_given: bool, why: str
) -> None:
    security = of_server(pki) if is_given else None
    with pytest.raises(BlockedError, match=why):
        async with serve(f"{uri}{place}/socket", {}, None, security):
            raise AssertionError("no such server")
    assert not (place / "socket").exists()


def test_unix_socket_has_no_name_to_look_for_in_a_certificate(place: Path, pki: Path) -> None:
    with pytest.raises(BlockedError, match=r"no host name to look for.*set tls-hostname"):
        connect(f"nbds+unix:///?socket={place}/nobody", None, of_client(pki, None))


def test_client_in_plain_is_told_that_the_server_insists_on_tls(
    server: Exporting, place: Path, device: MemoryDevice
) -> None:
    plain = NbdAddress("disk", path=f"{place}/socket").uri
    assert "insists on TLS: nbds: and certificates are needed" in refused(server, plain)
    assert device.calls == ["acquire"]


def test_client_that_wants_tls_takes_nothing_less(place: Path, pki: Path) -> None:
    with Exporting({"disk": Export(MemoryDevice(SIZE))}, f"{place}/socket") as server:
        uri = NbdAddress("disk", path=f"{place}/socket", is_secure=True).uri
        why = refused(server, uri, security=of_client(pki))
        assert "has no TLS, and TLS is asked for: this server has no certificates" in why


# Whom each of them trusts


def test_server_of_another_authority_is_not_believed(
    server: Exporting, other_pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    why = refused(server, security=of_client(other_pki))
    assert f"cannot connect to {server.uri}: the certificate of the server is refused" in why
    assert "it is not of the authority in ca-cert.pem" in why
    assert (
        f"pid {os.getpid()} of uid {os.getuid()} was turned away: TLS with the client"
        in caplog.text
    )


def test_server_of_another_name_is_not_believed(server: Exporting, pki: Path) -> None:
    why = refused(server, security=of_client(pki, "elsewhere.example"))
    assert "certificate of the server is refused: Hostname mismatch" in why
    assert "set tls-hostname to a name that is in it" in why


def test_name_in_the_address_is_looked_for(server: Exporting, pki: Path) -> None:
    uri = f"{server.uri}&tls-hostname="
    connect(uri + SERVER, None, of_client(pki, None)).close()
    why = refused(server, uri + "elsewhere.example", security=of_client(pki, None))
    assert "Hostname mismatch" in why


def test_host_of_the_address_is_looked_for(device: MemoryDevice, pki: Path) -> None:
    with Exporting({"disk": Export(device)}, "nbds://127.0.0.1:0", of_server(pki)) as server:
        why = refused(server, security=of_client(pki, None))
        assert "IP address mismatch" in why
        named = server.uri.replace("127.0.0.1", SERVER)
        connect(named, None, of_client(pki, None)).close()


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_client_without_a_certificate_is_not_let_in(
    place: Path, pki: Path, tmp_path: Path, device: MemoryDevice, scheme: str
) -> None:
    alike = tmp_path / "alike"
    alike.mkdir()
    (alike / "ca-cert.pem").write_bytes((pki / "ca-cert.pem").read_bytes())
    listen = f"{place}/socket" if scheme == "unix" else "nbds://127.0.0.1:0"
    with Exporting({"disk": Export(device)}, listen, of_server(pki)) as server:
        for _ in range(20):  # the server may be gone before the client says what it wants
            assert "our folder lacks one" in refused(server, security=of_client(alike))
    assert device.calls == ["acquire"]


def test_client_without_a_certificate_is_let_in_where_nobody_looks(
    place: Path, pki: Path, tmp_path: Path, device: MemoryDevice
) -> None:
    alike = tmp_path / "alike"
    alike.mkdir()
    (alike / "ca-cert.pem").write_bytes((pki / "ca-cert.pem").read_bytes())
    security = of_server(pki, verify_peer=False)
    with Exporting({"disk": Export(device)}, f"{place}/socket", security) as server:
        client = owned(server.uri, None, of_client(alike))
        client.write(0, b"anybody")
        client.close()
    assert device.medium.data[:7] == b"anybody"


@pytest.mark.parametrize("policy", Policy)
def test_rules_say_who_is_let_in(
    place: Path,
    pki: Path,
    device: MemoryDevice,
    policy: Policy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    identity = _identity(place, pki, caplog)
    rules = AccessList((Rule(identity, policy),), Policy.DENY)
    with Exporting({"disk": Export(device)}, f"{place}/socket", of_server(pki, rules)) as server:
        if policy is Policy.DENY:
            assert "the connection" in refused(server, security=of_client(pki))
            said = f"is not let in; expected a name that tls-authz allows; found {identity}"
            assert said in caplog.text
            assert device.calls == ["acquire"]
        else:
            connect(server.uri, None, of_client(pki)).close()


def _identity(place: Path, pki: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The client's name as rules have it: what an administrator copies from the log."""
    nobody = of_server(pki, AccessList())
    with Exporting({}, f"{place}/first", nobody) as server:
        refused(server, f"nbds+unix:///?socket={place}/first", security=of_client(pki))
    found = caplog.text.partition("; found ")[2].splitlines()[0]
    assert found.endswith(f"CN={CLIENT}")
    caplog.clear()
    return found


# A connection that ends, or does not go on


WHOLE_HANDSHAKE = 6000
"""Bytes that suffice for a negotiation over TLS, in each direction."""


@pytest.mark.parametrize("side", ["client", "server"])
def test_connection_cut_anywhere_in_the_handshake_is_an_error_and_leaves_nothing(
    server: Exporting, place: Path, pki: Path, side: str
) -> None:
    uri = NbdAddress("disk", path=f"{place}/relay", is_secure=True).uri
    opened = len(os.listdir("/proc/self/fd"))
    is_through = False
    for most in [*range(60), *range(60, WHOLE_HANDSHAKE, 173)]:
        limits: dict[str, Any] = {f"most_from_{side}": most}
        with Relay(place / "relay", place / "socket", **limits):
            try:
                connect(uri, PATIENT, of_client(pki)).close()
                is_through = True
            except ConnectError as error:
                assert not is_through, error
        (place / "relay").unlink()
    assert is_through
    wait_until_alone(server)
    assert len(os.listdir("/proc/self/fd")) == opened


@pytest.mark.parametrize("most", [0, 10, 18, 40, 200, 1000])
def test_server_that_falls_silent_in_the_handshake_is_given_up(
    server: Exporting, place: Path, pki: Path, most: int
) -> None:
    limits: dict[str, Any] = {"most_from_server": most, "then": Then.STALL}
    with Relay(place / "relay", place / "socket", **limits):
        uri = NbdAddress("disk", path=f"{place}/relay", is_secure=True).uri
        began = time.monotonic()
        why = r"for 0\.3 s"
        with pytest.raises(ConnectError, match=why):
            connect(uri, {"open-timeout": "0.3"}, of_client(pki))
        assert time.monotonic() - began < PATIENCE_S
    wait_until_alone(server)


@pytest.mark.parametrize("most", [0, 4, 10, 20, 30, 200, 1000])
def test_client_that_falls_silent_in_the_handshake_is_dropped(
    device: MemoryDevice, place: Path, pki: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship_nbd.server._STALL_S", 0.3)
    limits: dict[str, Any] = {"most_from_client": most, "then": Then.STALL}
    with Exporting({"disk": Export(device)}, f"{place}/socket", of_server(pki)) as server:
        with Relay(place / "relay", place / "socket", **limits):
            uri = NbdAddress("disk", path=f"{place}/relay", is_secure=True).uri
            with pytest.raises(ConnectError, match=r"closed the connection|broke"):
                connect(uri, PATIENT, of_client(pki))
            wait_until_alone(server)
    assert device.calls == ["acquire"]


def test_clients_in_the_handshake_count_and_keep_others_out(
    device: MemoryDevice, place: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship_nbd.server._CLIENTS", 2)
    limits: dict[str, Any] = {"most_from_client": 100, "then": Then.STALL}
    with Exporting({"disk": Export(device)}, f"{place}/socket", of_server(pki)) as server:
        with Relay(place / "relay", place / "socket", **limits) as relay:
            uri = NbdAddress("disk", path=f"{place}/relay", is_secure=True).uri

            def stall() -> None:
                with pytest.raises(ConnectError):
                    connect(uri, PATIENT, of_client(pki))

            stalling = [threading.Thread(target=stall) for _ in range(2)]
            for thread in stalling:
                thread.start()
            deadline = time.monotonic() + PATIENCE_S
            while server.server.clients < 2 or len(relay.from_clients) <= 200:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(ConnectError, match="says nothing"):
                connect(server.uri, {"timeout": "0.2"}, of_client(pki))
            relay.cut()
            connect(server.uri, PATIENT, of_client(pki)).close()
            for thread in stalling:
                thread.join(PATIENCE_S)
                assert not thread.is_alive()


def test_interrupt_ends_a_handshake(server: Exporting, place: Path, pki: Path) -> None:
    whole = Relay(place / "relay", place / "socket")
    uri = NbdAddress("disk", path=f"{place}/relay", is_secure=True).uri
    with whole:
        device = connect(uri, PATIENT, of_client(pki))
    (place / "relay").unlink()
    with Relay(place / "relay", place / "socket", most_from_server=40, then=Then.STALL) as relay:
        failures: list[Exception] = []

        def acquire() -> None:
            try:
                device.acquire()
            except Exception as error:
                failures.append(error)

        acquiring = threading.Thread(target=acquire)
        acquiring.start()
        deadline = time.monotonic() + PATIENCE_S
        while len(relay.from_server) <= 40:  # until the server's part of the handshake is there
            assert time.monotonic() < deadline
            time.sleep(0.01)
        device.interrupt()
        acquiring.join(PATIENCE_S)
        assert not acquiring.is_alive()
    assert "cannot be had" in str(failures[0])
    device.close()
    wait_until_alone(server)


def test_connection_cut_in_the_transmission_is_an_error_of_the_device(
    server: Exporting, place: Path, pki: Path
) -> None:
    uri = NbdAddress("disk", path=f"{place}/relay", is_secure=True).uri
    with Relay(place / "relay", place / "socket") as relay:
        client = owned(uri, PATIENT, of_client(pki))
        client.write(0, SECRET)
        client.flush()
        relay.cut()
        for _ in range(2):
            with pytest.raises(OSError, match="nbds"):
                read(client, 0, 100)
        client.acquire()
        assert read(client, 0, len(SECRET)) == SECRET
        client.close()
    wait_until_alone(server)


@pytest.mark.parametrize("most", [10_000, 1_000_000])
def test_connection_cut_within_a_reply_is_an_error_of_the_device(
    server: Exporting, place: Path, pki: Path, most: int
) -> None:
    uri = NbdAddress("disk", path=f"{place}/relay", is_secure=True).uri
    with Relay(place / "relay", place / "socket", most_from_server=most):
        client = connect(uri, PATIENT, of_client(pki))
        with pytest.raises(OSError, match="nbds"):
            read(client, 0, SIZE)
        client.close()
    wait_until_alone(server)


@pytest.mark.parametrize("behind", [0, 3, 5, 100, 40_000])
def test_changed_bit_is_an_error_of_the_device_and_stays_one(
    server: Exporting, place: Path, pki: Path, behind: int
) -> None:
    uri = NbdAddress("disk", path=f"{place}/relay", is_secure=True).uri
    with Relay(place / "relay", place / "socket") as relay:
        client = connect(uri, PATIENT, of_client(pki))
        relay.flips = len(relay.from_server) + behind
        for _ in range(2):
            with pytest.raises(OSError, match="TLS with the server failed"):
                read(client, 0, 100_000)
        client.close()
    wait_until_alone(server)


def test_many_threads_read_and_write_over_one_connection(server: Exporting, pki: Path) -> None:
    client = owned(server.uri, PATIENT, of_client(pki))
    part = SIZE // 8

    def work(number: int) -> None:
        for turn in range(4):
            data = bytes([16 * turn + number + 1]) * part
            client.write(number * part, data)
            assert read(client, number * part, part) == data
            done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * PATIENCE_S)
    assert len(done) == 32
    client.close()


async def test_server_that_ends_leaves_no_client_in_the_handshake(
    place: Path, pki: Path, device: MemoryDevice
) -> None:
    opened = len(os.listdir("/proc/self/fd"))
    uri = NbdAddress("disk", path=f"{place}/socket", is_secure=True).uri
    async with serve(uri, {"disk": Export(device)}, None, of_server(pki)):
        silent = await trio.open_unix_socket(f"{place}/socket")
        with trio.fail_after(PATIENCE_S):
            assert await silent.receive_some(1000)  # it is greeted: it is served
    with trio.fail_after(PATIENCE_S):
        while await silent.receive_some(1000):
            pass
    await silent.aclose()
    assert len(os.listdir("/proc/self/fd")) == opened
