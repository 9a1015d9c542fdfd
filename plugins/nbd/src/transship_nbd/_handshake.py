"""A client's way from a connection to an export: fixed newstyle negotiation."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn

from transship.errors import ConnectError
from transship_nbd._protocol import (
    ALLOCATION,
    CLIENT_FLAGS,
    COUNT,
    DEPTH,
    EXPORT_ANSWER,
    GREETING,
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    INFO_KIND,
    LARGEST_SMALLEST_BLOCK,
    LONGEST_PAYLOAD_BYTES,
    LONGEST_STRING_BYTES,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    REPLY_IS_ERROR,
    REPLY_MAGIC,
    SERVER_MAGIC,
    SMALLEST_BLOCK,
    ZEROES_BYTES,
    HandshakeFlag,
    Info,
    Option,
    Reply,
    Transmission,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.abc import SecureSession
    from transship_nbd._uri import NbdAddress
    from transship_nbd._wire import Wire

_MOST_REPLIES: Final = 64
"""To one option. Four would do for what is asked here."""

_LONGEST_REPLY_BYTES: Final = LONGEST_STRING_BYTES + 8
"""A string and the numbers before it."""

_LARGEST_EXPORT_BYTES: Final = 2**63 - 1
"""Offsets of files are signed."""

_HAS_NO_TLS: Final = frozenset({Reply.ERR_UNSUP, Reply.ERR_POLICY, Reply.ERR_PLATFORM})
"""What a server says to ``STARTTLS`` that knows of none, or was not told to have any."""

_REFUSALS: Final[dict[int, str]] = {
    Reply.ERR_UNKNOWN: "it has no such export",
    Reply.ERR_TLS_REQD: "it insists on TLS: nbds: and certificates are needed",
    Reply.ERR_POLICY: "it does not let us",
    Reply.ERR_SHUTDOWN: "it is shutting down",
}


@dataclass(frozen=True, slots=True)
class ExportFacts:
    """What a server has said of an export.

    Args:
        size_bytes: Its size.
        flags: What may be asked of it.
        is_structured: Whether replies come in chunks.
        zeroes: The number of the context that says what reads as zeroes; None if nobody does.
        depth: The number of the context that says what comes from a base; None if nobody does.
        smallest_block: Offsets and lengths are multiples of it; a power of two.
        longest_payload: Bytes that one request may read or write.
    """

    size_bytes: int
    flags: Transmission
    is_structured: bool = False
    zeroes: int | None = None
    depth: int | None = None
    smallest_block: int = SMALLEST_BLOCK
    longest_payload: int = LONGEST_PAYLOAD_BYTES

    @property
    def contexts(self) -> set[int]:
        """The numbers of all that a question about blocks is answered with."""
        return {number for number in (self.zeroes, self.depth) if number is not None}


def negotiate(wire: Wire, address: NbdAddress, session: SecureSession | None) -> ExportFacts:
    """Choose an export; requests may follow.

    Args:
        wire: Connected, nothing said yet.
        address: Whose export is wanted.
        session: Secures the wire before anything is asked; None for a wire in plain.

    Raises:
        ConnectError: The server does not have it, does not let us in, breaks the rules, or has no
            TLS and is to have it.
        TlsError: The two sides do not agree on keys, or one does not trust the other.
        OSError: The server is gone, or too slow.
    """
    return _Negotiation(wire, address).run(session)


class _Negotiation:
    """One conversation.

    Args:
        wire: Connected, nothing said yet.
        address: Whose export is wanted.
    """

    def __init__(self, wire: Wire, address: NbdAddress) -> None:
        self._wire = wire
        self._address = address
        self._name = address.export.encode()

    def run(self, session: SecureSession | None) -> ExportFacts:
        is_brief = self._greet()
        if session is not None:
            self._start_tls(session)
        is_structured = self._has_chunks(is_over_tls=session is not None)
        contexts = self._choose_contexts() if is_structured else {}
        facts = self._go()
        if facts is None:
            facts = self._choose_by_name(is_brief)
        zeroes, depth = contexts.get(ALLOCATION), contexts.get(DEPTH)
        return replace(facts, is_structured=is_structured, zeroes=zeroes, depth=depth)

    def _greet(self) -> bool:
        """Exchange flags.

        Returns:
            Whether the zeroes behind an old answer are left out.
        """
        magic, second, said = GREETING.unpack(self._wire.receive(GREETING.size))
        if magic != SERVER_MAGIC:
            self._give_up("it is no NBD server", expected="NBDMAGIC", found=f"{magic:#x}")
        if second != OPTION_MAGIC or not said & HandshakeFlag.FIXED_NEWSTYLE:
            self._give_up("it does not negotiate", expected="fixed newstyle negotiation")
        flags = HandshakeFlag.FIXED_NEWSTYLE | (said & HandshakeFlag.NO_ZEROES)
        self._wire.send(CLIENT_FLAGS.pack(flags))
        return bool(flags & HandshakeFlag.NO_ZEROES)

    def _start_tls(self, session: SecureSession) -> None:
        """Go on over TLS, or not at all."""
        kind, message = next(self._ask(Option.STARTTLS))
        if kind & REPLY_IS_ERROR:
            if kind in _HAS_NO_TLS:
                self._refused("it has no TLS, and TLS is asked for", message)
            self._refused(f"it does not go over to TLS: {_refusal(kind)}", message)
        if kind != Reply.ACK:
            self._give_up("it answers STARTTLS with something else")
        if message:
            self._give_up(f"its consent to STARTTLS has {len(message)} bytes too many")
        self._wire.secure(session)

    def _has_chunks(self, *, is_over_tls: bool) -> bool:
        """Ask for structured replies, which is the first that is asked for.

        A server that does not let us in can say so only now: with TLS 1.3 our side of the handshake
        is over before the server has seen our certificate.
        """
        try:
            return [kind for kind, _ in self._ask(Option.STRUCTURED_REPLY)][-1] == Reply.ACK
        except ConnectionError as error:
            if not is_over_tls:
                raise
            why = f"{error.strerror}, right after the TLS handshake"
            raise ConnectError(
                f"cannot connect to {self._address}: {why}",
                hint="does it trust our certificate, and let us in? its log says",
            ) from error

    def _choose_contexts(self) -> dict[str, int]:
        """Ask for what is known of blocks: names and numbers of what the server tells."""
        wanted = (ALLOCATION, DEPTH)
        queries = b"".join(_string(name.encode()) for name in wanted)
        data = _string(self._name) + COUNT.pack(len(wanted)) + queries
        chosen: dict[str, int] = {}
        for kind, answer in self._ask(Option.SET_META_CONTEXT, data):
            if kind == Reply.META_CONTEXT:
                (number,) = COUNT.unpack_from(self._long_enough(answer, COUNT.size))
                name = answer[COUNT.size :].decode(errors="replace")
                if name not in wanted or name in chosen or number in chosen.values():
                    self._give_up("it tells of blocks what nobody asked for", found=repr(name))
                chosen[name] = number
            elif kind != Reply.ACK:
                return {}
        return chosen

    def _go(self) -> ExportFacts | None:
        """Enter the transmission; None if the server does not know how to be asked so."""
        asked = (Info.BLOCK_SIZE,)
        data = _string(self._name) + INFO_KIND.pack(len(asked))
        data += b"".join(map(INFO_KIND.pack, asked))
        facts: ExportFacts | None = None
        blocks: tuple[int, int] = (SMALLEST_BLOCK, LONGEST_PAYLOAD_BYTES)
        for kind, answer in self._ask(Option.GO, data):
            if kind == Reply.ERR_UNSUP:
                return None
            if kind & REPLY_IS_ERROR:
                self._refused(_refusal(kind), answer)
            if kind != Reply.INFO:
                continue
            (what,) = INFO_KIND.unpack_from(self._long_enough(answer, INFO_KIND.size))
            if what == Info.EXPORT:
                _, size, flags = INFO_EXPORT.unpack(self._exactly(answer, INFO_EXPORT.size))
                facts = self._facts(size, flags)
            elif what == Info.BLOCK_SIZE:
                blocks = self._blocks(answer)
        if facts is None:
            self._give_up("it does not say how large the export is")
        smallest, longest = blocks
        if facts.size_bytes % smallest:
            self._give_up(
                f"of the export's {facts.size_bytes} bytes the last cannot be reached in blocks"
                f" of {smallest}"
            )
        return replace(facts, smallest_block=smallest, longest_payload=longest)

    def _choose_by_name(self, is_brief: bool) -> ExportFacts:
        """The old way in, which has no errors: what cannot be had ends the connection."""
        self._send(Option.EXPORT_NAME, self._name)
        size, flags = EXPORT_ANSWER.unpack(self._wire.receive(EXPORT_ANSWER.size))
        if not is_brief:
            self._wire.receive(ZEROES_BYTES)
        return self._facts(size, flags)

    def _facts(self, size: int, flags: int) -> ExportFacts:
        if not 0 <= size <= _LARGEST_EXPORT_BYTES:
            self._give_up(f"an export cannot have {size} bytes")
        return ExportFacts(size, Transmission(flags))

    def _blocks(self, answer: bytes) -> tuple[int, int]:
        """The smallest block and the longest payload."""
        _, smallest, _, longest = INFO_BLOCK_SIZE.unpack(
            self._exactly(answer, INFO_BLOCK_SIZE.size)
        )
        is_power = smallest.bit_count() == 1 and smallest <= LARGEST_SMALLEST_BLOCK
        if not is_power or longest < smallest:
            self._give_up(f"blocks of {smallest} and payloads of {longest} bytes make no sense")
        longest = min(longest, LONGEST_PAYLOAD_BYTES)
        return smallest, longest - longest % smallest

    def _ask(self, option: Option, data: bytes = b"") -> Iterator[tuple[int, bytes]]:
        """Send an option, and yield its replies, the last one included."""
        self._send(option, data)
        for _ in range(_MOST_REPLIES):
            header = self._wire.receive(OPTION_REPLY.size)
            magic, answered, kind, length = OPTION_REPLY.unpack(header)
            if (magic, answered) != (REPLY_MAGIC, option):
                self._give_up(f"it answers {option.name} with something else")
            if length > _LONGEST_REPLY_BYTES:
                self._give_up(f"it answers {option.name} with {length} bytes")
            yield kind, self._wire.receive(length)
            if kind == Reply.ACK or kind & REPLY_IS_ERROR:
                return
        self._give_up(f"it does not stop answering {option.name}")

    def _send(self, option: Option, data: bytes = b"") -> None:
        try:
            self._wire.send(OPTION.pack(OPTION_MAGIC, option, len(data)), data)
        except ConnectionError:
            self._wire.receive(1)  # what the server has said before it left is a better reason
            raise

    def _long_enough(self, answer: bytes, least: int) -> bytes:
        if len(answer) < least:
            self._give_up(f"what it says of the export has {len(answer)} bytes")
        return answer

    def _exactly(self, answer: bytes, length: int) -> bytes:
        if len(answer) != length:
            self._give_up(f"what it says of the export has {len(answer)} bytes")
        return answer

    def _refused(self, why: str, message: bytes) -> NoReturn:
        said = message.decode(errors="replace")
        self._abort()
        self._give_up(why + (f": {said}" if said.isprintable() and said else ""))

    def _abort(self) -> None:
        """Say farewell; whether the server answers does not matter."""
        with contextlib.suppress(OSError):
            self._wire.send(OPTION.pack(OPTION_MAGIC, Option.ABORT, 0))
        self._wire.end()

    def _give_up(
        self, why: str, *, expected: str | None = None, found: str | None = None
    ) -> NoReturn:
        cause = f"{self._address} cannot be used: {why}"
        raise ConnectError(cause, expected=expected, found=found)


def _refusal(kind: int) -> str:
    return _REFUSALS.get(kind, f"error {kind:#x}")


def _string(text: bytes) -> bytes:
    return COUNT.pack(len(text)) + text
