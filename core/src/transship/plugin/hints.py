"""Which distribution would help, as data for error messages; never consulted to load anything.

A plugin by somebody else needs no entry here: once installed it is found by its entry point. The
distributions named are this project's own, those included that are planned and not yet published.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from transship.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TRANSPORTS: Final[Mapping[str, str]] = {
    "exec": "transship-exec",
    "fd": "transship-fd",
    "file": "transship-file",
    "rdma": "transship-rdma",
    "tcp": "transship-tcp",
    "unix": "transship-unix",
}
"""URI scheme to distribution."""

COMPRESSIONS: Final[Mapping[str, str]] = {
    "zlib": "transship-zlib",
    "zstd": "transship-zstd",
}
"""Compression method to distribution."""

BLOCK_DEVICES: Final[Mapping[str, str]] = {
    "nbd": "transship-nbd",
    "nbd+unix": "transship-nbd",
    "nbds": "transship-nbd",
    "nbds+unix": "transship-nbd",
}
"""URI scheme of a disk to distribution."""

SECTIONS: Final[Mapping[str, str]] = {
    "block": "transship-block",
    "devstate": "transship-devstate",
    "dirty-bitmap": "transship-block",
    "ram": "transship-ram",
}
"""Name of a section plugin to distribution."""


def missing_transport(scheme: str, installed: Iterable[str]) -> PluginError:
    """The error for a scheme that no installed plugin claims.

    Args:
        scheme: What was asked for.
        installed: The schemes that there are.
    """
    schemes = sorted(installed)
    if scheme in TRANSPORTS:
        distribution = TRANSPORTS[scheme]
        return PluginError(
            f"no transport for '{scheme}:': install {distribution}", distribution=distribution
        )
    meant = scheme.lower()
    if meant in schemes or meant in TRANSPORTS:
        return PluginError(f"no transport for '{scheme}:'", expected=f"'{meant}:'")
    alike = get_close_matches(meant, {*schemes, *TRANSPORTS}, n=1)
    return PluginError(
        f"no transport for '{scheme}:'",
        expected=" or ".join(f"'{name}:'" for name in schemes) or "an installed transport",
        hint=f"{alike[0]}, perhaps?" if alike else "transship plugins lists what is installed",
    )


def missing_compression(name: str, installed: Iterable[str]) -> PluginError:
    """The error for a compression method that no installed plugin claims.

    Args:
        name: What was asked for.
        installed: The methods that there are.
    """
    return _unclaimed(
        f"no compression method {name!r}",
        COMPRESSIONS.get(name),
        [repr(other) for other in sorted(installed)] or ["an installed method"],
    )


def missing_block_device(scheme: str, installed: Iterable[str]) -> PluginError:
    """The error for a disk's scheme that no installed plugin claims.

    Args:
        scheme: What was asked for.
        installed: The schemes that there are.
    """
    return _unclaimed(
        f"no disks at '{scheme}:'",
        BLOCK_DEVICES.get(scheme),
        [f"'{other}:'" for other in sorted(installed)] or ["an installed kind"],
    )


def _unclaimed(what: str, distribution: str | None, others: Iterable[str]) -> PluginError:
    """The error for what no plugin claims: it names whom to install, or else what there is."""
    if distribution is not None:
        return PluginError(f"{what}: install {distribution}", distribution=distribution)
    return PluginError(
        what, expected=" or ".join(others), hint="transship plugins lists what is installed"
    )


def missing_section(name: str) -> PluginError:
    """The error for a part of a guest that no installed plugin carries."""
    distribution = SECTIONS.get(name)
    remedy = f": install {distribution}" if distribution else ""
    return PluginError(f"no plugin carries {name!r}{remedy}", distribution=distribution)
