"""How the two halves of remote memory find each other, by messages of the channel.

::

    destination                              source
    EXPOSED  session, endpoint      ---->
                                    <----    MIRROR  session, endpoint, blocks
    MIRRORED source (places)        ---->                                  or REFUSED  why
    WITHDRAWN session               ---->

Then the memory's own endpoints talk to each other (``_exposure``, ``_writer``).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, final

import trio

from transship.errors import ChannelError
from transship.toolkit import ConflictDetector
from transship_rdma._exposure import Exposure, open_memory_endpoint
from transship_rdma._link import Link, another
from transship_rdma._messages import (
    Exposed,
    Kind,
    MalformedError,
    Mirror,
    Mirrored,
    Refused,
    pack_count,
    table_of,
    unpack_count,
)
from transship_rdma._writer import FabricWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from transship.abc import RemoteWriter
MEMORY_KINDS: Final = frozenset(
    {Kind.EXPOSED, Kind.MIRROR, Kind.MIRRORED, Kind.REFUSED, Kind.WITHDRAWN}
)


@final
class FabricMemory:
    """What a channel knows of remote memory.

    Args:
        stream: The channel's link.
        host: Address of this side's interface.
        provider: The provider of all endpoints.
        peer: Who is at the other end, for people.
    """

    def __init__(self, stream: Link, host: str, provider: str, peer: str) -> None:
        self._stream = stream
        self._host = host
        self._provider = provider
        self._peer = peer
        self._exposing = ConflictDetector("this channel exposes memory already")
        self._mirroring = ConflictDetector("this channel mirrors memory already")
        self._sessions = 0
        self._exposure: Exposure | None = None
        self._offers = 0
        self._offer: Exposed | None = None
        self._writer: FabricWriter | None = None
        self._answer: Mirrored | Refused | None = None
        self._ended: ChannelError | None = None
        stream.on_failure(self.end)

    def end(self, error: ChannelError) -> None:
        """Stop all writing: the channel is at its end."""
        if self._ended is None:
            self._ended = error
            for half in (self._exposure, self._writer):
                if half is not None:
                    half.link.fail(error)

    def _judge(self, error: ChannelError) -> None:
        """End the channel with a peer that breaks the rules; else both may still tell why."""
        if self._ended is None and isinstance(error, MalformedError):
            self._stream.fail(error)

    def _refuse_if_ended(self) -> None:
        if self._ended is not None:
            raise another(self._ended)
        self._stream.refuse_if_failed()

    # The destination's half

    @asynccontextmanager
    async def expose(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AsyncIterator[None]:
        """See :meth:`transship.abc.RemoteMemory.expose`."""
        with self._exposing:
            self._refuse_if_ended()
            table_of(blocks)
            endpoint = await trio.to_thread.run_sync(
                open_memory_endpoint, self._provider, self._host
            )
            try:
                session = self._sessions + 1
                exposure = Exposure(endpoint, session, blocks, self._peer, self._refuse)
                if at_once:
                    await exposure.register_all()
                self._refuse_if_ended()
                exposure.link.on_failure(self._judge)
                self._exposure = exposure
                self._sessions = session
                exposure.link.start()
                self._stream.send_soon(Kind.EXPOSED, exposure.offer().pack())
                yield
            finally:
                if self._exposure is not None:
                    self._exposure.link.close()
                    self._exposure = None
                    self._stream.send_soon(Kind.WITHDRAWN, pack_count(self._sessions))
                endpoint.close()

    def _refuse(self, source: int, error: ChannelError) -> None:
        self._stream.send_soon(Kind.REFUSED, Refused(source, str(error)).pack())

    def _admit(self, mirror: Mirror) -> None:
        exposure = self._exposure
        if exposure is None or mirror.endpoint.session != exposure.session:
            if not 0 < mirror.endpoint.session <= self._sessions:
                raise MalformedError("the source asks for memory that was never exposed")
            return  # it will read of the end
        try:
            places = exposure.admit(mirror.endpoint, mirror.table)
        except ChannelError as error:
            self._refuse(mirror.endpoint.identity, error)
            return
        answer = Mirrored(mirror.endpoint.identity, places)
        self._stream.send_soon(Kind.MIRRORED, answer.pack())

    # The source's half

    @asynccontextmanager
    async def mirror(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AsyncIterator[RemoteWriter]:
        """See :meth:`transship.abc.RemoteMemory.mirror`."""
        with self._mirroring:
            self._refuse_if_ended()
            table_of(blocks)
            while True:
                offer = await self._next_offer()
                async with self._coming(offer, blocks, at_once=at_once) as writer:
                    if writer is not None:
                        yield writer
                        return

    @asynccontextmanager
    async def _coming(
        self, offer: Exposed, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AsyncIterator[FabricWriter | None]:
        """Come to memory that was offered; gives None if it was withdrawn meanwhile.

        Word of that crosses ours, so an offer may be one of which the destination has long let go.
        """
        endpoint = await trio.to_thread.run_sync(open_memory_endpoint, self._provider, self._host)
        try:
            writer = FabricWriter(
                endpoint,
                blocks,
                self._peer,
                needs_local_regions=endpoint.needs_local_regions,
            )
            if at_once:
                await writer.register_all()
            self._refuse_if_ended()
            self._answer = None
            self._writer = writer
            writer.link.on_failure(self._judge)
            writer.link.start()
            writer.link.connect(offer.name, offer.identity)
            own = Exposed(offer.session, writer.link.identity, endpoint.name)
            self._stream.send_soon(Kind.MIRROR, Mirror(own, writer.table).pack())
            admission = await self._admission(offer)
            if admission is not None:
                writer.learn_whole_blocks(admission.places)
            yield writer if admission is not None else None
        finally:
            if self._writer is not None:
                self._writer.link.close()
                self._writer = None
            endpoint.close()

    async def _next_offer(self) -> Exposed:
        """Wait for the destination to expose its memory: it decides when."""
        while self._offer is None:
            self._refuse_if_ended()
            await self._stream.change()
        self._refuse_if_ended()
        return self._offer

    async def _admission(self, offer: Exposed) -> Mirrored | None:
        while self._answer is None:
            self._refuse_if_ended()
            if self._offer != offer:
                return None
            await self._stream.change()
        if isinstance(self._answer, Refused):
            raise ChannelError(f"{self._peer} refuses: {self._answer.reason}")
        return self._answer

    # Messages

    def deliver(self, kind: Kind, body: bytes) -> None:
        """Take a message of those in :data:`MEMORY_KINDS`.

        Raises:
            MalformedError: It should not have come.
        """
        if kind == Kind.EXPOSED:
            offer = Exposed.unpack(body)
            if self._offer is not None or offer.session != self._offers + 1:
                raise MalformedError("the destination exposes memory twice")
            self._offers = offer.session
            self._offer = offer
        elif kind == Kind.WITHDRAWN:
            if self._offer is None or unpack_count(body) != self._offer.session:
                raise MalformedError("the destination withdraws what it did not expose")
            self._offer = None
            self._stop_writing(f"{self._peer} does not expose its memory any more")
        elif kind == Kind.MIRROR:
            self._admit(Mirror.unpack(body))
        else:
            answer = Mirrored.unpack(body) if kind == Kind.MIRRORED else Refused.unpack(body)
            if not self._offers:
                raise MalformedError("the destination answers what was not asked")
            self._take_answer(answer)
        self._stream.wake()

    def _take_answer(self, answer: Mirrored | Refused) -> None:
        if self._writer is None or answer.identity != self._writer.link.identity:
            return  # to one who has left
        if self._answer is None:
            self._answer = answer
        elif isinstance(answer, Refused):
            self._stop_writing(f"{self._peer} refuses: {answer.reason}")

    def _stop_writing(self, why: str) -> None:
        if self._writer is not None:
            self._writer.link.close(ChannelError(why))
