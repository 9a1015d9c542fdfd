"""The source's half of remote memory: writes runs, once it knows where they go."""

from __future__ import annotations

from array import array
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, final

import trio

from transship.abc import RemoteRun, RemoteWriter
from transship.errors import StalledError
from transship.toolkit import ConflictDetector
from transship_rdma._fabric import Write
from transship_rdma._link import STALL_S, Link, new_identity
from transship_rdma._messages import (
    CHUNK_BYTES,
    CHUNKS_PER_REQUEST,
    Chunks,
    Kind,
    MalformedError,
    Place,
    pack_chunks,
    pack_count,
    table_of,
    unpack_count,
    unpack_places,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from transship_rdma._fabric import Endpoint

_PIECES_AT_A_TIME: Final = 256
"""Within one chunk each. So many are looked up and handed to native code at a time."""

_UNKNOWN: Final = -1
_FLUSH_NUMBERS: Final = 1 << 32


class _Piece(NamedTuple):
    """A part of a run, within one chunk."""

    block: int
    chunk: int
    offset: int
    length: int


class _Block:
    """A block here, and what is known of it there.

    Attributes:
        keys: By chunk; of use where ``is_known``.
        addresses: Of each chunk's first byte.
        regions: Number of the region here that a chunk is in, or -1.
    """

    def __init__(self, address: int, length: int) -> None:
        count = -(-length // CHUNK_BYTES)
        self.address = address
        self.length = length
        self.is_known = bytearray(count)
        self.keys = array("Q", [0]) * count
        self.addresses = array("Q", [0]) * count
        self.regions = array("q", [_UNKNOWN]) * count

    def learn(self, chunk: int, place: Place) -> None:
        self.keys[chunk], self.addresses[chunk] = place
        self.is_known[chunk] = True

    def learn_all(self, place: Place) -> None:
        key, address = place
        for chunk in range(len(self.is_known)):
            self.learn(chunk, (key, (address + chunk * CHUNK_BYTES) % (1 << 64)))


@final
class FabricWriter(RemoteWriter):
    """Writes to one exposure.

    Args:
        endpoint: Owned by the writer's link.
        blocks: What there is to write; borrowed until the endpoint is closed.
        peer: Who the destination is, for people.
        needs_local_regions: Whether what is written from must be registered on this side too.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        blocks: Mapping[str, memoryview],
        peer: str,
        *,
        needs_local_regions: bool,
    ) -> None:
        self._endpoint = endpoint
        self._needs_local_regions = needs_local_regions
        self._peer = peer
        self.link = Link(endpoint, peer, self._deliver, new_identity())
        self._using = ConflictDetector("another task is writing")
        self.table = table_of(blocks)
        self._index = {idstr: index for index, (idstr, _) in enumerate(self.table)}
        self._blocks = [
            _Block(endpoint.address_of(blocks[idstr], writable=False) if length else 0, length)
            for idstr, length in self.table
        ]
        self._asked = 0
        self._answer: list[Place] = []
        self._flush = 0
        self._flushed = 0

    async def register_all(self) -> None:
        """Register all memory on this side, where the provider wants it registered.

        Raises:
            ChannelError: It cannot be registered.
        """
        if not self._needs_local_regions:
            return
        for block in self._blocks:
            if block.length:
                region = await trio.to_thread.run_sync(
                    lambda address, length: self._endpoint.register(
                        address, length, is_target=False
                    ),
                    block.address,
                    block.length,
                )
                block.regions = array("q", [region.number]) * len(block.regions)

    def learn_whole_blocks(self, places: Sequence[Place]) -> None:
        """Take over where the blocks are, if the destination registered them whole.

        Raises:
            MalformedError: It says so of another number of blocks.
        """
        if places and len(places) != len(self._blocks):
            raise MalformedError("the destination places another number of blocks than there are")
        for block, place in zip(self._blocks, places, strict=False):
            block.learn_all(place)

    async def write(self, runs: Sequence[RemoteRun]) -> None:
        """Begin to write runs; see :meth:`RemoteWriter.write`."""
        for run in runs:
            self._refuse_outside(run)
        with self._using, self._given_up_unless_through():
            await trio.lowlevel.checkpoint()
            pieces = self._pieces_of(runs)
            while batch := list(islice(pieces, _PIECES_AT_A_TIME)):
                await self._learn(batch)
                await self._begin(batch)

    async def flush(self) -> None:
        """Wait until all is there; see :meth:`RemoteWriter.flush`.

        When the last write is complete, a message goes there and back: it cannot overtake what was
        complete before it, on no provider, and the destination's processors have seen it.
        """
        with self._using, self._given_up_unless_through():
            await trio.lowlevel.checkpoint()
            await self._until(lambda: not self.link.writes_out)
            self._flush = (self._flush + 1) % _FLUSH_NUMBERS
            self.link.send_soon(Kind.FLUSH, pack_count(self._flush))
            await self._until_answered(lambda: self._flushed == self._flush)

    @contextmanager
    def _given_up_unless_through(self) -> Iterator[None]:
        """After a failure or cancellation nothing is written any more."""
        try:
            self.link.refuse_if_failed()
            yield
        except BaseException:
            self.link.close()
            raise

    # Runs

    def _refuse_outside(self, run: RemoteRun) -> None:
        index = self._index.get(run.idstr)
        if index is None:
            raise ValueError(f"{run.idstr!r} is none of the blocks that were mirrored")
        if run.offset < 0 or run.length < 0 or run.offset + run.length > self._blocks[index].length:
            raise ValueError(f"{run} is not within its block")

    def _pieces_of(self, runs: Sequence[RemoteRun]) -> Iterator[_Piece]:
        for idstr, offset, length in runs:
            block, end = self._index[idstr], offset + length
            while offset < end:
                chunk = offset // CHUNK_BYTES
                piece_end = min(end, (chunk + 1) * CHUNK_BYTES)
                yield _Piece(block, chunk, offset, piece_end - offset)
                offset = piece_end

    async def _learn(self, batch: Sequence[_Piece]) -> None:
        """Ask where chunks are that were not written to before."""
        unknown = dict.fromkeys(
            (piece.block, piece.chunk)
            for piece in batch
            if not self._blocks[piece.block].is_known[piece.chunk]
        )
        chunks = iter(unknown)
        while asked := list(islice(chunks, CHUNKS_PER_REQUEST)):
            self._asked = len(asked)
            request = pack_chunks([Chunks(block, chunk, 1) for block, chunk in asked])
            self.link.send_soon(Kind.REGISTER, request)
            await self._until_answered(lambda: not self._asked)
            for (block, chunk), place in zip(asked, self._answer, strict=True):
                self._blocks[block].learn(chunk, place)

    async def _begin(self, batch: Sequence[_Piece]) -> None:
        writes = [self._write_of(piece) for piece in batch]
        begun = 0
        while begun < len(writes):
            begun += self.link.begin_writes(writes[begun:])
            if begun < len(writes):
                await self.link.change()

    def _write_of(self, piece: _Piece) -> Write:
        block, chunk = self._blocks[piece.block], piece.chunk
        start = chunk * CHUNK_BYTES
        if self._needs_local_regions and block.regions[chunk] == _UNKNOWN:
            length = min(CHUNK_BYTES, block.length - start)
            region = self._endpoint.register(block.address + start, length, is_target=False)
            block.regions[chunk] = region.number
        return Write(
            block.address + piece.offset,
            piece.length,
            block.addresses[chunk] + piece.offset - start,
            block.keys[chunk],
            block.regions[chunk],
        )

    # Answers

    def _deliver(self, kind: int, slot: int, body: memoryview) -> bool:
        words = bytes(body)
        if kind == Kind.REGISTERED and self._asked:
            answer = unpack_places(words, CHUNKS_PER_REQUEST)
            if len(answer) != self._asked:
                raise MalformedError(
                    "the destination places another number of chunks than was asked for",
                    expected=str(self._asked),
                    found=str(len(answer)),
                )
            self._asked = 0
            self._answer = answer
        elif kind == Kind.FLUSHED and self._flushed != self._flush:
            if unpack_count(words) != self._flush:
                raise MalformedError("the destination answers what was not asked")
            self._flushed = self._flush
        else:
            raise MalformedError("a message came that may not come here", found=f"kind {kind}")
        return False

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self.link.refuse_if_failed()
            await self.link.change()
        self.link.refuse_if_failed()

    async def _until_answered(self, is_so: Callable[[], bool]) -> None:
        with trio.move_on_after(STALL_S):
            await self._until(is_so)
            return
        raise StalledError(f"{self._peer} did not answer in {STALL_S:g} s")
