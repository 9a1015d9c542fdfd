"""A handshake agrees, or fails soon and clearly, whatever the other side does."""

from __future__ import annotations

import random
import shutil
import ssl
import subprocess
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import trio
from channel_pairs import memory_pair, tcp_pair, unix_pair
from tls_pair import agree, destination_security, session_pair, source_security

from transship.engine.securing import secured
from transship.errors import ChannelError, MigrationError, PeerClosedError, TlsError
from transship.tls import Endpoint, X509Credentials
from transship.tls.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from transship.testing import MakePair

NOT_TLS = {
    "stream": b"QEVM\0\0\0\3" + bytes(200),
    "multifd": b"\x11\x22\x33\x44" + bytes(60),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "random": b"\xa5" + random.Random(5).randbytes(500),
    "long record": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "long message": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(17_000),
}


@pytest.mark.parametrize("what", NOT_TLS)
@pytest.mark.parametrize("make_pair", [unix_pair, tcp_pair], ids=["unix", "tcp"])
async def test_destination_refuses_what_is_not_tls(
    pki: Path, what: str, make_pair: MakePair
) -> None:
    async with make_pair() as (source, destination), trio.open_nursery() as nursery:
        nursery.start_soon(source.send_segments, [NOT_TLS[what]])
        with trio.fail_after(10), pytest.raises(TlsError) as caught:
            await destination_security(pki).secure(destination)
        if what != "long message":
            assert caught.value.hint == "what came is not TLS: is TLS on at the other side?"


async def test_source_refuses_a_destination_that_speaks_no_tls(pki: Path) -> None:
    async with unix_pair() as (source, destination):
        await destination.send_return(b"\0\2\0\4....")
        with trio.fail_after(10), pytest.raises(TlsError, match="is TLS on at the other side"):
            await source_security(pki).secure(source)


@pytest.mark.parametrize("side", ["source", "destination"])
async def test_peer_that_says_nothing_is_given_up(pki: Path, side: str) -> None:
    async with unix_pair() as (source, destination):
        end = source if side == "source" else destination
        security = source_security(pki) if side == "source" else destination_security(pki)
        with trio.fail_after(10), pytest.raises(TlsError, match=r"took more than 0\.1 s"):
            async with secured(end, security, 0.1):
                raise AssertionError("there is no channel")


def hello_of(pki: Path) -> bytes:
    source, _ = session_pair(pki)
    source.shake_hands()
    return source.leaving()


async def test_handshake_cut_at_every_byte_is_an_end(pki: Path) -> None:
    hello = hello_of(pki)
    for length in range(len(hello)):
        async with memory_pair() as (source, destination):
            if length:
                await source.send_segments([hello[:length]])
            await source.send_eof()
            with trio.fail_after(10), pytest.raises((PeerClosedError, TlsError)):
                await destination_security(pki).secure(destination)


async def test_answer_cut_anywhere_is_an_end_and_the_source_says_so(pki: Path) -> None:
    whole = 2000
    for length in range(0, whole, 37):
        async with memory_pair() as (source, destination):
            context = X509Credentials(pki, Endpoint.SERVER).context()
            server = Session(context, "the source", server_side=True)

            async def answer(count: int = length) -> None:
                hello = memoryview(bytearray(4096))
                server.arrived(hello[: await destination.receive_some_into(hello)])  # noqa: B023
                server.shake_hands()  # noqa: B023
                answer = server.leaving()  # noqa: B023
                await destination.send_return(answer[: min(count, len(answer) - 1)])  # type: ignore[attr-defined]
                await destination.send_eof()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                with trio.fail_after(10), pytest.raises((PeerClosedError, TlsError)):
                    await source_security(pki).secure(source)


@pytest.mark.parametrize("make_pair", [unix_pair, tcp_pair], ids=["unix", "tcp"])
async def test_peer_that_goes_away_in_the_middle_is_a_broken_channel(
    pki: Path, make_pair: MakePair
) -> None:
    hello = hello_of(pki)
    async with make_pair() as (source, destination):
        await source.send_segments([hello[: len(hello) // 2]])
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def go_away() -> None:
                await trio.sleep(0.05)
                await source.aclose()

            with trio.fail_after(10), pytest.raises(ChannelError):
                await destination_security(pki).secure(destination)


async def test_handshake_can_be_cancelled_wherever_it_waits(pki: Path) -> None:
    """The n-th wait of the two sides is where everything is cancelled."""
    for turns in range(60):
        ends: list[object] = []
        async with memory_pair() as (source, destination):
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    scope = nursery.cancel_scope

                    async def secure(security: object, channel: object) -> None:
                        ends.append(await security.secure(channel))  # type: ignore[attr-defined]  # noqa: B023

                    nursery.start_soon(secure, source_security(pki), source)
                    nursery.start_soon(secure, destination_security(pki), destination)
                    for _ in range(turns):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        if len(ends) == 2:
            return
    raise AssertionError("the handshake was never through")


def only_old(context: ssl.SSLContext) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


@pytest.mark.parametrize("old", ["source", "destination"])
def test_tls_1_1_is_refused(pki: Path, old: str) -> None:
    changes: dict[str, Any] = {f"change_{old}": only_old}
    with pytest.raises(TlsError) as caught:
        agree(*session_pair(pki, **changes))
    assert caught.value.hint == "one side offers TLS 1.1 or older; both need 1.2 or 1.3"


def test_record_that_is_too_long_is_refused(pki: Path) -> None:
    source, destination = session_pair(pki)
    agree(source, destination)
    destination.arrived(memoryview(b"\x17\x03\x03\x48\x00" + bytes(0x4800)))
    with pytest.raises(TlsError):
        destination.decrypt_into(memoryview(bytearray(100)))


def test_answers_that_a_peer_never_takes_are_bounded(pki: Path) -> None:
    source, destination = session_pair(pki)
    agree(source, destination)
    destination._leaving.write(bytes(65 * 1024))  # as refusals of new handshakes pile up
    destination.arrived(memoryview(b"".join(source.encrypt([b"x"]))))
    for _ in range(2):  # once it has failed, what comes may have a gap
        with pytest.raises(TlsError, match="keeps asking"):
            destination.decrypt_into(memoryview(bytearray(100)))
        destination._leaving.read()


needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the program openssl, as a client"
)


@needs_openssl
@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
async def test_openssl_as_a_source_is_understood_and_may_change_its_keys(
    pki: Path, version: str
) -> None:
    """``K`` asks for new keys in both directions (TLS 1.3), ``R`` for a new handshake (1.2)."""
    with trio.fail_after(30):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        command = [
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", f"-{version}",
            "-cert", f"{pki}/client-cert.pem", "-key", f"{pki}/client-key.pem",
            "-CAfile", f"{pki}/ca-cert.pem", "-no_ign_eof",
        ]  # fmt: skip
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        stream = await listeners[0].accept()
        from transship.toolkit import SocketChannel

        channel = SocketChannel(stream.socket._sock.dup(), "openssl")  # type: ignore[attr-defined]
        await stream.aclose()
        await listeners[0].aclose()
        try:
            safe = await destination_security(pki).secure(channel)
            await process.stdin.send_all(b"one\n")
            page = memoryview(bytearray(4))
            await safe.receive_into(page)
            assert bytes(page) == b"one\n"
            if version == "tls1_3":
                for turn in range(20):
                    await process.stdin.send_all(b"K\n")
                    await trio.sleep(0.02)
                    await process.stdin.send_all(b"n%02d\n" % turn)
                    await safe.receive_into(page)
                    assert bytes(page) == b"n%02d\n" % turn
                    await safe.send_return(b"answer\n")  # type: ignore[attr-defined]
            else:
                await process.stdin.send_all(b"R\n")
                await trio.sleep(0.1)
                with trio.move_on_after(0.2) as waiting:
                    await safe.receive_some_into(page)
                assert waiting.cancelled_caught  # the refusal goes with what is sent next
                await safe.send_return(b"answer")  # type: ignore[attr-defined]
                with pytest.raises(MigrationError):
                    await safe.receive_into(page)  # the client gives up: there is no new handshake
            await safe.aclose()
        finally:
            await channel.aclose()
            process.kill()
            await process.wait()
