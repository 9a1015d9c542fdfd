"""Going over to TLS: what is said before has no effect, and nothing can be slipped in behind it."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest
from nbd_certificates import of_client, of_server
from nbd_peers import PATIENCE_S, Exporting, scripted_server
from nbd_raw import Client, answer, greet, receive, receive_option, string

from transship.abc import SecureSession
from transship.errors import ConnectError, TlsError
from transship.testing.memory_device import MemoryDevice
from transship.tls import Endpoint, X509Credentials
from transship_nbd import _protocol as nbd
from transship_nbd._offer import Offer
from transship_nbd._protocol import Command, Info, Option, Reply, Transmission
from transship_nbd._wire import Wire
from transship_nbd.client import connect
from transship_nbd.server import Export

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from transship.buffers import Buffer

SIZE = 1 << 20


def option(number: int, data: bytes = b"") -> bytes:
    return nbd.OPTION.pack(nbd.OPTION_MAGIC, number, len(data)) + data


def reply(number: int, kind: int, data: bytes = b"") -> bytes:
    return nbd.OPTION_REPLY.pack(nbd.REPLY_MAGIC, number, kind, len(data)) + data


CHOOSE = string(b"disk") + b"\0\0"
CONTEXTS = string(b"disk") + nbd.COUNT.pack(1) + string(nbd.ALLOCATION.encode())

NOT_TLS = {
    "nothing": b"",
    "NBD": option(Option.LIST),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "random": b"\xa5" + random.Random(5).randbytes(500),
    "long record": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "long message": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(17_000),
}


# The server


@pytest.fixture
def device() -> MemoryDevice:
    device = MemoryDevice(SIZE)
    device.acquire()
    return device


@pytest.fixture
def server(device: MemoryDevice, place: Path, pki: Path) -> Iterator[Exporting]:
    with Exporting({"disk": Export(device)}, f"{place}/socket", of_server(pki)) as server:
        yield server


@pytest.fixture
def client(server: Exporting, place: Path) -> Iterator[Client]:
    client = Client(place / "socket")
    yield client
    client.socket.close()


@pytest.fixture
def context(pki: Path) -> ssl.SSLContext:
    """Of a client."""
    return X509Credentials(pki, Endpoint.CLIENT).context()


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (Option.LIST, b""),
        (Option.INFO, CHOOSE),
        (Option.GO, CHOOSE),
        (Option.STRUCTURED_REPLY, b""),
        (Option.SET_META_CONTEXT, CONTEXTS),
        (Option.LIST_META_CONTEXT, CONTEXTS),
        (Option.GO, b"no such thing"),
        (11, b""),
        (99, b"what"),
    ],
)
def test_server_answers_nothing_in_plain(
    client: Client, context: ssl.SSLContext, number: int, data: bytes
) -> None:
    client.greet()
    for _ in range(2):
        ((kind, _),) = client.ask(number, data)
        assert kind == Reply.ERR_TLS_REQD
    client.start_tls(context)
    assert client.ask(Option.LIST)[-1] == (Reply.ACK, b"")


def test_server_lets_a_client_leave_in_plain(client: Client) -> None:
    client.greet()
    assert client.ask(Option.ABORT) == [(Reply.ACK, b"")]
    assert client.is_dropped()


def test_server_gives_no_export_in_plain_to_a_client_that_cannot_be_refused(
    client: Client, device: MemoryDevice
) -> None:
    client.greet()
    client.socket.sendall(option(Option.EXPORT_NAME, b"disk"))
    assert client.is_dropped()
    assert device.calls == ["acquire"]


def test_server_drops_a_client_that_cannot_negotiate(client: Client) -> None:
    client.greet(0)
    assert client.is_dropped()


def test_server_drops_a_client_that_asks_in_plain_for_ever(client: Client) -> None:
    client.greet()
    client.socket.sendall(option(Option.LIST) * 65)
    refusal = len(reply(Option.LIST, Reply.ERR_TLS_REQD, b"TLS comes first"))
    assert client.receive(64 * refusal).count(b"TLS comes first") == 64
    assert client.is_dropped()


def test_starttls_with_data_is_refused_and_is_none(client: Client, context: ssl.SSLContext) -> None:
    client.greet()
    ((kind, _),) = client.ask(Option.STARTTLS, b"data")
    assert kind == Reply.ERR_INVALID
    ((kind, _),) = client.ask(Option.LIST)
    assert kind == Reply.ERR_TLS_REQD
    client.start_tls(context)
    assert client.ask(Option.LIST)[-1] == (Reply.ACK, b"")


def test_starttls_over_tls_is_refused(client: Client, context: ssl.SSLContext) -> None:
    client.greet()
    client.start_tls(context)
    for _ in range(2):
        ((kind, _),) = client.ask(Option.STARTTLS)
        assert kind == Reply.ERR_INVALID
    assert client.ask(Option.LIST)[-1] == (Reply.ACK, b"")


def test_what_was_asked_for_in_plain_has_no_effect_over_tls(
    client: Client, context: ssl.SSLContext
) -> None:
    """Somebody between the two may have asked for it."""
    client.greet()
    client.ask(Option.STRUCTURED_REPLY)
    client.ask(Option.SET_META_CONTEXT, CONTEXTS)
    client.start_tls(context)
    ((kind, why),) = client.ask(Option.SET_META_CONTEXT, CONTEXTS)
    assert (kind, why) == (Reply.ERR_INVALID, b"structured replies come first")
    assert client.ask(Option.GO, CHOOSE)[-1] == (Reply.ACK, b"")
    assert client.request(Command.READ, 0, 100) == 0  # a simple reply
    assert client.receive(100) == bytes(100)


@pytest.mark.parametrize(
    "slipped_in",
    [option(Option.LIST), option(Option.STRUCTURED_REPLY), option(Option.GO, CHOOSE), b"\0"],
)
def test_server_takes_nothing_in_plain_behind_starttls(
    client: Client, context: ssl.SSLContext, device: MemoryDevice, slipped_in: bytes
) -> None:
    """Sent in one piece with STARTTLS, before the true client's handshake."""
    client.greet()
    client.socket.sendall(option(Option.STARTTLS) + slipped_in)
    assert client.receive(nbd.OPTION_REPLY.size) == reply(Option.STARTTLS, Reply.ACK)
    with pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(client.socket, server_hostname="localhost")
    assert device.calls == ["acquire"]


@pytest.mark.parametrize("what", NOT_TLS)
def test_client_that_speaks_no_tls_is_dropped_and_the_next_is_served(
    client: Client, server: Exporting, context: ssl.SSLContext, place: Path, what: str
) -> None:
    client.greet()
    assert client.ask(Option.STARTTLS) == [(Reply.ACK, b"")]
    client.socket.sendall(NOT_TLS[what])
    client.socket.shutdown(socket.SHUT_WR)
    while not client.is_dropped():
        pass  # an alert
    good = Client(place / "socket")
    good.greet()
    good.start_tls(context)
    assert good.ask(Option.LIST)[-1] == (Reply.ACK, b"")
    good.socket.close()


def test_client_that_shakes_hands_a_byte_at_a_time_is_dropped(
    device: MemoryDevice, place: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship_nbd.server._STALL_S", 0.5)
    with Exporting({"disk": Export(device)}, f"{place}/socket", of_server(pki)) as server:
        client = Client(place / "socket")
        client.greet()
        assert client.ask(Option.STARTTLS) == [(Reply.ACK, b"")]
        deadline = time.monotonic() + PATIENCE_S
        with pytest.raises(OSError, match=r"Broken pipe|reset"):  # noqa: PT012 (the loop ends so)
            for byte in b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + bytes(16_000):
                assert time.monotonic() < deadline
                client.socket.sendall(bytes([byte]))
                time.sleep(0.01)
        client.socket.close()
        while server.server.clients:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_client_may_be_silent_between_messages_and_not_within_one(
    device: MemoryDevice,
    context: ssl.SSLContext,
    place: Path,
    pki: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transship_nbd.server._STALL_S", 0.2)
    with Exporting({"disk": Export(device)}, f"{place}/socket", of_server(pki)):
        with Client(place / "socket") as client:
            client.greet()
            client.start_tls(context)
            assert client.ask(Option.GO, CHOOSE)[-1] == (Reply.ACK, b"")
            for _ in range(2):
                time.sleep(0.5)
                assert client.request(Command.FLUSH, 0, 0) == 0
            client.socket.sendall(b"\x25")
            with pytest.raises((ssl.SSLEOFError, ConnectionError)):  # by Python 3.13 a broken pipe
                client.socket.recv(1)


@pytest.mark.parametrize("late_in", ["greeting", "options", "handshake"])
def test_client_has_one_time_for_all_of_its_negotiation(
    device: MemoryDevice, place: Path, pki: Path, late_in: str
) -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours, "the client", 1.0)
    pieces = {
        "greeting": [b"", b"\0", b"\0", b"\0"],
        "options": [nbd.CLIENT_FLAGS.pack(3), *[option(Option.LIST)] * 60],
        "handshake": [nbd.CLIENT_FLAGS.pack(3) + option(Option.STARTTLS), b"\x16\x03\x01"],
    }[late_in]

    def drip() -> None:
        with contextlib.suppress(OSError):
            for piece in pieces:
                over.wait(0.7)
                theirs.sendall(piece)

    over = threading.Event()
    dripping = threading.Thread(target=drip)
    dripping.start()
    began = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match=r"the negotiation may go on for 1 s"):
            Offer(wire, {"disk": Export(device)}, 1.0, of_server(pki)).negotiate()
        assert time.monotonic() - began < 1.6
    finally:
        wire.close()
        over.set()
        dripping.join()
        theirs.close()


class Unsuccessful(SecureSession):
    """A session that never comes about; what is given to it to be encrypted stays plain."""

    def __init__(self, failure: TlsError | None) -> None:
        self._failure = failure

    def shake_hands(self) -> bool:
        if self._failure is not None:
            raise self._failure
        return False

    def leaving(self) -> bytes:
        return b"hello or alert"

    def arrived(self, encrypted: memoryview) -> None:
        pass

    def encrypt(self, segments: Sequence[Buffer]) -> Iterator[bytes]:
        yield from map(bytes, segments)

    def decrypt_into(self, target: memoryview) -> int | None:
        return len(target)

    def farewell(self) -> bytes:
        return b"farewell"


@pytest.mark.parametrize("failure", [TlsError("no"), None], ids=["no trust", "no time"])
def test_nothing_goes_over_a_wire_whose_handshake_has_failed(failure: TlsError | None) -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours, "the server", 0.2)
    with theirs:
        with pytest.raises((TlsError, TimeoutError)):
            wire.secure(Unsuccessful(failure))
        for call in (lambda: wire.send(b"secret"), lambda: wire.receive(1)):
            with pytest.raises(OSError, match="the handshake has not succeeded"):
                call()
        wire.end()
        wire.close()
        assert theirs.recv(65536) == b"hello or alert"


def test_client_that_ends_the_negotiation_over_tls_is_told_that_it_is_the_end(
    client: Client, context: ssl.SSLContext
) -> None:
    client.greet()
    client.start_tls(context)
    assert client.ask(Option.ABORT) == [(Reply.ACK, b"")]
    assert client.socket.recv(1) == b""  # a cut would be an SSLEOFError


def test_client_that_breaks_the_rules_over_tls_is_told_that_it_is_the_end(
    client: Client, context: ssl.SSLContext
) -> None:
    client.greet()
    client.start_tls(context)
    client.socket.sendall(bytes(nbd.OPTION.size))
    assert client.socket.recv(1) == b""


# What the log says


def logged(caplog: pytest.LogCaptureFixture, server: Exporting) -> tuple[str, str]:
    """How a client ended that is alone: level and message."""
    deadline = time.monotonic() + PATIENCE_S
    while not (records := [one for one in caplog.records if "NBD client" in one.message]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(records) == 1
    return records[0].levelname, records[0].message


TURNED_AWAY: dict[str, tuple[bytes, str]] = {
    "plain, and it leaves": (option(Option.LIST) + option(Option.ABORT), "it goes in plain"),
    "plain, and it is gone": (option(Option.LIST), "it goes in plain, and TLS comes first"),
    "plain, as of old": (option(Option.EXPORT_NAME, b"disk"), "it wants an export in plain"),
    "garbage": (b"GET / HTTP/1.1\r\n\r\n", "which begins no option"),
    "garbage for TLS": (option(Option.STARTTLS) + NOT_TLS["http"], "TLS with the client failed"),
}


@pytest.mark.parametrize("case", TURNED_AWAY)
def test_who_is_turned_away_is_named_in_a_warning(
    client: Client, server: Exporting, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    said, why = TURNED_AWAY[case]
    client.greet()
    client.socket.sendall(said)
    client.socket.shutdown(socket.SHUT_WR)
    level, message = logged(caplog, server)
    who = f"the NBD client with pid {os.getpid()} of uid {os.getuid()} was turned away: "
    assert level == "WARNING"
    assert message.startswith(who)
    assert why in message


@pytest.mark.parametrize("last", [b"", option(Option.STARTTLS)], ids=["options", "handshake"])
def test_who_does_not_go_on_is_turned_away_with_a_warning(
    device: MemoryDevice,
    pki: Path,
    last: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("transship_nbd.server._STALL_S", 0.3)
    where = "nbds://127.0.0.1:0"
    with Exporting({"disk": Export(device)}, where, of_server(pki)) as server:
        port = int(server.uri.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.sendall(nbd.CLIENT_FLAGS.pack(3) + last)
            level, message = logged(caplog, server)
            host, ours = silent.getsockname()
    assert level == "WARNING"
    assert message.startswith(f"the NBD client at {host}:{ours} was turned away: the client ")
    assert message.endswith("the negotiation may go on for 0.3 s")


@pytest.mark.parametrize("said", [b"", option(Option.ABORT), option(Option.STARTTLS)])
def test_client_that_merely_leaves_is_no_warning(
    client: Client, server: Exporting, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client.greet()
    client.socket.sendall(said)
    client.socket.shutdown(socket.SHUT_WR)
    level, message = logged(caplog, server)
    assert (level, " is not served: " in message) == ("INFO", True)


def test_end_of_a_session_is_said_to_the_client(client: Client, context: ssl.SSLContext) -> None:
    client.greet()
    client.start_tls(context)
    assert client.ask(Option.GO, CHOOSE)[-1] == (Reply.ACK, b"")
    client.socket.sendall(nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, Command.DISC, 1, 0, 0))
    assert client.socket.recv(1) == b""  # a cut would be an SSLEOFError


# The client


def refused(place: Path, pki: Path, script: Callable[[socket.socket], None]) -> str:
    """What a client that wants TLS says of a server."""
    with scripted_server(place / "socket", script) as uri:
        with pytest.raises(ConnectError) as caught:
            connect(uri.replace("nbd+", "nbds+"), {"timeout": 10}, of_client(pki))
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Reply.ERR_UNSUP, "it has no TLS, and TLS is asked for"),
        (Reply.ERR_POLICY, "it has no TLS, and TLS is asked for"),
        (Reply.ERR_INVALID, "it does not go over to TLS: error 0x80000003"),
        (Reply.ERR_SHUTDOWN, "it does not go over to TLS: it is shutting down"),
        (1 << 31, "it does not go over to TLS: error 0x80000000"),
    ],
)
def test_client_asks_for_nothing_if_there_is_no_tls(
    place: Path, pki: Path, kind: int, reason: str
) -> None:
    heard: list[int] = []

    def script(connection: socket.socket) -> None:
        greet(connection)
        heard.append(receive_option(connection))
        answer(connection, heard[-1], (kind, b"not today"))
        heard.append(receive_option(connection))
        assert not connection.recv(1)

    why = refused(place, pki, script)
    assert f"{reason}: not today" in why
    assert heard == [Option.STARTTLS, Option.ABORT]


def test_client_is_not_content_with_more_than_consent(place: Path, pki: Path) -> None:
    def script(connection: socket.socket) -> None:
        greet(connection)
        answer(connection, receive_option(connection), (Reply.ACK, b"more"))
        assert not connection.recv(1)

    assert "its consent to STARTTLS has 4 bytes too many" in refused(place, pki, script)


@pytest.mark.parametrize("kind", [Reply.SERVER, Reply.INFO, 77])
def test_client_is_not_content_with_another_answer(place: Path, pki: Path, kind: int) -> None:
    def script(connection: socket.socket) -> None:
        greet(connection)
        answer(connection, receive_option(connection), (kind, b""), (Reply.ACK, b""))
        assert not connection.recv(1)

    assert "answers STARTTLS with something else" in refused(place, pki, script)


@pytest.mark.parametrize(
    "slipped_in",
    [
        reply(Option.STRUCTURED_REPLY, Reply.ACK),
        reply(Option.STRUCTURED_REPLY, Reply.ERR_UNSUP) + reply(Option.GO, Reply.ERR_UNSUP),
        b"\0",
    ],
)
def test_client_takes_nothing_in_plain_behind_the_answer_to_starttls(
    place: Path, pki: Path, slipped_in: bytes
) -> None:
    """Sent in one piece with the answer, before the true server's handshake."""
    context = X509Credentials(pki, Endpoint.SERVER).context()

    def script(connection: socket.socket) -> None:
        greet(connection)
        assert receive_option(connection) == Option.STARTTLS
        connection.sendall(reply(Option.STARTTLS, Reply.ACK) + slipped_in)
        with pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(connection, server_side=True)

    assert "TLS with the server failed" in refused(place, pki, script)


@pytest.mark.parametrize("what", NOT_TLS)
def test_server_that_speaks_no_tls_after_all_is_refused(place: Path, pki: Path, what: str) -> None:
    def script(connection: socket.socket) -> None:
        greet(connection)
        answer(connection, receive_option(connection), (Reply.ACK, b""))
        receive(connection, 100)
        connection.sendall(NOT_TLS[what])
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1000):
            pass

    why = refused(place, pki, script)
    assert "TLS with the server failed" in why or "closed the connection" in why


def test_server_may_answer_over_tls_as_ever(place: Path, pki: Path) -> None:
    """By Python's own TLS: an honest server, and what the client says at the end."""
    context = X509Credentials(pki, Endpoint.SERVER).context()
    ends: list[bytes] = []

    def script(connection: socket.socket) -> None:
        greet(connection)
        answer(connection, receive_option(connection), (Reply.ACK, b""))
        with context.wrap_socket(
            connection, server_side=True, suppress_ragged_eofs=False
        ) as secured:
            assert receive_option(secured) == Option.STRUCTURED_REPLY
            answer(secured, Option.STRUCTURED_REPLY, (Reply.ERR_UNSUP, b""))
            assert receive_option(secured) == Option.GO
            size = nbd.INFO_EXPORT.pack(Info.EXPORT, SIZE, Transmission.HAS_FLAGS)
            answer(secured, Option.GO, (Reply.INFO, size), (Reply.ACK, b""))
            request = nbd.REQUEST.unpack(receive(secured, nbd.REQUEST.size))
            assert request[2] == Command.DISC
            ends.append(secured.recv(1))  # a cut would be an SSLEOFError

    with scripted_server(place / "socket", script) as uri:
        client = connect(uri.replace("nbd+", "nbds+"), {"timeout": 10}, of_client(pki))
        assert client.size_bytes == SIZE
        client.close()
    assert ends == [b""]


def test_server_that_drips_its_handshake_is_given_up_in_the_time_of_one_negotiation(
    place: Path, pki: Path
) -> None:
    def script(connection: socket.socket) -> None:
        greet(connection)
        time.sleep(0.4)
        answer(connection, receive_option(connection), (Reply.ACK, b""))
        for byte in b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(100):
            connection.sendall(bytes([byte]))
            time.sleep(0.1)

    with scripted_server(place / "socket", script) as uri:
        began = time.monotonic()
        why = r"the server does not end the TLS handshake; the negotiation may go on for 0\.8 s"
        with pytest.raises(ConnectError, match=why):
            connect(uri.replace("nbd+", "nbds+"), {"open-timeout": "0.8"}, of_client(pki))
        assert time.monotonic() - began < 1.5


def test_server_that_leaves_right_after_the_handshake_is_asked_about_in_its_log(
    place: Path, pki: Path
) -> None:
    context = X509Credentials(pki, Endpoint.SERVER).context()

    def script(connection: socket.socket) -> None:
        greet(connection)
        answer(connection, receive_option(connection), (Reply.ACK, b""))
        context.wrap_socket(connection, server_side=True).close()

    why = refused(place, pki, script)
    assert why.endswith(
        "right after the TLS handshake (does it trust our certificate, and let us in? its log says)"
    )
    assert why.count(str(place)) == 1
    assert why.startswith("cannot connect to nbds+unix:///disk?")
