"""What the source hears on the return path: one task listens, others wait for answers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from transship.engine.receiver import StreamReceiver
from transship.errors import (
    MigrationError,
    NotStartedError,
    PeerClosedError,
    PeerFailedError,
    RemoteError,
    StalledError,
)
from transship.wire.constants import ReturnType
from transship.wire.reason import read_reason
from transship.wire.returnpath import ReturnMessage, read_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.abc.channel import ReturnPath

_ANSWERS: Final = frozenset(
    {
        ReturnType.PONG,
        ReturnType.SHUT,
        ReturnType.GREETING,
        ReturnType.WANTED,
        ReturnType.ADOPTED,
    }
)
"""What a destination may say in a migration like ours, at its time."""


class Answers:
    """Listens to the destination.

    Args:
        path: The channel's return path; borrowed.
        peer: Who answers, for messages.
        last_words_timeout_s: How long to wait for the reason of a failure.

    Attributes:
        may_end: Whether the destination may say by now that it has the guest.
    """

    def __init__(self, path: ReturnPath, peer: str, last_words_timeout_s: float) -> None:
        self.may_end = False
        self._last_words_timeout_s = last_words_timeout_s
        self._receiver = StreamReceiver.of_return_path(path, peer)
        self._peer = peer
        self._pongs: dict[int, trio.Event] = {}
        self._shut = trio.Event()
        self._replies: dict[ReturnType, ReturnMessage | None] = {}
        self._replied = trio.Event()
        self._failure: MigrationError | None = None

    async def listen(self) -> None:
        """Take messages until the destination says that it is done.

        Whoever waits for an answer meanwhile gets the same error.

        Raises:
            PeerFailedError: It says that it failed.
            PeerClosedError: It closed the channel without a word.
            RemoteError: It said something that does not belong here.
        """
        try:
            await self._listen()
        except MigrationError as error:
            self._failure = error
            for event in (*self._pongs.values(), self._shut, self._replied):
                event.set()
            raise

    async def _listen(self) -> None:
        while not self._shut.is_set():
            message = await self._receiver.run(read_message(self._receiver.reader))
            if message is None:
                raise PeerClosedError(
                    f"{self._peer} closed the channel before it said that it has the guest",
                    hint="its own output says why",
                )
            if message.type is ReturnType.SHUT and message.value():
                raise await self._failed(message)
            self._take(message)

    async def _failed(self, shut: ReturnMessage) -> PeerFailedError:
        """The destination failed: as the error that it gives as the reason, if it gives one."""
        facts: Mapping[str, str | int] = {}
        with trio.move_on_after(self._last_words_timeout_s), suppress(MigrationError):
            message = await self._receiver.run(read_message(self._receiver.reader))
            if message is not None and message.type is ReturnType.REASON:
                facts = read_reason(message)
        if not facts:
            return PeerFailedError(
                f"{self._peer} failed to load the guest",
                found=f"SHUT {shut.value()}",
                hint="its own output says why",
            )
        said = {name: str(value) for name, value in facts.items()}
        offset = facts.get("offset")
        return PeerFailedError(
            f"the destination failed: {said['cause']}",
            has_guest=said.get("kind") == NotStartedError.__name__ and self.may_end,
            section=said.get("section"),
            offset=offset if isinstance(offset, int) else None,
            expected=said.get("expected"),
            found=said.get("found"),
            hint=said.get("hint"),
        )

    def _take(self, message: ReturnMessage) -> None:
        match message.type:
            case ReturnType.PONG if self._is_expected(message.value()):
                self._pongs[message.value()].set()
            case ReturnType.SHUT if self.may_end:
                self._shut.set()
            case kind if self._replies.get(kind, message) is None:
                self._replies[kind] = message
                self._replied.set()
            case kind if kind in _ANSWERS:
                raise RemoteError(
                    f"{self._peer} answered what it had not been asked",
                    expected="PONG to a PING, or SHUT after the end of the stream",
                    found=f"{message.type.name} {int.from_bytes(message.payload[:4], 'big')}",
                )
            case ReturnType.SWITCHOVER_ACK:
                pass
            case _:
                raise RemoteError(
                    f"{self._peer} sent a message that belongs to postcopy",
                    expected="PONG or SHUT",
                    found=message.type.name,
                )

    def _is_expected(self, value: int) -> bool:
        return value in self._pongs and not self._pongs[value].is_set()

    def expect(self, value: int) -> None:
        """A PING is about to be sent; without that an answer to it is an error."""
        self._pongs[value] = trio.Event()

    async def pong(self, value: int, timeout_s: float) -> None:
        """Wait for the answer to a PING that was announced with :meth:`expect`.

        Raises:
            StalledError: It does not come in time.
        """
        await self._wait(self._pongs[value], f"PING {value}", timeout_s)

    def expect_reply(self, kind: ReturnType) -> None:
        """What is about to be sent may be answered with a message of this kind, once."""
        self._replies[kind] = None
        self._replied = trio.Event()

    def has_replied(self, kind: ReturnType) -> ReturnMessage | None:
        """What came after :meth:`expect_reply`, if it has come."""
        return self._replies.get(kind)

    async def reply(self, kind: ReturnType, timeout_s: float) -> ReturnMessage:
        """Wait for the only message that is expected but PONG and SHUT.

        Raises:
            StalledError: It does not come in time.
        """
        await self._wait(self._replied, "the offer of memory", timeout_s)
        message = self._replies[kind]
        assert message is not None
        return message

    async def shut(self, timeout_s: float) -> None:
        """Wait until the destination says that it has everything.

        Raises:
            StalledError: It does not say so in time.
        """
        await self._wait(self._shut, "the end of the stream", timeout_s)

    async def _wait(self, event: trio.Event, asked: str, timeout_s: float) -> None:
        with trio.move_on_after(timeout_s) as scope:
            await event.wait()
        if self._failure:
            raise self._failure
        if scope.cancelled_caught:
            raise StalledError(f"{self._peer} did not answer {asked} within {timeout_s:g} s")
