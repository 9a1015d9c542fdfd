"""TLS between the two ends of a channel."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from tls_certificates import SERVER

from transship.errors import MigrationError
from transship.tls import AccessList, Endpoint, X509Credentials, X509Security
from transship.tls.session import Session

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from transship.abc import Channel
    from transship.testing import MakePair


def source_security(folder: Path, hostname: str | None = SERVER, **others: Any) -> X509Security:
    return X509Security(X509Credentials(folder, Endpoint.CLIENT, **others), hostname=hostname)


def destination_security(
    folder: Path, access: AccessList | None = None, **others: Any
) -> X509Security:
    return X509Security(X509Credentials(folder, Endpoint.SERVER, **others), access=access)


class Ends(NamedTuple):
    """What became of both sides: a channel, or why there is none."""

    source: Channel | MigrationError
    destination: Channel | MigrationError


async def secure_both(
    pair: tuple[Channel, Channel], source: X509Security, destination: X509Security
) -> Ends:
    """Let both sides shake hands; one that fails closes its end, as the engine does."""
    ends: list[Channel | MigrationError] = [MigrationError("not done"), MigrationError("not done")]

    async def secure(side: int, security: X509Security) -> None:
        try:
            ends[side] = await security.secure(pair[side])
        except MigrationError as error:
            ends[side] = error
            await pair[side].aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(secure, 0, source)
        nursery.start_soon(secure, 1, destination)
    return Ends(*ends)


async def last_word(ends: Ends) -> MigrationError:
    """Why the source failed: at once, or when it waits for an answer (TLS 1.3)."""
    if isinstance(ends.source, MigrationError):
        return ends.source
    try:
        count = await ends.source.receive_some_into(memoryview(bytearray(1)))
    except MigrationError as error:
        return error
    raise AssertionError(f"the source did not fail; {count} bytes came")


def secured(make_pair: MakePair, folder: Path) -> MakePair:
    """The same pairs with TLS over them."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Channel, Channel]]:
        async with make_pair() as pair:
            ends = await secure_both(pair, source_security(folder), destination_security(folder))
            for end in ends:
                if isinstance(end, MigrationError):
                    raise end
            source, destination = ends
            assert not isinstance(source, MigrationError)
            assert not isinstance(destination, MigrationError)
            async with aclosing(source), aclosing(destination):
                yield source, destination

    return make


def session_pair(
    folder: Path,
    change_source: Callable[[ssl.SSLContext], None] = lambda _: None,
    change_destination: Callable[[ssl.SSLContext], None] = lambda _: None,
    *,
    hostname: str = SERVER,
) -> tuple[Session, Session]:
    """Two sessions that have not shaken hands yet."""
    client = X509Credentials(folder, Endpoint.CLIENT).context()
    server = X509Credentials(folder, Endpoint.SERVER).context()
    change_source(client)
    change_destination(server)
    return (
        Session(client, "the destination", server_side=False, hostname=hostname),
        Session(server, "the source", server_side=True),
    )


def agree(source: Session, destination: Session) -> None:
    """Carry what leaves one to the other, until both hands are shaken."""
    is_over = [False, False]
    for _ in range(8):
        for side, (one, other) in enumerate(((source, destination), (destination, source))):
            is_over[side] = is_over[side] or one.shake_hands()
            if leaving := one.leaving():
                other.arrived(memoryview(leaving))
        if all(is_over):
            return
    raise AssertionError("the handshake does not end")
