"""What every listener must do, one function a rule; :func:`check_listener` runs them all.

For transports whose destination waits for a connection. Each check takes ``listen``, which makes
an ``Incoming`` (on a free address each time, or on the same one again), and ``connect``, which
makes an ``Outgoing`` to the address that a listener gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.abc.transport import Address
from transship.errors import ChannelError, ConnectError
from transship.testing.checking import (
    PATIENCE_S,
    PROMPTLY_S,
    Attempt,
    Connect,
    Listen,
    blocked,
    naming,
    open_nursery,
    raises,
    receive_exactly,
    require,
    require_cancellable,
    settle,
    within,
)
from transship.testing.extra_channel_checks import EXTRA_CHANNEL_CHECKS

if TYPE_CHECKING:
    from transship.abc.channel import Channel


async def check_listener(listen: Listen, connect: Connect) -> None:
    """Run every required check of a listener, and the optional ones that apply.

    Raises:
        AssertionError: A rule is broken; a note names the check.
    """
    for check in LISTENER_CHECKS:
        with naming(check):
            await check(listen, connect)


async def check_does_nothing_until_entered(listen: Listen, connect: Connect) -> None:
    """The hooks only prepare: what they return may be dropped."""
    listen()
    async with listen() as listener:
        connect(Address.parse(listener.uri))


async def check_accepts_one_after_the_other(listen: Listen, connect: Connect) -> None:
    """Channels of one migration come over one listener, and each has its own bytes."""
    async with listen() as listener:
        address = Address.parse(listener.uri)
        with within(PATIENCE_S, "opening three channels"):
            async with connect(address) as one, connect(address) as two, connect(address) as three:
                accepted = [await listener.accept() for _ in range(3)]
                for word, channel in ((b"one", one), (b"two", two), (b"end", three)):
                    await channel.send_segments((word,))
                words = {await receive_exactly(channel, 3) for channel in accepted}
                require(words == {b"one", b"two", b"end"}, "channels were mixed up")
                for channel in accepted:
                    await channel.aclose()


async def check_accepts_after_cancelled_accept(listen: Listen, connect: Connect) -> None:
    """A cancelled ``accept`` ends promptly and loses no channel."""
    async with listen() as listener:
        async with blocked("accepting from nobody", listener.accept) as attempt:
            attempt.scope.cancel()
            await attempt.wait(PROMPTLY_S)
        async with connect(Address.parse(listener.uri)) as source:
            await source.send_segments((b"x",))
            await require_cancellable("an accept", listener.accept)
            with within(PATIENCE_S, "accepting after a cancelled accept"):
                channel = await listener.accept()
                require(await receive_exactly(channel, 1) == b"x", "the channel was lost")
                await channel.aclose()


async def check_outlives_lost_connection(listen: Listen, connect: Connect) -> None:
    """A source that goes before it is accepted does not end the listening."""
    async with listen() as listener:
        address = Address.parse(listener.uri)
        async with connect(address):
            pass
        async with connect(address) as source:
            await source.send_segments((b"x",))
            with within(PATIENCE_S, "accepting the second source"):
                first = await _receive_and_close(await listener.accept())
                if first is None:  # handed over although it had gone; it may also be skipped
                    first = await _receive_and_close(await listener.accept())
                require(first == b"x", "the second source was lost")


async def _receive_and_close(channel: Channel) -> bytes | None:
    try:
        return await receive_exactly(channel, 1)
    except ChannelError:
        return None
    finally:
        await channel.aclose()


async def check_stops_when_left(listen: Listen, connect: Connect) -> None:
    """After leaving, nobody can connect, a waiting ``accept`` fails, and one can listen again."""
    attempt = Attempt("accepting while listening stops")
    async with open_nursery() as nursery:
        async with listen() as listener:
            address = Address.parse(listener.uri)
            nursery.start_soon(attempt.run, listener.accept)
            await settle()
        await attempt.wait(PROMPTLY_S)
        require(attempt.error is not None, "an accept succeeded on nothing")
    with within(PATIENCE_S, "failing to connect"):
        with raises(ConnectError, "when nobody listens any more"):
            async with connect(address):
                pass
    async with listen():
        pass


LISTENER_CHECKS: Final = (
    check_does_nothing_until_entered,
    check_accepts_one_after_the_other,
    check_accepts_after_cancelled_accept,
    check_outlives_lost_connection,
    check_stops_when_left,
    *EXTRA_CHANNEL_CHECKS,
)
"""In the order in which a new transport comes to pass them."""
