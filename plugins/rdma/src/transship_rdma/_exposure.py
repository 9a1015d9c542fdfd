"""The destination's half of remote memory: registers what the source wants to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, final

import trio

from transship.errors import ChannelError
from transship_rdma._fabric import Endpoint
from transship_rdma._link import Link, new_identity
from transship_rdma._messages import (
    CHUNK_BYTES,
    MESSAGE_BYTES,
    Chunks,
    Exposed,
    Kind,
    MalformedError,
    Place,
    Table,
    pack_places,
    table_of,
    unpack_chunks,
    unpack_count,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MEMORY_SLOTS: Final = 32
"""Buffers of the endpoint for memory: requests and answers go one at a time."""

WRITES: Final = 64
"""Most remote writes under way, each of a chunk at most."""


class _Block(NamedTuple):
    """A block of guest memory, and where its chunks are for the peer, as far as registered."""

    address: int
    length: int
    places: dict[int, Place]


@final
class Exposure:
    """Memory that the source may write to, for as long as its endpoint is open.

    Nothing of it shares an endpoint with the stream: closing the endpoint ends every write, also
    one that is half through, whatever the source does.

    Args:
        endpoint: Owned by the exposure from now on.
        session: Its number.
        blocks: The memory, borrowed until :meth:`close`.
        peer: Who the source is, for people.
        refuse: Tells the source, whose identity it takes, why something cannot be done.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        session: int,
        blocks: Mapping[str, memoryview],
        peer: str,
        refuse: Callable[[int, ChannelError], None],
    ) -> None:
        self.session = session
        self.table: Table = table_of(blocks)
        self._endpoint = endpoint
        self._refuse = refuse
        self.link = Link(endpoint, peer, self._deliver, new_identity())
        self._blocks = [
            _Block(endpoint.address_of(blocks[idstr], writable=True) if length else 0, length, {})
            for idstr, length in self.table
        ]
        self._whole: list[Place] = []
        self._source: int | None = None

    async def register_all(self) -> None:
        """Register all memory now.

        Raises:
            ChannelError: It cannot be registered.
        """
        for block in self._blocks:
            place = (0, 0)
            if block.length:
                region = await trio.to_thread.run_sync(
                    lambda address, length: self._endpoint.register(
                        address, length, is_target=True
                    ),
                    block.address,
                    block.length,
                )
                place = region.key, region.address
            self._whole.append(place)

    def offer(self) -> Exposed:
        """What the source must know to come."""
        return Exposed(self.session, self.link.identity, self._endpoint.name)

    def admit(self, source: Exposed, table: Table) -> list[Place]:
        """Let a source write.

        Returns:
            Where each block is, if all are registered.

        Raises:
            ChannelError: Its blocks are others, or one was admitted before.
        """
        if self._source is not None:
            raise ChannelError("this memory is mirrored already, or was")
        if table != self.table:
            raise ChannelError(
                "the two sides have different blocks",
                expected=_difference(self.table, table),
                found=_difference(table, self.table),
            )
        self.link.connect(source.name, source.identity)
        self._source = source.identity
        return self._whole

    def _deliver(self, kind: int, slot: int, body: memoryview) -> bool:
        words = bytes(body)
        if self._source is None:
            raise MalformedError("a message came to memory that nobody mirrors")
        if kind == Kind.REGISTER:
            self._answer(self._source, unpack_chunks(words))
        elif kind == Kind.FLUSH:
            unpack_count(words)
            self.link.send_soon(Kind.FLUSHED, words)
        else:
            raise MalformedError("a message came that may not come here", found=f"kind {kind}")
        return False

    def _answer(self, source: int, wanted: list[Chunks]) -> None:
        for chunks in wanted:
            self._refuse_outside(chunks)
        try:
            places = [
                self._place_of(self._blocks[chunks.block], chunk)
                for chunks in wanted
                for chunk in range(chunks.first, chunks.first + chunks.count)
            ]
        except ChannelError as error:
            self._refuse(source, error)
            return
        self.link.send_soon(Kind.REGISTERED, pack_places(places))

    def _refuse_outside(self, chunks: Chunks) -> None:
        is_inside = (
            chunks.block < len(self._blocks)
            and (chunks.first + chunks.count - 1) * CHUNK_BYTES < self._blocks[chunks.block].length
            and chunks.count > 0
        )
        if not is_inside:
            raise MalformedError(
                "the source asks for memory that is not in a block", found=repr(chunks)
            )

    def _place_of(self, block: _Block, chunk: int) -> Place:
        if chunk not in block.places:
            start = chunk * CHUNK_BYTES
            length = min(CHUNK_BYTES, block.length - start)
            region = self._endpoint.register(block.address + start, length, is_target=True)
            block.places[chunk] = region.key, region.address
        return block.places[chunk]


def open_memory_endpoint(provider: str, host: str) -> Endpoint:
    """An endpoint for remote memory; takes its time.

    Raises:
        ConnectError: There is none.
    """
    return Endpoint(provider, host, MEMORY_SLOTS, MESSAGE_BYTES, WRITES)


def _difference(table: Table, other: Table) -> str:
    """What is in one table alone, for people; not all of it."""
    only = [f"{idstr} ({length} bytes)" for idstr, length in table if (idstr, length) not in other]
    more = f" and {len(only) - 4} more" if len(only) > 4 else ""
    return (", ".join(only[:4]) or "no other block") + more
