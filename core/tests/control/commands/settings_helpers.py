"""Settings of a side, as its commands tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bench import Json, Side


DEFAULTS = {
    "announce-initial": 50,
    "announce-max": 550,
    "announce-rounds": 5,
    "announce-step": 100,
    "throttle-trigger-threshold": 50,
    "cpu-throttle-initial": 20,
    "cpu-throttle-increment": 10,
    "cpu-throttle-tailslow": False,
    "max-bandwidth": 128 << 20,
    "avail-switchover-bandwidth": 0,
    "downtime-limit": 300,
    "multifd-channels": 2,
    "multifd-compression": "none",
    "multifd-zlib-level": 1,
    "multifd-zstd-level": 1,
    "tls-authz": "",
    "tls-creds": "",
    "tls-hostname": "",
    "xbzrle-cache-size": 64 << 20,
    "max-cpu-throttle": 99,
}
"""QEMU 10.0's."""

UNSET = {"block-bitmap-mapping", "block-incremental"}
"""Parameters that are not shown at first."""


def entry(capability: str, state: bool = True) -> Json:
    return {"capability": capability, "state": state}


async def switched_on(side: Side) -> list[str]:
    """The capabilities that are on."""
    capabilities = await side.execute("query-migrate-capabilities")
    return [one["capability"] for one in capabilities if one["state"]]


async def parameter(side: Side, name: str) -> object:
    parameters: Json = await side.execute("query-migrate-parameters")
    return parameters[name]


def members_of(schema: dict[str, Json], command: str) -> dict[str, Json]:
    """The arguments of a command, by name."""
    return {one["name"]: one for one in schema[schema[command]["arg-type"]]["members"]}
