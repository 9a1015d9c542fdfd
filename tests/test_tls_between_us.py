"""Guests that move between two of us over TLS, and strangers who come instead of the source."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from faults_support import Relay, until
from support.between_us import Passage
from tls_certificates import SERVER, make_folder

from transship.abc import Parameters
from transship.assembly import migrate, receive
from transship.errors import BlockedError, MigrationError, TlsError
from transship.guests.synthetic import SyntheticGuest
from transship.tls import Endpoint, X509Credentials
from transship.toolkit import introductions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RAM_BYTES = 16 << 20


def guest() -> SyntheticGuest:
    return SyntheticGuest(RAM_BYTES, dirty_rate_bytes_per_s=1 << 20)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_folder(tmp_path_factory.mktemp("pki"))


def passage(
    uri: str, pki: str, *capabilities: str, source: dict[str, Any] | None = None, **others: Any
) -> Passage:
    return Passage(
        guest(),
        guest(),
        uri,
        Parameters(tls_creds=pki, **others),
        Parameters(tls_creds=pki, tls_hostname=SERVER, **(source or {})),
        capabilities=frozenset(capabilities),
    )


@pytest.mark.parametrize("capabilities", [(), ("multifd",)], ids=["one", "multifd"])
@pytest.mark.parametrize("scheme", ["tcp", "unix"])
async def test_guest_moves_over_tls(
    pki: str, tmp_path: Path, scheme: str, capabilities: tuple[str, ...]
) -> None:
    uri = "tcp:127.0.0.1:0" if scheme == "tcp" else f"unix:{tmp_path}/s"
    moving = passage(uri, pki, *capabilities)
    with trio.fail_after(60):
        await moving.run()
    assert moving.errors == []
    assert await moving.verdict() == "there"


async def test_nothing_of_the_guest_is_on_the_wire_in_plain(pki: str, tmp_path: Path) -> None:
    moving = passage(f"unix:{tmp_path}/there", pki)
    relay = Relay(f"unix:{tmp_path}/here", f"unix:{tmp_path}/there")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)
            moving.target = relay.uri
            await moving.run()
    assert await moving.verdict() == "there"
    assert len(relay.forward) > 1 << 20
    assert b"QEVM" not in relay.forward[:1000]
    assert b"globalstate" not in relay.forward


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.05, 0.5, 0.9, 0.99, 0.999, 0.9999])
async def test_cut_anywhere_leaves_the_guest_on_one_side(
    pki: str, tmp_path: Path, share: float
) -> None:
    whole = 17 << 20
    moving = passage(f"unix:{tmp_path}/there", pki, stall_timeout_s=3.0)
    relay = Relay(
        f"unix:{tmp_path}/here", f"unix:{tmp_path}/there", forward_bytes=1 + int(whole * share)
    )
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)
            moving.target = relay.uri
            await moving.run()
            nursery.cancel_scope.cancel()
    await moving.verdict()  # it runs on one side at most, and is whole there


async def refused(
    uri: str, capabilities: tuple[str, ...] = (), **parameters: Any
) -> tuple[MigrationError, SyntheticGuest]:
    """Why a migration failed; its guest runs on."""
    here = guest()
    await here.resume()
    with pytest.raises(MigrationError) as caught:
        await migrate(
            here, uri, parameters=Parameters(**parameters), capabilities=capabilities
        ).run()
    assert here.is_running
    await here.pause()
    return caught.value, here


class Waiting:
    """A destination of ours, to which others come than the source."""

    def __init__(self, uri: str, *, capabilities: tuple[str, ...] = (), **parameters: Any) -> None:
        self.guest = guest()
        self.listening = trio.Event()
        self.uri = ""
        self.error: MigrationError | None = None
        self.incoming = receive(
            self.guest, uri, parameters=Parameters(**parameters), capabilities=capabilities,
            on_listening=self._note,
        )  # fmt: skip

    def _note(self, uri: str) -> None:
        self.uri = uri
        self.listening.set()

    async def run(self) -> None:
        try:
            await self.incoming.run()
        except MigrationError as error:
            self.error = error


async def with_strangers(
    pki: str,
    strangers: Callable[[Waiting], Awaitable[None]],
    *capabilities: str,
    **parameters: Any,
) -> None:
    """Let strangers do what they do, and then the source come; the guest moves."""
    here = guest()
    await here.resume()
    waiting = Waiting("tcp:127.0.0.1:0", capabilities=capabilities, tls_creds=pki, **parameters)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.run)
            await waiting.listening.wait()
            await strangers(waiting)
            await migrate(
                here, waiting.uri, parameters=Parameters(tls_creds=pki), capabilities=capabilities
            ).run()
    assert waiting.error is None
    assert waiting.guest.is_running
    assert not here.is_running
    await waiting.guest.pause()
    here.close()
    waiting.guest.close()


async def test_source_gets_in_past_many_who_say_nothing(
    pki: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introductions, "_UNHURRIED_S", 0.2)
    with ExitStack() as stack:

        async def strangers(waiting: Waiting) -> None:
            host, port = waiting.uri.removeprefix("tcp:").rsplit(":", 1)
            for _ in range(100):
                stack.enter_context(socket.create_connection((host, int(port))))

        await with_strangers(pki, strangers)


@pytest.mark.parametrize(
    "said", [b"QEVM\0\0\0\3", b"\x16\x03\x01\x00\x05hello", bytes(range(256)) * 300, b""]
)
async def test_source_gets_in_past_those_who_speak_no_tls(pki: str, said: bytes) -> None:
    async def strangers(waiting: Waiting) -> None:
        host, port = waiting.uri.removeprefix("tcp:").rsplit(":", 1)
        for _ in range(20):
            stream = await trio.open_tcp_stream(host, int(port))
            async with stream:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(said)

    await with_strangers(pki, strangers)


async def test_source_gets_in_past_one_of_another_authority_and_one_in_plain(
    pki: str, tmp_path: Path
) -> None:
    other = make_folder(tmp_path / "other")

    async def strangers(waiting: Waiting) -> None:
        error, here = await refused(waiting.uri, tls_creds=other)
        assert isinstance(error, TlsError)
        here.close()
        error, here = await refused(waiting.uri)
        here.close()

    await with_strangers(pki, strangers)


async def test_source_without_a_certificate_is_told_so_and_its_guest_runs_on(
    pki: str, tmp_path: Path
) -> None:
    shutil.copytree(pki, tmp_path / "bare")
    (tmp_path / "bare" / "client-cert.pem").unlink()

    async def strangers(waiting: Waiting) -> None:
        error, here = await refused(waiting.uri, tls_creds=f"{tmp_path}/bare/")
        assert "certificate" in str(error)
        here.close()

    await with_strangers(pki, strangers)


async def test_source_that_no_rule_lets_in_fails_and_another_may_come(
    pki: str, tmp_path: Path
) -> None:
    ca_folder = tmp_path / "two"
    ca = trustme.CA()
    good = make_folder(ca_folder / "good", ca=ca, client="good.example.org")
    bad = make_folder(ca_folder / "bad", ca=ca, client="bad.example.org")
    rules = tmp_path / "rules"
    rule = {"match": "*,CN=good.example.org", "policy": "allow", "format": "glob"}
    rules.write_text(json.dumps({"rules": [rule]}))

    async def strangers(waiting: Waiting) -> None:
        error, here = await refused(waiting.uri, tls_creds=bad)
        assert error.source_may_resume
        here.close()

    await with_strangers(good, strangers, tls_authz=str(rules))


async def test_who_is_let_in_first_and_says_nothing_is_taken_for_the_source(pki: str) -> None:
    """So it can keep the real one out, once; nobody else can. A list of access narrows who may."""
    waiting = Waiting("tcp:127.0.0.1:0", tls_creds=pki, stall_timeout_s=0.3)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.run)
            await waiting.listening.wait()
            host, port = waiting.uri.removeprefix("tcp:").rsplit(":", 1)
            context = _client_context(pki)
            stream = trio.SSLStream(
                await trio.open_tcp_stream(host, int(port)), context, server_hostname=SERVER
            )
            await stream.do_handshake()
            await until(lambda: waiting.error is not None, "the waiting ends", 10)
            await stream.transport_stream.aclose()
    assert "sent nothing for 0.3 s" in str(waiting.error)
    waiting.guest.close()


async def test_source_that_opens_extra_channels_for_ever_is_refused(pki: str) -> None:
    waiting = Waiting("tcp:127.0.0.1:0", capabilities=("multifd",), tls_creds=pki)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.run)
            await waiting.listening.wait()
            host, port = waiting.uri.removeprefix("tcp:").rsplit(":", 1)
            for _ in range(Parameters().multifd_channels + 1):
                stream = trio.SSLStream(
                    await trio.open_tcp_stream(host, int(port)),
                    _client_context(pki),
                    server_hostname=SERVER,
                )
                await stream.send_all(b"\x11\x22\x33\x44")
                nursery.start_soon(trio.aclose_forcefully, stream)
    assert "does not begin its stream" in str(waiting.error)
    waiting.guest.close()


def _client_context(pki: str) -> Any:
    return X509Credentials(Path(pki), Endpoint.CLIENT).context()


async def test_stranger_on_an_inherited_socket_ends_the_waiting(pki: str, tmp_path: Path) -> None:
    one, other = socket.socketpair()
    with one, other, trio.fail_after(30):
        one.send(b"QEVM\0\0\0\3")
        command = (
            *(sys.executable, "-m", "transship", "receive", f"fd:{other.fileno()}"),
            *("--to", str(tmp_path / "vm"), "--set", f"tls-creds={pki}"),
        )
        done = await trio.run_process(
            command, pass_fds=[other.fileno()], check=False, capture_stdout=True
        )
    assert done.returncode != 0
    assert b"is TLS on at the other side?" in done.stdout


@pytest.mark.parametrize("scheme", ["exec", "file"])
async def test_what_leads_one_way_is_refused_before_the_guest_is_touched(
    pki: str, tmp_path: Path, scheme: str
) -> None:
    uri = f"exec:cat > {tmp_path}/out" if scheme == "exec" else f"file:{tmp_path}/out"
    error, here = await refused(uri, tls_creds=pki, tls_hostname=SERVER)
    assert isinstance(error, BlockedError)
    assert "cannot do what the parameter tls-creds asks for" in str(error)
    here.close()
    (tmp_path / "in").write_bytes(b"QEVM\0\0\0\3" + bytes(100))
    uri = f"exec:cat {tmp_path}/in" if scheme == "exec" else f"file:{tmp_path}/in"
    waiting = Waiting(uri, tls_creds=pki)
    with trio.fail_after(20):
        await waiting.run()
    assert isinstance(waiting.error, BlockedError)
    waiting.guest.close()


async def test_migrations_that_fail_leave_no_descriptor_behind(pki: str, tmp_path: Path) -> None:
    other = make_folder(tmp_path / "other")
    before = len(os.listdir("/proc/self/fd"))
    waiting = Waiting("tcp:127.0.0.1:0", tls_creds=pki)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.run)
            await waiting.listening.wait()
            during = len(os.listdir("/proc/self/fd"))
            for _ in range(10):
                _, here = await refused(waiting.uri, tls_creds=other)
                here.close()
            await until(lambda: len(os.listdir("/proc/self/fd")) <= during, "all is closed", 5)
            waiting.incoming.cancel()
    waiting.guest.close()
    assert len(os.listdir("/proc/self/fd")) <= before
