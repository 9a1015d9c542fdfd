"""Objects that parameters name: certificates, rules of access, secrets."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, TypeAlias

import msgspec

from transship.control.errors import generic
from transship.control.qapi.declaring import Object, OneOf
from transship.control.qapi.refusals import quoted
from transship.control.registry import CommandTable
from transship.errors import BlockedError
from transship.tls import (
    AccessList,
    Endpoint,
    Format,
    Policy,
    Rule,
    RulesFile,
    X509Credentials,
)

if TYPE_CHECKING:
    from transship.control.registry import Context

TABLE = CommandTable()

OBJECTS: Final = 256
"""Most that a process keeps; a migration needs two or three."""

_SECRET_BYTES: Final = 64 * 1024
"""A file that is larger holds no password."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9\-._]*")


class X509Object(Object, tag_field="qom-type", tag="tls-creds-x509"):
    """Certificates in a folder; see :class:`~transship.tls.X509Credentials`."""

    id: str
    dir: str
    endpoint: Endpoint = Endpoint.CLIENT
    verify_peer: bool = True
    sanity_check: bool = True
    passwordid: str | None = None

    lacking: ClassVar[Mapping[str, str]] = {"priority": "the library's defaults hold"}


class SimpleRule(Object, tag_field="qom-type", tag="authz-simple"):
    """Lets one name in."""

    id: str
    identity: str


class ListedRule(Object):
    """What becomes of the names that match."""

    match: str
    policy: Policy
    format: Format = Format.EXACT


class ListOfRules(Object, tag_field="qom-type", tag="authz-list"):
    """The first rule that matches decides."""

    id: str
    policy: Policy = Policy.DENY
    rules: list[ListedRule] = msgspec.field(default_factory=list)


class FileOfRules(Object, tag_field="qom-type", tag="authz-list-file"):
    """The same in a file, which is read for each migration."""

    id: str
    filename: str
    refresh: bool = True


class SecretObject(Object, tag_field="qom-type", tag="secret"):
    """A password, here or in a file."""

    id: str
    data: str | None = None
    file: str | None = None
    format: str = "raw"

    lacking: ClassVar[Mapping[str, str]] = {
        "keyid": "secrets are not encrypted with others",
        "iv": "secrets are not encrypted with others",
    }


ObjectOptions: TypeAlias = Annotated[
    X509Object | SimpleRule | ListOfRules | FileOfRules | SecretObject,
    OneOf("ObjectOptions", by="qom-type"),
]


@TABLE.command("object-add")
async def object_add(context: Context, arguments: ObjectOptions) -> None:
    """Make an object, and see whether what it needs is there."""
    objects = context.host.objects
    name = arguments.id
    if not _NAME.fullmatch(name):
        raise generic(f"{quoted(name)} is no id: letters, digits, '-', '.' and '_', a letter first")
    if name in objects:
        raise generic(f"there is an object {quoted(name)} already")
    if len(objects) >= OBJECTS:
        raise generic(f"there are {OBJECTS} objects already")
    try:
        objects[name] = _made(arguments, objects)
    except BlockedError as error:
        raise generic(str(error)) from error


class ObjectDel(Object):
    """Which."""

    id: str


@TABLE.command("object-del")
async def object_del(context: Context, arguments: ObjectDel) -> None:
    """Drop an object; a migration that has begun keeps it."""
    if context.host.objects.pop(arguments.id, None) is None:
        raise generic(f"there is no object {quoted(arguments.id)}")


def _made(options: ObjectOptions, objects: Mapping[str, object]) -> object:
    match options:
        case X509Object():
            password = _password(options.passwordid, objects)
            made = X509Credentials(
                Path(options.dir), options.endpoint, options.verify_peer, password
            )
            made.context()
            return made
        case SimpleRule():
            return AccessList((Rule(options.identity, Policy.ALLOW),))
        case ListOfRules():
            rules = tuple(Rule(one.match, one.policy, one.format) for one in options.rules)
            return AccessList(rules, options.policy)
        case FileOfRules():
            file = RulesFile(Path(options.filename))
            file.read()
            return file
    return _secret(options)


@dataclass(frozen=True, slots=True)
class Secret:
    """A password; not shown."""

    text: str = field(repr=False)


def _password(name: str | None, objects: Mapping[str, object]) -> str | None:
    if name is None:
        return None
    found = objects.get(name)
    if not isinstance(found, Secret):
        raise generic(f"there is no secret {quoted(name)}")
    return found.text


def _secret(options: SecretObject) -> Secret:
    if (options.data is None) is (options.file is None):
        raise generic("exactly one of 'data' and 'file' is needed")
    if options.format not in ("raw", "base64"):
        raise generic("'format' is 'raw' or 'base64'")
    try:
        text = options.data if options.file is None else _text_of(Path(options.file))
        assert text is not None
        if options.format == "base64":
            text = base64.b64decode(text, validate=True).decode()
    except (OSError, ValueError) as error:
        raise generic(f"the secret cannot be read: {error}") from error
    return Secret(text)


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        text = file.read(_SECRET_BYTES + 1)
    if len(text) > _SECRET_BYTES:
        raise ValueError(f"{path} has more than {_SECRET_BYTES} bytes")
    return text.decode()
