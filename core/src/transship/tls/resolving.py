"""What parameters name: credentials and rules, as objects or as files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from transship.errors import BlockedError
from transship.tls.authorization import AccessList, Format, Policy, Rule
from transship.tls.credentials import Endpoint, X509Credentials, X509Security

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.abc.settings import Parameters

_FILE_BYTES: Final = 1024 * 1024
"""A file of rules that is larger is none."""


@dataclass(frozen=True, slots=True)
class RulesFile:
    """Rules of access in a file, as QEMU's ``authz-list-file`` has them; read when needed."""

    path: Path

    def read(self) -> AccessList:
        """The rules.

        Raises:
            BlockedError: It cannot be read, or has none.
        """
        try:
            with self.path.open("rb") as file:
                text = file.read(_FILE_BYTES + 1)
            if len(text) > _FILE_BYTES:
                raise ValueError(f"more than {_FILE_BYTES} bytes")
            return access_list(json.loads(text))
        except OSError as error:
            raise BlockedError(
                f"{str(self.path)!r}: {error.strerror}", hint="tls-authz names a file of rules"
            ) from error
        except (ValueError, RecursionError) as error:
            raise BlockedError(f"{self.path} has no rules of access: {error}") from error


def security_of(
    parameters: Parameters, endpoint: Endpoint, objects: Mapping[str, object]
) -> X509Security | None:
    """What secures the channels of one side of a migration; None for nothing.

    Args:
        parameters: Name it. What has a slash is a path, anything else an object.
        endpoint: Which side.
        objects: By name: :class:`X509Credentials`, :class:`AccessList`, :class:`RulesFile`.

    Raises:
        BlockedError: There is no such thing, or it cannot be used.
    """
    if not parameters.tls_creds:
        return None
    is_server = endpoint is Endpoint.SERVER
    return named_security(
        parameters.tls_creds,
        endpoint,
        objects,
        hostname=parameters.tls_hostname,
        authz=parameters.tls_authz if is_server else "",
    )


def named_security(
    creds: str,
    endpoint: Endpoint,
    objects: Mapping[str, object],
    *,
    hostname: str = "",
    authz: str = "",
) -> X509Security:
    """What secures the connections of one side.

    Args:
        creds: The name of the credentials. What has a slash is a path, anything else an object.
        endpoint: Which side.
        objects: By name: :class:`X509Credentials`, :class:`AccessList`, :class:`RulesFile`.
        hostname: What the server's certificate must be for; empty for the host of its address.
        authz: The name of the rules by which a server lets clients in; empty for none.

    Raises:
        BlockedError: There is no such thing, or it cannot be used.
    """
    credentials = _credentials(creds, endpoint, objects)
    return X509Security(credentials, hostname=hostname or None, access=_access(authz, objects))


def _credentials(name: str, endpoint: Endpoint, objects: Mapping[str, object]) -> X509Credentials:
    if "/" in name:
        return X509Credentials(Path(name), endpoint)
    found = objects.get(name)
    if not isinstance(found, X509Credentials):
        raise _no_such("tls-creds", name, found)
    found.check_of(endpoint, name)
    return found


def access_list(data: Any) -> AccessList:
    """Rules as plain data: ``{"policy": "deny", "rules": [{"match": ..., "policy": "allow"}]}``.

    Raises:
        ValueError: They are none.
    """
    if not isinstance(data, dict) or data.keys() - {"policy", "rules"}:
        raise ValueError("expected an object with 'policy' and 'rules'")
    rules = data.get("rules", [])
    if not isinstance(rules, list):
        raise ValueError("'rules' is no list")
    return AccessList(tuple(map(_rule, rules)), Policy(data.get("policy", "deny")))


def _rule(data: Any) -> Rule:
    if not isinstance(data, dict) or data.keys() - {"match", "policy", "format"}:
        raise ValueError(f"{data!r} is no rule: expected 'match', 'policy' and 'format'")
    if not isinstance(data.get("match"), str) or "policy" not in data:
        raise ValueError(f"{data!r} lacks 'match' or 'policy'")
    return Rule(data["match"], Policy(data["policy"]), Format(data.get("format", "exact")))


def _access(name: str, objects: Mapping[str, object]) -> AccessList | None:
    if not name:
        return None
    if "/" in name:
        return RulesFile(Path(name)).read()
    match objects.get(name):
        case RulesFile() as file:
            return file.read()
        case AccessList() as rules:
            return rules
        case other:
            raise _no_such("tls-authz", name, other)


def _no_such(parameter: str, name: str, other: object) -> BlockedError:
    return BlockedError(
        f"parameter {parameter!r} names no such object",
        expected="one made with object-add, or a path with a slash in it",
        found=repr(name) if other is None else f"{name!r}, which is of another type",
    )
