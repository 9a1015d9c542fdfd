"""Addresses as people type them: a URI, or JSON as ``-incoming`` of QEMU takes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.abc import Option, Options

_TYPE: Final = "channel-type"
_ADDRESS: Final = "addr"


class Target(NamedTuple):
    """An address, and what its transport is told beside it."""

    uri: str
    options: Options


def channel_in(text: str) -> dict[str, Any] | None:
    """The channel that JSON describes; an address alone is that of the main one.

    Args:
        text: What was typed.

    Returns:
        An element of ``channels``, as QMP has it, not checked any further; None for a URI.

    Raises:
        BlockedError: It begins as a JSON object, and is none.
    """
    if not text.lstrip().startswith("{"):
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BlockedError(
            f"{text!r} is no address: it is no JSON object", found=str(error)
        ) from None
    if _TYPE in said or _ADDRESS in said:
        return dict(said)
    return {_TYPE: "main", _ADDRESS: said}


def target(text: str, options: Options) -> Target:
    """Read an address.

    Args:
        text: What was typed.
        options: What ``--option`` says beside it.

    Raises:
        BlockedError: It is JSON, but no address; or says what an option says as well.
    """
    channel = channel_in(text)
    if channel is None:
        return Target(text, options)
    from transship.control.commands.addresses import MigrationChannel, the_place
    from transship.control.errors import CommandError
    from transship.control.qapi.declaring import type_of

    try:
        checked = type_of(MigrationChannel).check(channel, "channel")
        assert isinstance(checked, MigrationChannel)
        place = the_place(None, [checked])
    except CommandError as refusal:
        raise BlockedError(f"{text!r} is no address: {refusal.desc}") from None
    if twice := sorted(place.options.keys() & options.keys()):
        raise BlockedError(f"{', '.join(twice)}: said by the address and by --option")
    return Target(place.uri, {**place.options, **options})


def parse_options(settings: Iterable[str]) -> dict[str, Option]:
    """Read ``NAME=VALUE``, or ``NAME`` for a switch, several times.

    Raises:
        ValueError: One has no name, or is there twice.
    """
    parsed: dict[str, Option] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name:
            raise ValueError(f"{setting!r} says nothing; write NAME=VALUE")
        if name in parsed:
            raise ValueError(f"{name} is said twice")
        parsed[name] = value if equals else True
    return parsed
