"""Certificates and keys in a folder, under the names that QEMU and libvirt give them."""

from __future__ import annotations

import enum
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from transship.abc.security import ChannelSecurity, ConnectionSecurity
from transship.errors import BlockedError
from transship.tls.channel import TlsChannel, Wire, shake_hands
from transship.tls.failures import plain_reason
from transship.tls.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from transship.abc.channel import Channel
    from transship.tls.authorization import AccessList

_CA: Final = "ca-cert.pem"
_REVOKED: Final = "ca-crl.pem"


class Endpoint(enum.Enum):
    """Which side of a handshake: a migration's source is the client."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class X509Credentials:
    """A folder with ``ca-cert.pem``, ``{server,client}-cert.pem``, ``{server,client}-key.pem``.

    Args:
        folder: Where they are. ``ca-crl.pem`` is used if it is there, and has a list of what is
            revoked by each authority of a chain. A client needs a certificate of its own only if
            the server wants to see one.
        endpoint: Which of them to use.
        verify_peer: Whether the peer must have a certificate that the authority has signed.
        password: Of the key, if it is encrypted.
    """

    folder: Path
    endpoint: Endpoint
    verify_peer: bool = True
    password: str | None = field(default=None, repr=False)

    def context(self) -> ssl.SSLContext:
        """Load them.

        Raises:
            BlockedError: One is missing, cannot be read, or does not fit the others.
        """
        is_server = self.endpoint is Endpoint.SERVER
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        context.check_hostname = self.verify_peer and not is_server
        context.verify_mode = ssl.CERT_REQUIRED if self.verify_peer else ssl.CERT_NONE
        own = [self.folder / f"{self.endpoint.value}-{part}.pem" for part in ("cert", "key")]
        if is_server:
            context.num_tickets = 0  # nobody comes back to a session
        if is_server or _is_there(own[0]):
            for path in own:
                _check_readable(path)
            self._load_own(context, *own)
        if self.verify_peer:
            self._load_trusted(context, _CA)
            if _is_there(self.folder / _REVOKED):
                self._load_trusted(context, _REVOKED)
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        return context

    def check_of(self, endpoint: Endpoint, name: str = "") -> None:
        """Make sure that they are of one side.

        Args:
            endpoint: Which.
            name: What they are called; their folder, if empty.

        Raises:
            BlockedError: They are of the other.
        """
        if self.endpoint is not endpoint:
            raise BlockedError(
                f"the credentials {name or str(self.folder)!r} are of the wrong side",
                expected=f"endpoint {endpoint.value!r}",
                found=f"endpoint {self.endpoint.value!r}",
            )

    def _load_own(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        try:
            context.load_cert_chain(certificate, key, lambda: self.password or "")
        except (ssl.SSLError, ValueError) as error:
            raise BlockedError(
                f"{certificate} and {key.name} cannot be used: {plain_reason(error)}",
                expected="a certificate and its key, in PEM",
                hint="a key that is encrypted needs its password" if not self.password else None,
            ) from error

    def _load_trusted(self, context: ssl.SSLContext, name: str) -> None:
        path = self.folder / name
        _check_readable(path)
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise BlockedError(f"{path} cannot be used: {plain_reason(error)}") from error


class X509Security(ChannelSecurity, ConnectionSecurity):
    """TLS with certificates.

    Args:
        credentials: Of this side; loaded now.
        hostname: The name that the server's certificate must have; None for the host by which it
            is looked for. Of no meaning to a server.
        access: Whom a server lets in; None for everybody whom it has verified.

    Raises:
        BlockedError: The credentials cannot be used, or verify nobody whom ``access`` could name.
    """

    def __init__(
        self,
        credentials: X509Credentials,
        *,
        hostname: str | None = None,
        access: AccessList | None = None,
    ) -> None:
        if access is not None and not credentials.verify_peer:
            raise BlockedError(
                "whom tls-authz lets in cannot be known, as the credentials verify nobody",
                hint="switch verify-peer on, or leave tls-authz empty",
            )
        self._context = credentials.context()
        self._credentials = credentials
        self._hostname = hostname
        self._access = access

    @property
    def _is_client(self) -> bool:
        return self._credentials.endpoint is Endpoint.CLIENT

    def begin_client(self, peer: str, host: str | None = None) -> Session:
        """Prepare one; see :meth:`~transship.abc.ConnectionSecurity.begin_client`."""
        self._credentials.check_of(Endpoint.CLIENT)
        name = self._name_of(peer, host)
        return Session(self._context, peer, server_side=False, hostname=name)

    def begin_server(self, peer: str) -> Session:
        """Prepare one; see :meth:`~transship.abc.ConnectionSecurity.begin_server`."""
        self._credentials.check_of(Endpoint.SERVER)
        return Session(self._context, peer, server_side=True, access=self._access)

    async def secure(self, channel: Channel) -> Channel:
        """Shake hands; see :meth:`~transship.abc.ChannelSecurity.secure`."""
        wire = Wire(channel, source_side=self._is_client)
        if self._is_client:
            session = self.begin_client(channel.peer, channel.host)
        else:
            session = self.begin_server(channel.peer)
        await shake_hands(session, wire, channel.peer)
        return TlsChannel(channel, session, source_side=self._is_client, secure=self.secure)

    def _name_of(self, peer: str, host: str | None) -> str | None:
        name = self._hostname or _without_zone(host)
        if name is None and self._credentials.verify_peer:
            raise BlockedError(
                f"there is no host name to look for in the certificate of {peer}",
                hint="set tls-hostname to the name that is in it",
            )
        return name


def _check_readable(path: Path) -> None:
    """Say which file is missing: the library does not."""
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error


def _is_there(path: Path) -> bool:
    """Whether there is a file; one that cannot be seen is no reason to do without it.

    Raises:
        BlockedError: Nobody can say.
    """
    try:
        path.lstat()  # a link that leads nowhere is there
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error
    return True


def _unusable(path: Path, error: OSError | ValueError) -> BlockedError:
    reason = error.strerror if isinstance(error, OSError) else error
    return BlockedError(
        f"{str(path)!r}: {reason}", hint="the folder of certificates should have it"
    )


def _without_zone(host: str | None) -> str | None:
    """A host's address as certificates have it: ``fe80::1``, not ``fe80::1%eth0``."""
    return host.partition("%")[0] if host and ":" in host else host
