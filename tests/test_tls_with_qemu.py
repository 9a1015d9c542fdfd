"""TLS between us and real QEMUs, in both directions, over one channel and over several."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import MigrationFailed, QemuProcess
from support.passages import EAGER, guest, listen, ram_of, take, waiting_guest
from tls_certificates import CLIENT, SERVER, UNIT, make_folder

from transship.abc import Parameters
from transship.assembly import migrate, receive
from transship.errors import MigrationError, TlsError
from transship.guests.scratch import ScratchGuest
from transship.guests.stored import StoredGuest
from transship.tls import Endpoint, Format, Policy, Rule, X509Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = pytest.mark.qemu

MACHINE: Final = "pc-i440fx-7.2"
RAM_BYTES: Final = 32 << 20
OUR_DN: Final = f"O=Ours\\, and theirs,OU={UNIT},CN={CLIENT}"

each_qemu = pytest.mark.parametrize("qemu", qemu_binaries(), ids=lambda qemu: qemu.label)
each_way = pytest.mark.parametrize(
    ("scheme", "capabilities"),
    [("tcp", ()), ("unix", ()), ("tcp", ("multifd",))],
    ids=["tcp", "unix", "multifd"],
)


@asynccontextmanager
async def running_qemu(qemu: QemuBinary, place: Path) -> AsyncIterator[QemuProcess]:
    """A QEMU whose guest has been at work for a while."""
    async with guest(qemu, place, "source", MACHINE, ram_bytes=RAM_BYTES) as source:
        await source.wait_sweeps(3)
        yield source


def waiting_qemu(qemu: QemuBinary, place: Path) -> QemuProcess:
    return waiting_guest(qemu, place, "destination", MACHINE, ram_bytes=RAM_BYTES)


async def checkpoint_of(qemu: QemuBinary, place: Path) -> Path:
    """Make the checkpoint of a QEMU's guest, for us to send from."""
    checkpoint = place / "vm"
    async with running_qemu(qemu, place) as source:
        await source.stop()
        await take(source, place, checkpoint)
    return checkpoint


async def give_credentials(
    qemu: QemuProcess, endpoint: str, folder: str, capabilities: Sequence[str] = (), **others: Any
) -> None:
    await qemu.execute(
        "object-add", **{"qom-type": "tls-creds-x509", "id": "tls0", "dir": folder},
        endpoint=endpoint, **{"verify-peer": True},
    )  # fmt: skip
    await qemu.set_migration(
        dict.fromkeys(capabilities, True),
        {"tls-creds": "tls0", **{name.replace("_", "-"): value for name, value in others.items()}},
    )


def uri_of(scheme: str, place: Path) -> str:
    return f"unix:{place / 'ours.sock'}" if scheme == "unix" else "tcp:127.0.0.1:0"


class Ours:
    """A destination of ours that waits for a QEMU."""

    def __init__(
        self, scheme: str, place: Path, capabilities: Sequence[str] = (), **parameters: Any
    ) -> None:
        self.guest = ScratchGuest()
        self.uri = ""
        self.is_listening = trio.Event()
        self.incoming = receive(
            self.guest,
            uri_of(scheme, place),
            parameters=Parameters(**parameters),
            capabilities=capabilities,
            on_listening=self._note,
        )

    def _note(self, uri: str) -> None:
        self.uri = uri
        self.is_listening.set()

    @asynccontextmanager
    async def receiving_from(self, source: QemuProcess) -> AsyncIterator[trio.CancelScope]:
        """Have a QEMU send to us while the body runs; gives the scope of our side."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.incoming.run)
            await self.is_listening.wait()
            await source.migrate(self.uri, {"return-path": True}, EAGER)
            yield nursery.cancel_scope


@each_qemu
@each_way
async def test_qemu_sends_to_us_over_tls(
    qemu: QemuBinary, scheme: str, capabilities: Sequence[str], place: Path
) -> None:
    folder = make_folder(place / "pki")
    ours = Ours(scheme, place, capabilities, tls_creds=folder)
    async with running_qemu(qemu, place) as source:
        await give_credentials(source, "client", folder, capabilities, tls_hostname=SERVER)
        async with ours.receiving_from(source):
            await source.wait_migration()
        assert source.ram() == ram_of(ours.guest)
    ours.guest.close()


@each_qemu
@each_way
async def test_qemu_takes_from_us_over_tls(
    qemu: QemuBinary, scheme: str, capabilities: Sequence[str], place: Path
) -> None:
    folder = make_folder(place / "pki")
    checkpoint = await checkpoint_of(qemu, place)
    async with waiting_qemu(qemu, place) as waiting:
        await give_credentials(waiting, "server", folder, capabilities)
        uri = await listen(waiting, place, scheme)
        ours = StoredGuest.open(checkpoint)
        migration = migrate(
            ours,
            uri,
            parameters=Parameters(tls_creds=folder, tls_hostname=SERVER),
            capabilities=capabilities,
        )
        await migration.run()
        await waiting.wait_migration()
        assert migration.is_confirmed
        assert waiting.ram() == ram_of(ours)


@each_qemu
@pytest.mark.parametrize("identity", [OUR_DN, "CN=somebody.else"], ids=["ours", "another"])
async def test_qemu_lets_us_in_by_our_distinguished_name(
    qemu: QemuBinary, identity: str, place: Path
) -> None:
    folder = make_folder(place / "pki", organization="Ours, and theirs")
    checkpoint = await checkpoint_of(qemu, place)
    async with waiting_qemu(qemu, place) as waiting:
        await waiting.execute(
            "object-add", **{"qom-type": "authz-simple"}, id="authz0", identity=identity
        )
        await give_credentials(waiting, "server", folder, tls_authz="authz0")
        uri = await listen(waiting, place, "tcp")
        migration = migrate(
            StoredGuest.open(checkpoint), uri, parameters=Parameters(tls_creds=folder)
        )
        if identity == OUR_DN:
            await migration.run()
            await waiting.wait_migration()
        else:
            with pytest.raises(MigrationError):
                await migration.run()


@each_qemu
@pytest.mark.parametrize("identity", [OUR_DN, "CN=somebody.else"], ids=["its", "another"])
async def test_we_let_qemu_in_by_its_distinguished_name(
    qemu: QemuBinary, identity: str, place: Path
) -> None:
    folder = make_folder(place / "pki", organization="Ours, and theirs")
    rules = place / "rules.json"
    escaped = identity.replace("\\", "\\\\")
    rules.write_text(f'{{"rules": [{{"match": "{escaped}", "policy": "allow"}}]}}')
    ours = Ours("tcp", place, tls_creds=folder, tls_authz=str(rules))
    async with running_qemu(qemu, place) as source:
        await give_credentials(source, "client", folder)
        async with ours.receiving_from(source) as ours_scope:
            if identity == OUR_DN:
                await source.wait_migration()
            else:
                with pytest.raises(MigrationFailed):
                    await source.wait_migration()
                assert not ours.incoming.is_over  # whoever is turned away does not end the waiting
                ours_scope.cancel()
    ours.guest.close()


@each_qemu
async def test_we_refuse_a_qemu_with_a_certificate_of_another_authority(
    qemu: QemuBinary, place: Path
) -> None:
    checkpoint = await checkpoint_of(qemu, place)
    async with waiting_qemu(qemu, place) as waiting:
        await give_credentials(waiting, "server", make_folder(place / "theirs"))
        uri = await listen(waiting, place, "tcp")
        migration = migrate(
            StoredGuest.open(checkpoint),
            uri,
            parameters=Parameters(tls_creds=make_folder(place / "ours")),
        )
        with pytest.raises(TlsError, match=r"certificate .* is refused"):
            await migration.run()


@each_qemu
@pytest.mark.parametrize(
    "pattern", ["*CN=client.example.org", "*?lient.*", "*[c]lient.example.org"]
)
async def test_patterns_mean_to_us_what_they_mean_to_qemu(
    qemu: QemuBinary, pattern: str, place: Path
) -> None:
    folder = make_folder(place / "pki", organization="Ours")
    rule = {"match": pattern, "policy": "allow", "format": "glob"}
    async with waiting_qemu(qemu, place) as waiting:
        await waiting.execute("object-add", **{"qom-type": "authz-list"}, id="authz0", rules=[rule])
        await give_credentials(waiting, "server", folder, tls_authz="authz0")
        host, port = (await listen(waiting, place, "tcp")).removeprefix("tcp:").rsplit(":", 1)
        async with await trio.open_tcp_stream(host, int(port)) as connection:
            stream = trio.SSLStream(
                connection,
                X509Credentials(Path(folder), Endpoint.CLIENT).context(),
                server_hostname=SERVER,
            )
            await stream.do_handshake()
            with trio.move_on_after(1) as waits, suppress(trio.BrokenResourceError):
                await stream.receive_some(1)
    ours = Rule(pattern, Policy.ALLOW, Format.GLOB).fits(f"O=Ours,OU={UNIT},CN={CLIENT}")
    assert waits.cancelled_caught is ours  # who is not let in sees the end at once
