"""Every message gets its reply: what QMP demands of them, whatever the command."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from transship.control.registry import CommandTable
from transship.control.server import protocol
from transship.control.server.dispatcher import Dispatcher
from transship.control.server.jsonstream import Malformed, Message
from transship.control.session import QmpCapability, Session

from .control_helpers import NO_HOST, Workshop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Ask = Callable[..., Awaitable[Any]]


def asking(*, negotiated: bool, oob: bool = False) -> Ask:
    """A function that gives a message to a dispatcher and returns the reply."""
    table = CommandTable.joined(protocol.TABLE, Workshop().table)
    session = Session("a test")
    dispatcher = Dispatcher(NO_HOST, session, table)

    async def ask(value: object = None, **members: object) -> Any:
        message = {key.replace("_", "-"): one for key, one in members.items()} or value
        reply = await dispatcher.answer(Message(message), 1)
        assert reply.isascii()
        assert reply.endswith(b"\r\n")
        assert reply.count(b"\n") == 1
        return json.loads(reply)

    session.is_negotiated = negotiated
    if oob:
        session.capabilities = frozenset(QmpCapability)
    return ask


@pytest.fixture
def ask() -> Ask:
    return asking(negotiated=True)


def error_class(reply: Any) -> str:
    assert reply.keys() <= {"error", "id"}, reply
    assert reply["error"].keys() == {"class", "desc"}
    assert reply["error"]["desc"]
    return str(reply["error"]["class"])


# Negotiation


async def test_other_commands_do_not_exist_before_negotiation() -> None:
    ask = asking(negotiated=False)
    for command in ("query-version", "say", "no-such"):
        assert error_class(await ask(execute=command)) == "CommandNotFound"


async def test_negotiation_happens_once() -> None:
    ask = asking(negotiated=False)
    assert await ask(execute="qmp_capabilities") == {"return": {}}
    assert error_class(await ask(execute="qmp_capabilities")) == "CommandNotFound"
    assert "return" in await ask(execute="query-version")


@pytest.mark.parametrize(
    "arguments", [{"enable": ["no-such"]}, {"enable": "oob"}, {"enable": [1]}, {"other": 1}]
)
async def test_failed_negotiation_may_be_repeated(arguments: object) -> None:
    ask = asking(negotiated=False)
    reply = await ask(execute="qmp_capabilities", arguments=arguments)
    assert error_class(reply) == "GenericError"
    assert error_class(await ask(execute="query-version")) == "CommandNotFound"
    assert await ask(execute="qmp_capabilities", arguments={"enable": ["oob"]}) == {"return": {}}
    assert "return" in await ask(exec_oob="say-now", arguments={"text": "a"})


# The shape of a message


@pytest.mark.parametrize("value", [[], "execute", 42, None, True, [{"execute": "say"}]])
async def test_message_that_is_no_object_is_refused(ask: Ask, value: object) -> None:
    assert error_class(await ask(value)) == "GenericError"


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"arguments": {}},
        {"execute": 7},
        {"execute": None},
        {"execute": ["say"]},
        {"execute": "say", "arguments": []},
        {"execute": "say", "arguments": None},
        {"execute": "say", "arguments": "text"},
        {"execute": "say", "other": 1},
        {"execute": "say", "return": {}},
        {"execute": "query-version", "exec-oob": "query-version"},
        {"exec-oob": "say-now"},
        {"exec-oob": "no-such"},
    ],
)
async def test_message_of_wrong_shape_is_refused_with_its_id(ask: Ask, message: Any) -> None:
    assert error_class(await ask(message)) == "GenericError"
    reply = await ask(message | {"id": 7})
    assert error_class(reply) == "GenericError"
    assert reply["id"] == 7


async def test_unknown_command_is_not_found(ask: Ask) -> None:
    for name in ("no-such", "", "QUERY-VERSION", "query_version", "é\0" * 1000):
        reply = await ask(execute=name)
        assert error_class(reply) == "CommandNotFound"
        assert len(reply["error"]["desc"]) < 1000


async def test_malformed_message_is_answered_without_an_id() -> None:
    session = Session("a test")
    dispatcher = Dispatcher(NO_HOST, session, CommandTable())
    reply = json.loads(await dispatcher.answer(Malformed("it is no JSON"), 1))
    assert reply == {"error": {"class": "GenericError", "desc": "it is no JSON"}}


@pytest.mark.parametrize(
    "identity",
    [
        None,
        True,
        0,
        -1,
        (1 << 64) - 1,
        1.5,
        "",
        "é\0😀\x7f\u2028",
        [],
        {},
        [1, {"a": [None, {"b": "c"}]}],
        {"execute": "say", "id": 7},
    ],
)
async def test_id_comes_back_as_it_was(ask: Ask, identity: object) -> None:
    for command in ("query-version", "no-such", "refuse", "break"):
        reply = await ask(execute=command, id=identity)
        assert reply["id"] == identity
        assert type(reply["id"]) is type(identity)
    assert "id" not in await ask(execute="query-version")


# What becomes of a command


async def test_command_that_returns_nothing_returns_an_empty_object(ask: Ask) -> None:
    assert await ask(execute="migrate") == {"return": {}}


async def test_text_is_returned_in_ascii(ask: Ask) -> None:
    assert await ask(execute="say", arguments={"text": "é😀"}) == {"return": "é😀"}


async def test_members_that_equal_their_default_are_left_out(ask: Ask) -> None:
    arguments = {"max-bandwidth": 7, "compression": "x-odd"}
    assert await ask(execute="set", arguments=arguments) == {"return": arguments}


async def test_error_of_a_migration_is_a_generic_error_with_its_whole_sentence(ask: Ask) -> None:
    reply = await ask(execute="refuse")
    assert error_class(reply) == "GenericError"
    assert reply["error"]["desc"] == "the guest has moved away (look elsewhere)"


@pytest.mark.parametrize("command", ["break", "infinite"])
async def test_unforeseen_error_is_logged_and_answered(
    ask: Ask, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert error_class(await ask(execute=command)) == "GenericError"
    (record,) = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert "return" in await ask(execute="query-version")


async def test_arguments_for_a_command_without_any_are_refused(ask: Ask) -> None:
    assert "return" in await ask(execute="query-version", arguments={})
    reply = await ask(execute="query-version", arguments={"a": 1})
    assert error_class(reply) == "GenericError"
    assert "'a'" in reply["error"]["desc"]


# Out of band


async def test_key_for_out_of_band_is_unexpected_unless_negotiated(ask: Ask) -> None:
    reply = await ask(exec_oob="say-now", arguments={"text": "a"}, id=7)
    assert error_class(reply) == "GenericError"
    assert "exec-oob" in reply["error"]["desc"]


async def test_out_of_band_needs_a_command_that_allows_it() -> None:
    ask = asking(negotiated=True, oob=True)
    assert await ask(exec_oob="say-now", arguments={"text": "a"}, id=7) == {"return": {}, "id": 7}
    for refused in ({"exec_oob": "say"}, {"exec_oob": 7}, {"exec_oob": "say-now", "execute": "a"}):
        reply = await ask(id=7, **refused)
        assert error_class(reply) == "GenericError"
        assert reply["id"] == 7
    assert error_class(await ask(exec_oob="no-such")) == "CommandNotFound"
    assert error_class(await ask(exec_oob="qmp_capabilities")) == "GenericError"


# The commands of the protocol


async def test_version_has_what_clients_look_at(ask: Ask) -> None:
    version = (await ask(execute="query-version"))["return"]
    assert version["package"].startswith("transship ")
    assert {name: type(number) for name, number in version["qemu"].items()} == {
        "major": int,
        "minor": int,
        "micro": int,
    }


async def test_all_commands_are_named(ask: Ask) -> None:
    names = [one["name"] for one in (await ask(execute="query-commands"))["return"]]
    assert {"qmp_capabilities", "query-commands", "getfd", "closefd", "say"} <= set(names)
    assert len(names) == len(set(names))


async def test_descriptor_that_never_came_is_an_error(ask: Ask) -> None:
    for command in ("getfd", "closefd"):
        reply = await ask(execute=command, arguments={"fdname": "a"})
        assert error_class(reply) == "GenericError"
