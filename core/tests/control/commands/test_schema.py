"""The schema says what the commands take."""

from __future__ import annotations

import pytest

from transship.control.commands.parameters import PARAMETERS, MigrationParameters
from transship.control.qapi.composites import ObjectType
from transship.control.qapi.declaring import type_of

from .bench import Json, Refused, Side
from .settings_helpers import DEFAULTS, UNSET, members_of


async def test_schema_has_the_parameters_that_there_are_and_no_others(
    schema: dict[str, Json],
) -> None:
    members = members_of(schema, "migrate-set-parameters").keys()
    assert members == DEFAULTS.keys() | UNSET
    returned = schema[schema["query-migrate-parameters"]["ret-type"]]["members"]
    assert {one["name"] for one in returned} == DEFAULTS.keys() | UNSET


def test_every_parameter_is_a_member_and_every_member_a_parameter() -> None:
    type_ = type_of(MigrationParameters)
    assert isinstance(type_, ObjectType)
    assert type_.members.keys() == PARAMETERS.keys() | UNSET


async def test_every_parameter_of_qemu_is_there_or_refused_with_a_reason(fresh: Side) -> None:
    of_qemu = {
        *("announce-initial", "announce-max", "announce-rounds", "announce-step"),
        *("throttle-trigger-threshold", "cpu-throttle-initial", "cpu-throttle-increment"),
        *("cpu-throttle-tailslow", "max-cpu-throttle", "max-bandwidth", "downtime-limit"),
        *("avail-switchover-bandwidth", "max-postcopy-bandwidth", "multifd-channels"),
        *("multifd-compression", "multifd-zlib-level", "multifd-zstd-level", "mode"),
        *("multifd-qatzip-level", "xbzrle-cache-size", "zero-page-detection", "tls-creds"),
        *("tls-hostname", "tls-authz", "block-bitmap-mapping", "direct-io", "vcpu-dirty-limit"),
        *("x-vcpu-dirty-limit-period", "x-checkpoint-delay"),
    }
    of_old_qemu = {"block-incremental"}
    known = DEFAULTS.keys() | UNSET | MigrationParameters.lacking.keys()
    assert known == of_qemu | of_old_qemu
    assert not DEFAULTS.keys() & MigrationParameters.lacking.keys()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("migrate", {"uri", "channels", "detach", "resume", "blk", "inc"}),
        ("migrate-incoming", {"uri", "channels", "exit-on-error"}),
        ("migrate-continue", {"state"}),
        ("migrate-set-capabilities", {"capabilities"}),
        ("migrate_set_speed", {"value"}),
        ("migrate_set_downtime", {"value"}),
        ("migrate-set-cache-size", {"value"}),
        ("announce-self", {"initial", "max", "rounds", "step", "interfaces", "id"}),
        ("getfd", {"fdname"}),
        ("closefd", {"fdname"}),
        ("qmp_capabilities", {"enable"}),
        ("migrate_cancel", set()),
        ("query-migrate", set()),
        ("query-status", set()),
        ("stop", set()),
        ("cont", set()),
        ("quit", set()),
    ],
)
async def test_schema_has_the_arguments_of_a_command(
    schema: dict[str, Json], command: str, arguments: set[str]
) -> None:
    assert schema[command]["meta-type"] == "command"
    assert members_of(schema, command).keys() == arguments


@pytest.mark.parametrize(
    "command",
    [
        *("migrate_set_speed", "migrate_set_downtime", "migrate-set-cache-size"),
        "query-migrate-cache-size",
    ],
)
async def test_commands_of_2014_are_deprecated(schema: dict[str, Json], command: str) -> None:
    assert "deprecated" in schema[command]["features"]


@pytest.mark.parametrize(
    "command",
    [
        *("migrate-start-postcopy", "migrate-pause", "migrate-recover", "calc-dirty-rate"),
        *("snapshot-save", "x-colo-lost-heartbeat", "query-colo-status", "yank"),
        *("set-vcpu-dirty-limit", "xen-save-devices-state", "migrate-set-speed", "migrate-cancel"),
    ],
)
async def test_command_that_is_lacking_is_not_found(fresh: Side, command: str) -> None:
    with pytest.raises(Refused) as caught:
        await fresh.execute(command)
    assert caught.value.error_class == "CommandNotFound"
    assert f"'{command}'" in caught.value.text


async def test_commands_are_listed_as_the_schema_has_them(
    fresh: Side, schema: dict[str, Json]
) -> None:
    listed = {one["name"] for one in await fresh.execute("query-commands")}
    assert listed == {name for name, one in schema.items() if one["meta-type"] == "command"}
