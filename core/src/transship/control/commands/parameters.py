"""Parameters: what an operator may tune, in the operator's units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeAlias

from transship.abc.settings import NO_COMPRESSION, QEMU_10_0
from transship.control.commands.bitmap_mapping import (
    BitmapMigrationNodeAlias,
    node_aliases,
    shown_mapping,
)
from transship.control.errors import generic
from transship.control.qapi.declaring import Object, Size, StrOrNull, UInt8, UInt64
from transship.control.qapi.scalars import Names
from transship.control.registry import CommandTable
from transship.plugin.discovery import compression_names

if TYPE_CHECKING:
    from transship.abc.settings import NodeAlias, Parameters
    from transship.control.registry import Context

TABLE = CommandTable()

Value: TypeAlias = int | bool | str
"""A parameter's value, in the operator's unit."""

ANNOUNCEMENTS: Final = 1000
"""Most that an operator may ask for at once."""

_UNLIMITED_MS: Final = 100_000
_TOP: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, between the operator and :class:`~transship.abc.settings.Parameters`.

    Args:
        attribute: Its name there.
        unit: Of the operator's number: ``ms`` for a time, ``bytes``, ``bytes/s``, ``%``, ``count``
            or ``level``; nothing for a yes or no.
        least: The smallest number.
        most: The largest.
        meaning: What it is, for the reference.
    """

    attribute: str
    unit: Literal["ms", "bytes", "bytes/s", "%", "count", "level", ""]
    least: int
    most: int
    meaning: str

    def read(self, parameters: Parameters) -> int | bool:
        """The present value, in the operator's unit."""
        value: float = getattr(parameters, self.attribute)
        if self.unit == "ms":
            return round(value * 1000)
        return bool(value) if self.unit == "" else int(value)

    def value(self, name: str, number: Value) -> float | int | bool:
        """The operator's number in the unit of the engine.

        Args:
            name: What the operator calls it.
            number: In the operator's unit.

        Raises:
            CommandError: It is out of range, or of another kind.
        """
        is_switch = self.unit == ""
        if isinstance(number, bool) is not is_switch or isinstance(number, str):
            raise generic(f"parameter {name!r} takes {'on or off' if is_switch else 'a number'}")
        if not self.least <= number <= self.most:
            unit = "" if self.unit in ("count", "level") else f" {self.unit}"
            raise generic(f"parameter {name!r} takes {self.least} to {self.most}{unit}")
        return number / 1000 if self.unit == "ms" else number


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that is the name of something.

    Args:
        attribute: Its name in :class:`~transship.abc.settings.Parameters`.
        meaning: What it is, for the reference.
    """

    attribute: str
    meaning: str
    unit: ClassVar[Literal["name"]] = "name"

    def read(self, parameters: Parameters) -> str:
        """The present name."""
        name: str = getattr(parameters, self.attribute)
        return name

    def value(self, name: str, chosen: Value) -> str:
        """The name itself.

        Args:
            name: What the operator calls the parameter.
            chosen: What is chosen; whether it exists is seen when it is looked for.

        Raises:
            CommandError: It is a number.
        """
        if not isinstance(chosen, str):
            raise generic(f"parameter {name!r} takes a name")
        return chosen


def compressions() -> list[str]:
    """What ``multifd-compression`` may be."""
    return [NO_COMPRESSION, *compression_names()]


PARAMETERS: Final[Mapping[str, Parameter | Choice]] = {
    "announce-initial": Parameter(
        "announce_initial_s",
        "ms",
        0,
        _UNLIMITED_MS,
        "between the first announcement and the second",
    ),
    "announce-max": Parameter(
        "announce_max_s", "ms", 0, _UNLIMITED_MS, "the longest time between two announcements"
    ),
    "announce-rounds": Parameter("announce_rounds", "count", 0, ANNOUNCEMENTS, "announcements"),
    "announce-step": Parameter(
        "announce_step_s", "ms", 1, 10_000, "by how much the time between two of them grows"
    ),
    "throttle-trigger-threshold": Parameter(
        "throttle_trigger_percent",
        "%",
        1,
        100,
        "of what was sent may be dirtied meanwhile, before the guest is slowed down",
    ),
    "cpu-throttle-initial": Parameter(
        "throttle_initial_percent", "%", 1, 99, "of its time is withheld from the guest at first"
    ),
    "cpu-throttle-increment": Parameter(
        "throttle_increment_percent", "%", 1, 99, "more is withheld each time"
    ),
    "cpu-throttle-tailslow": Parameter(
        "throttle_tailslow", "", 0, 1, "withhold no more than is needed, near the end"
    ),
    "max-bandwidth": Parameter(
        "max_bandwidth_bytes_per_s", "bytes/s", 0, _TOP, "cap while the guest runs; 0 is none"
    ),
    "avail-switchover-bandwidth": Parameter(
        "switchover_bandwidth_bytes_per_s",
        "bytes/s",
        0,
        _TOP,
        "what the channel is taken to carry at switchover; 0 is the lowest of the last five slices",
    ),
    "downtime-limit": Parameter(
        "downtime_limit_s", "ms", 0, 2_000_000, "how long the guest may stand still"
    ),
    "block-incremental": Parameter(
        "block_incremental",
        "",
        0,
        1,
        "copy of disks only what they do not have from a base, with the capability block",
    ),
    "multifd-channels": Parameter(
        "multifd_channels", "count", 1, 255, "channels for memory, with the capability multifd"
    ),
    "multifd-compression": Choice(
        "multifd_compression", "how memory is compressed on them: none, or an installed method"
    ),
    "multifd-zlib-level": Parameter(
        "multifd_zlib_level", "level", 0, 9, "how hard zlib tries; 0 compresses nothing"
    ),
    "multifd-zstd-level": Parameter(
        "multifd_zstd_level", "level", 0, 20, "how hard zstd tries; 0 is its own default"
    ),
    "tls-authz": Choice(
        "tls_authz", "whom a destination lets in: an object, a file of rules, or empty for all"
    ),
    "tls-creds": Choice(
        "tls_creds", "what secures the channels: an object, a folder, or empty for nothing"
    ),
    "tls-hostname": Choice(
        "tls_hostname", "the name in the destination's certificate; empty for the address's host"
    ),
    "xbzrle-cache-size": Parameter(
        "xbzrle_cache_bytes", "bytes", 0, _TOP, "cache of sent pages; a power of two"
    ),
    "max-cpu-throttle": Parameter(
        "throttle_max_percent", "%", 1, 99, "the most that is withheld from the guest"
    ),
}
"""Those that Transship has, by their names, in QEMU's units and ranges."""


CompressionMethod: TypeAlias = Annotated[str, Names("MultiFDCompression", compressions)]


class MigrationParameters(Object):
    """Parameters; each may be left out of a change."""

    announce_initial: Size | None = None
    announce_max: Size | None = None
    announce_rounds: Size | None = None
    announce_step: Size | None = None
    throttle_trigger_threshold: UInt8 | None = None
    cpu_throttle_initial: UInt8 | None = None
    cpu_throttle_increment: UInt8 | None = None
    cpu_throttle_tailslow: bool | None = None
    max_bandwidth: Size | None = None
    avail_switchover_bandwidth: Size | None = None
    downtime_limit: UInt64 | None = None
    block_incremental: bool | None = None
    multifd_channels: UInt8 | None = None
    multifd_compression: CompressionMethod | None = None
    multifd_zlib_level: UInt8 | None = None
    multifd_zstd_level: UInt8 | None = None
    tls_authz: StrOrNull | None = None
    tls_creds: StrOrNull | None = None
    tls_hostname: StrOrNull | None = None
    xbzrle_cache_size: Size | None = None
    max_cpu_throttle: UInt8 | None = None
    block_bitmap_mapping: list[BitmapMigrationNodeAlias] | None = None

    lacking: ClassVar[Mapping[str, str]] = {
        "direct-io": "it belongs to mapped-ram",
        "max-postcopy-bandwidth": "there is no postcopy yet",
        "mode": "a migration is always a normal one",
        "multifd-qatzip-level": "no compression method is qatzip",
        "vcpu-dirty-limit": "auto-converge is what slows a guest down",
        "x-checkpoint-delay": "there is no lock-step replication",
        "x-vcpu-dirty-limit-period": "auto-converge is what slows a guest down",
        "zero-page-detection": "zero pages are always looked for",
    }


class PresentParameters(MigrationParameters):
    """The same as they are: nothing is ``null``."""

    tls_authz: str | None = None
    tls_creds: str | None = None
    tls_hostname: str | None = None


@TABLE.command("migrate-set-parameters")
async def set_parameters(context: Context, arguments: MigrationParameters) -> None:
    """Change parameters, all that are given or none; holds for the migration under way as well."""
    given = {name: getattr(arguments, name.replace("-", "_")) for name in PARAMETERS}
    changes = {name: value for name, value in given.items() if value is not None}
    mapping = arguments.block_bitmap_mapping
    change_parameters(context, changes, None if mapping is None else node_aliases(mapping))


@TABLE.command("query-migrate-parameters")
async def query_parameters(context: Context) -> PresentParameters:
    """All parameters that Transship has; one that QEMU 10 lacks is there only if it is on."""
    present = context.host.settings.parameters
    values: dict[str, Any] = {
        name.replace("-", "_"): parameter.read(present) for name, parameter in PARAMETERS.items()
    }
    if not present.block_incremental:
        values["block_incremental"] = None
    if present.block_bitmap_mapping is not None:
        values["block_bitmap_mapping"] = shown_mapping(present.block_bitmap_mapping)
    return PresentParameters(**values)


def change_parameters(
    context: Context,
    changes: Mapping[str, Value],
    mapping: tuple[NodeAlias, ...] | None = None,
) -> None:
    """Change parameters, in the operator's units, all of them or none.

    Args:
        context: Whose.
        changes: Those of :data:`PARAMETERS`.
        mapping: ``block-bitmap-mapping``, if it is to be changed.

    Raises:
        CommandError: A value is out of range, or does not go with the others.
        PluginError: No plugin provides the method of compression.
    """
    host = context.host
    values = translate(changes, host.settings.parameters)
    page_size = host.guest.page_size
    size: int | None = values.get("xbzrle_cache_bytes")
    if size is not None and (size < page_size or size & (size - 1)):
        raise generic(
            f"parameter 'xbzrle-cache-size' takes a power of two of at least {page_size} bytes"
        )
    if mapping is not None:
        values["block_bitmap_mapping"] = mapping
    host.set_parameters(values)


def translate(changes: Mapping[str, Value], present: Parameters) -> dict[str, Any]:
    """Changes in the engine's words and units.

    Args:
        changes: In the operator's; all are in :data:`PARAMETERS`.
        present: What is to be changed.

    Raises:
        CommandError: A value is out of range, or does not go with the others.
    """
    values: dict[str, Any] = {
        PARAMETERS[name].attribute: PARAMETERS[name].value(name, value)
        for name, value in changes.items()
    }
    first = values.get("throttle_initial_percent", present.throttle_initial_percent)
    if values.get("throttle_max_percent", present.throttle_max_percent) < first:
        raise generic("parameter 'max-cpu-throttle' takes no less than 'cpu-throttle-initial'")
    return values


def default_of(name: str) -> Value:
    """What a parameter is at first, in the operator's unit."""
    return PARAMETERS[name].read(QEMU_10_0)
