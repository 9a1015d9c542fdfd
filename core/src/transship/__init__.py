"""Transship moves running machines: a live-migration framework that speaks QEMU's stream.

The names below are imported when they are used, so that a command line or a plugin pays only for
what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from transship._version import __version__

if TYPE_CHECKING:
    from transship.abc import Blocker, Device, DirtyLog, Guest, Section
    from transship.abc.settings import Capability, Parameters
    from transship.assembly import load_plugins, migrate, receive
    from transship.control.service import serve_host
    from transship.engine.blockers import Blockers
    from transship.engine.incoming import IncomingMigration
    from transship.engine.limiter import BandwidthLimiter
    from transship.engine.migration import Migration
    from transship.engine.notifiers import Notifiers
    from transship.engine.status import MigrationStatus
    from transship.errors import MigrationError
    from transship.guests.dirtylog import MarkedDirtyLog
    from transship.hosting.host import Host, open_host
    from transship.memory.ramblock import RAMBlock
    from transship.plugin.markers import hookimpl

_HOMES: Final = {
    "BandwidthLimiter": "transship.engine.limiter",
    "Blocker": "transship.abc",
    "Blockers": "transship.engine.blockers",
    "Capability": "transship.abc",
    "Device": "transship.abc",
    "DirtyLog": "transship.abc",
    "Guest": "transship.abc",
    "Host": "transship.hosting.host",
    "IncomingMigration": "transship.engine.incoming",
    "MarkedDirtyLog": "transship.guests.dirtylog",
    "Migration": "transship.engine.migration",
    "MigrationError": "transship.errors",
    "MigrationStatus": "transship.engine.status",
    "Notifiers": "transship.engine.notifiers",
    "Parameters": "transship.abc.settings",
    "RAMBlock": "transship.memory.ramblock",
    "Section": "transship.abc",
    "hookimpl": "transship.plugin.markers",
    "load_plugins": "transship.assembly",
    "migrate": "transship.assembly",
    "open_host": "transship.hosting.host",
    "receive": "transship.assembly",
    "serve_host": "transship.control.service",
}

__all__ = [
    "BandwidthLimiter",
    "Blocker",
    "Blockers",
    "Capability",
    "Device",
    "DirtyLog",
    "Guest",
    "Host",
    "IncomingMigration",
    "MarkedDirtyLog",
    "Migration",
    "MigrationError",
    "MigrationStatus",
    "Notifiers",
    "Parameters",
    "RAMBlock",
    "Section",
    "__version__",
    "hookimpl",
    "load_plugins",
    "migrate",
    "open_host",
    "receive",
    "serve_host",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'transship' has no attribute {name!r}") from None
    return getattr(import_module(home), name)
