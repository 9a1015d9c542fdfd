"""A server's side of the negotiation: what a client may have, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship_nbd._deadline import Deadline
from transship_nbd._protocol import (
    ALLOCATION,
    CLIENT_FLAGS,
    COUNT,
    EXPORT_ANSWER,
    GREETING,
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    INFO_KIND,
    LONGEST_PAYLOAD_BYTES,
    LONGEST_STRING_BYTES,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    PREFERRED_BLOCK,
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
    from collections.abc import Mapping

    from transship.abc import ConnectionSecurity
    from transship_nbd._exports import Export
    from transship_nbd._wire import Wire

_MOST_OPTIONS: Final = 64
"""Of one client. Five are what a client of today needs."""

_LONGEST_OPTION_BYTES: Final = 64 * 1024
_CONTEXT: Final = 1
"""The number that we give to the context of holes."""


class NotServedError(Exception):
    """The client is not to be served; says why, for the log."""


class LeftError(NotServedError):
    """The client wants nothing, or nothing more, and says so."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a client was promised.

    Args:
        export: What it has.
        size_bytes: Its size, for as long as the client stays.
        is_structured: Whether replies come in chunks.
        context: The number of the context of holes; None if the client does not want to know.
    """

    export: Export
    size_bytes: int
    is_structured: bool
    context: int | None


class _InvalidOptionError(Exception):
    """What an option brings makes no sense."""


class Offer:
    """The conversation with one client, up to its choice.

    Args:
        wire: Connected, nothing said yet.
        exports: By name. A client that names none has the only one, if it is.
        time_s: How long all of it may take, a handshake included; from now on.
        security: Secures the wire before anything is told; None for a wire in plain.
    """

    def __init__(
        self,
        wire: Wire,
        exports: Mapping[str, Export],
        time_s: float,
        security: ConnectionSecurity | None = None,
    ) -> None:
        self._wire = wire
        self._exports = exports
        self._security = security
        self._deadline = Deadline.of_negotiation(time_s)
        self._is_brief = False
        self._is_structured = False
        self._context: tuple[str, int] | None = None

    def negotiate(self) -> Agreement:
        """Talk until the client has chosen.

        Raises:
            LeftError: It left without a choice.
            NotServedError: It broke the rules, or goes in plain where it may not.
            TlsError: The two sides do not agree on keys, or it is not trusted, or not let in.
            TimeoutError: It is too slow.
            OSError: It is gone.
        """
        with self._wire.within(self._deadline):
            return self._negotiate()

    def _negotiate(self) -> Agreement:
        self._greet()
        if self._security is not None:
            self._await_tls(self._security)
        for _ in range(_MOST_OPTIONS):
            option, data = self._receive_option()
            if option == Option.EXPORT_NAME:
                return self._choose_by_name(data)
            try:
                agreement = self._answer(option, data)
            except _InvalidOptionError as error:
                self._refuse(option, Reply.ERR_INVALID, str(error))
            else:
                if agreement is not None:
                    return agreement
        raise NotServedError(f"it has asked for more than {_MOST_OPTIONS} things")

    def _await_tls(self, security: ConnectionSecurity) -> None:
        """Tell nothing before the client has gone over to TLS.

        Nothing that it asks for until then has an effect, so nobody else can have asked for it in
        the client's name.

        Raises:
            NotServedError: It was refused something in plain, and left; or broke the rules.
        """
        is_refused = False
        for _ in range(_MOST_OPTIONS):
            try:
                option, data = self._receive_option()
            except (LeftError, ConnectionError) as error:
                if is_refused:
                    raise NotServedError("it goes in plain, and TLS comes first") from error
                raise
            if option == Option.EXPORT_NAME:
                raise NotServedError("it wants an export in plain")
            if option != Option.STARTTLS:
                is_refused = True
                self._refuse(option, Reply.ERR_TLS_REQD, "TLS comes first")
            elif data:
                self._refuse(option, Reply.ERR_INVALID, "it has data, and should have none")
            else:
                self._reply(option, Reply.ACK)
                self._wire.secure(security.begin_server("the client"))
                return
        raise NotServedError(f"it has asked for more than {_MOST_OPTIONS} things in plain")

    def _greet(self) -> None:
        ours = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        self._wire.send(GREETING.pack(SERVER_MAGIC, OPTION_MAGIC, ours))
        (flags,) = CLIENT_FLAGS.unpack(self._wire.receive(CLIENT_FLAGS.size))
        if flags & ~int(ours):
            raise NotServedError(f"its flags {flags:#x} are unknown")
        if self._security is not None and not flags & HandshakeFlag.FIXED_NEWSTYLE:
            raise NotServedError("it cannot negotiate, and so cannot go over to TLS")
        self._is_brief = bool(flags & HandshakeFlag.NO_ZEROES)

    def _receive_option(self) -> tuple[int, bytes]:
        magic, option, length = OPTION.unpack(self._wire.receive(OPTION.size))
        if magic != OPTION_MAGIC:
            raise NotServedError(f"it said {magic:#x}, which begins no option")
        if length > _LONGEST_OPTION_BYTES:
            raise NotServedError(f"an option of it has {length} bytes")
        data = self._wire.receive(length)
        if option == Option.ABORT:
            self._reply(option, Reply.ACK)
            raise LeftError("it has ended the negotiation")
        return option, data

    def _answer(self, option: int, data: bytes) -> Agreement | None:
        match option:
            case Option.LIST:
                _expect_nothing(data)
                for name, export in self._exports.items():
                    said = _string(name.encode()) + export.description.encode()
                    self._reply(option, Reply.SERVER, said)
                self._reply(option, Reply.ACK)
            case Option.STRUCTURED_REPLY:
                _expect_nothing(data)
                self._is_structured = True
                self._reply(option, Reply.ACK)
            case Option.INFO | Option.GO:
                return self._inform(option, data)
            case Option.STARTTLS if self._security is not None:
                raise _InvalidOptionError("this is TLS already")
            case Option.STARTTLS:
                self._refuse(option, Reply.ERR_POLICY, "this server has no certificates")
            case Option.LIST_META_CONTEXT | Option.SET_META_CONTEXT:
                self._tell_contexts(option, data)
            case _:
                self._refuse(option, Reply.ERR_UNSUP, "this server does not know that option")
        return None

    def _inform(self, option: int, data: bytes) -> Agreement | None:
        reader = _Reader(data)
        name = reader.string()
        asked = reader.kinds()
        reader.end()
        export = self._find(name)
        if export is None:
            self._refuse(option, Reply.ERR_UNKNOWN, f"there is no export {name!r}")
            return None
        agreement = self._agreement(name, export)
        flags = self._flags(export)
        self._reply(option, Reply.INFO, INFO_EXPORT.pack(Info.EXPORT, agreement.size_bytes, flags))
        sizes = (SMALLEST_BLOCK, PREFERRED_BLOCK, LONGEST_PAYLOAD_BYTES)
        self._reply(option, Reply.INFO, INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, *sizes))
        if Info.DESCRIPTION in asked and export.description:
            said = INFO_KIND.pack(Info.DESCRIPTION) + export.description.encode()
            self._reply(option, Reply.INFO, said)
        self._reply(option, Reply.ACK)
        return agreement if option == Option.GO else None

    def _tell_contexts(self, option: int, data: bytes) -> None:
        reader = _Reader(data)
        name = reader.string()
        queries = [reader.string() for _ in range(reader.count())]  # ends with the data
        reader.end()
        is_choice = option == Option.SET_META_CONTEXT
        if is_choice:
            self._context = None
            if not self._is_structured:
                raise _InvalidOptionError("structured replies come first")
        if self._find(name) is None:
            self._refuse(option, Reply.ERR_UNKNOWN, f"there is no export {name!r}")
            return
        is_asked_for = ALLOCATION in queries
        if not is_choice:
            is_asked_for = is_asked_for or not queries or "base:" in queries
        if is_asked_for:
            number = _CONTEXT if is_choice else 0
            self._reply(option, Reply.META_CONTEXT, COUNT.pack(number) + ALLOCATION.encode())
        if is_asked_for and is_choice:
            self._context = (name, _CONTEXT)
        self._reply(option, Reply.ACK)

    def _choose_by_name(self, data: bytes) -> Agreement:
        name = data.decode(errors="replace")
        export = self._find(name)
        if export is None:
            raise NotServedError(f"it wants an export {name!r}, which there is not")
        agreement = self._agreement(name, export)
        answer = EXPORT_ANSWER.pack(agreement.size_bytes, self._flags(export))
        self._wire.send(answer, b"" if self._is_brief else bytes(ZEROES_BYTES))
        return agreement

    def _agreement(self, name: str, export: Export) -> Agreement:
        is_for_it = self._context is not None and self._context[0] == name
        context = _CONTEXT if is_for_it else None
        return Agreement(export, export.device.size_bytes, self._is_structured, context)

    def _flags(self, export: Export) -> Transmission:
        flags = (
            Transmission.HAS_FLAGS
            | Transmission.SEND_FLUSH
            | Transmission.SEND_FUA
            | Transmission.CAN_MULTI_CONN
        )
        if self._is_structured:
            flags |= Transmission.SEND_DF
        if export.is_writable:
            return flags | Transmission.SEND_TRIM | Transmission.SEND_WRITE_ZEROES
        return flags | Transmission.READ_ONLY

    def _find(self, name: str) -> Export | None:
        if not name and len(self._exports) == 1:
            return next(iter(self._exports.values()))
        return self._exports.get(name)

    def _refuse(self, option: int, kind: Reply, why: str) -> None:
        self._reply(option, kind, why.encode()[:LONGEST_STRING_BYTES])

    def _reply(self, option: int, kind: Reply, data: bytes = b"") -> None:
        self._wire.send(OPTION_REPLY.pack(REPLY_MAGIC, option, kind, len(data)), data)


class _Reader:
    """Reads the data of an option; what is not there is an :class:`_InvalidOptionError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def count(self) -> int:
        number: int = COUNT.unpack(self._take(COUNT.size))[0]
        return number

    def string(self) -> str:
        length = self.count()
        if length > LONGEST_STRING_BYTES:
            raise _InvalidOptionError("a string is too long")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise _InvalidOptionError("a string is no UTF-8") from None

    def kinds(self) -> set[int]:
        """The information that is asked for."""
        (count,) = INFO_KIND.unpack(self._take(INFO_KIND.size))
        return {kind for (kind,) in INFO_KIND.iter_unpack(self._take(count * INFO_KIND.size))}

    def end(self) -> None:
        """Refuse whatever is left."""
        if self._data:
            raise _InvalidOptionError("it goes on where it should end")

    def _take(self, length: int) -> bytes:
        taken, self._data = self._data[:length], self._data[length:]
        if len(taken) < length:
            raise _InvalidOptionError("it ends too early")
        return taken


def _expect_nothing(data: bytes) -> None:
    if data:
        raise _InvalidOptionError("it has data, and should have none")


def _string(text: bytes) -> bytes:
    return COUNT.pack(len(text)) + text
