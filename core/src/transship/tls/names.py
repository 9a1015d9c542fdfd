"""Distinguished names as QEMU's authorisation lists have them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SHORT: Final[Mapping[str, str]] = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "emailAddress": "EMAIL",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""Of the attributes that certificates of hosts have; others keep their long name."""

_SHOWN: Final = 400

_SPECIAL: Final = re.compile(r'[,+"\\<>;]|^[ #]| $')


def distinguished_name(subject: Iterable[Iterable[tuple[str, str]]]) -> str:
    """A subject as GnuTLS writes it for QEMU: ``O=Example,CN=host``, in the certificate's order.

    Seen with QEMU 7.2 and 10.0. Commas and the like are escaped as in RFC 4514.

    Args:
        subject: As :meth:`ssl.SSLSocket.getpeercert` has it.
    """
    parts = ["+".join(f"{_SHORT.get(n, n)}={_escaped(v)}" for n, v in part) for part in subject]
    return ",".join(parts)


def _escaped(value: str) -> str:
    return _SPECIAL.sub(lambda found: "\\" + found[0], value)


def shown(name: str) -> str:
    """A name that somebody else has chosen, for people: no control characters, and not too long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
