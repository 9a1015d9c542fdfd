"""One message in, its reply out: what QMP demands around every command. Knows no socket."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.control.errors import CommandError, generic
from transship.control.qapi.refusals import quoted
from transship.control.registry import Context
from transship.control.server.jsonstream import Malformed, Message
from transship.control.server.jsontext import serialise
from transship.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.control.registry import Command, CommandTable
    from transship.control.server.jsonstream import Found
    from transship.control.session import Session
    from transship.hosting.host import Host

_LOG: Final = logging.getLogger(__name__)

NEGOTIATE: Final = "qmp_capabilities"
"""The one command of the first phase, in which there is no other."""


class Dispatcher:
    """Answers the messages of one client.

    Args:
        host: What its commands work on.
        session: The client.
        table: All commands and events there are.
    """

    def __init__(self, host: Host, session: Session, table: CommandTable) -> None:
        self._host = host
        self._session = session
        self._table = table

    def overtakes(self, found: Found) -> bool:
        """Whether a message is to be answered before those that came earlier."""
        return (
            self._session.has_oob
            and isinstance(found, Message)
            and isinstance(found.value, dict)
            and _OOB in found.value
        )

    async def answer(self, found: Found, number: int) -> bytes:
        """Carry out what a message asks for. Returns the reply, as it goes to the client.

        Whatever is wrong becomes an error reply. An exception that nobody foresaw is logged as
        well, and does no more harm than that.

        Args:
            found: The message.
            number: Which one of the client's it is, counted from 1.

        Cancellation: as the command's own; there is no reply then.
        """
        message = found.value if isinstance(found, Message) else None
        identity = {_ID: message[_ID]} if isinstance(message, dict) and _ID in message else {}
        try:
            return serialise({"return": await self._carry_out(found, number)} | identity)
        except CommandError as error:
            refusal = error
        except MigrationError as error:
            refusal = CommandError.of(error)
        except Exception as error:
            _LOG.exception("a command of %s broke", self._session.peer)
            refusal = generic(f"the command broke: {type(error).__name__}: {error}")
        facts = {"class": refusal.error_class, "desc": refusal.desc}
        return serialise({"error": facts} | identity)

    async def _carry_out(self, found: Found, number: int) -> object:
        if isinstance(found, Malformed):
            raise generic(found.reason)
        request = self._read(found.value)
        command = self._find(request)
        if request.is_oob and not command.allows_oob:
            raise generic(f"the command {quoted(request.name)} cannot be given out of band")
        context = Context(self._host, self._session, self._table, number)
        return await command.run(context, request.arguments)

    def _read(self, message: object) -> _Request:
        """Check what every message must look like."""
        if not isinstance(message, dict):
            raise generic("a message must be a JSON object")
        known = _KEYS | {_OOB} if self._session.has_oob else _KEYS
        for key in message:
            if key not in known:
                raise generic(f"member {quoted(key)} of the message is unexpected")
        if _COMMAND in message and _OOB in message:
            raise generic(f"a message has either {_COMMAND!r} or {_OOB!r}")
        is_oob = _OOB in message
        verb = _OOB if is_oob else _COMMAND
        if verb not in message:
            raise generic(f"member {_COMMAND!r} of the message is missing")
        name, arguments = message[verb], message.get(_ARGUMENTS, {})
        if not isinstance(name, str):
            raise generic(f"member {verb!r} of the message must be a string")
        if not isinstance(arguments, dict):
            raise generic(f"member {_ARGUMENTS!r} of the message must be an object")
        return _Request(name, arguments, is_oob)

    def _find(self, request: _Request) -> Command:
        """The command of that name, if this is the time for it."""
        if not self._session.is_negotiated and request.name != NEGOTIATE:
            raise CommandError(
                "CommandNotFound", f"there are no commands before {NEGOTIATE!r} has succeeded"
            )
        command = self._table.find(request.name)
        if command is None:
            raise CommandError("CommandNotFound", f"there is no command {quoted(request.name)}")
        return command


@dataclass(frozen=True, slots=True)
class _Request:
    """A message of the right shape."""

    name: str
    arguments: Mapping[str, object]
    is_oob: bool


_COMMAND: Final = "execute"
_OOB: Final = "exec-oob"
_ARGUMENTS: Final = "arguments"
_ID: Final = "id"
_KEYS: Final = frozenset({_COMMAND, _ARGUMENTS, _ID})
