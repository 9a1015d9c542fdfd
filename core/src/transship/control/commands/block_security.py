"""What secures the connections of disks: the objects that ``tls-creds`` and the like name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.control.errors import generic
from transship.tls import Endpoint, named_security

if TYPE_CHECKING:
    from transship.abc.security import ConnectionSecurity
    from transship.control.registry import Context


def client_security(
    context: Context, creds: str | None, hostname: str | None
) -> ConnectionSecurity | None:
    """What secures the connection to a server; None for nothing.

    Raises:
        CommandError: A name is given, and nothing that checks it.
        BlockedError: There is no such object, or it cannot be used.
    """
    if creds is None:
        _refuse_alone("tls-hostname", hostname)
        return None
    objects = context.host.objects
    return named_security(creds, Endpoint.CLIENT, objects, hostname=hostname or "")


def server_security(
    context: Context, creds: str | None, authz: str | None
) -> ConnectionSecurity | None:
    """What secures the connections of clients; None for nothing.

    Raises:
        CommandError: Rules are given, and nothing that says who somebody is.
        BlockedError: There is no such object, or it cannot be used.
    """
    if creds is None:
        _refuse_alone("tls-authz", authz)
        return None
    return named_security(creds, Endpoint.SERVER, context.host.objects, authz=authz or "")


def _refuse_alone(name: str, value: str | None) -> None:
    if value is not None:
        raise generic(f"'{name}' has no effect without 'tls-creds'")
