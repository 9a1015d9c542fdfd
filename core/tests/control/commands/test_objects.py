"""Objects of TLS, and the parameters that name them, over QMP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from transship.control.commands.objects import OBJECTS, Secret

if TYPE_CHECKING:
    from pathlib import Path

    from .bench import Bench, Side

X509 = "tls-creds-x509"


async def add(side: Side, kind: str, name: str, **options: Any) -> None:
    await side.execute("object-add", **{"qom-type": kind, "id": name, **options})


async def refusal(side: Side, kind: str, name: str, **options: Any) -> str:
    return await side.refusal("object-add", **{"qom-type": kind, "id": name, **options})


@pytest.mark.parametrize("before", ["tls-creds", "tls-hostname", "tls-authz"])
async def test_parameters_of_tls_are_refused_once_a_source_is_waited_for(
    bench: Bench, before: str
) -> None:
    there = bench.there
    await there.execute("migrate-set-parameters", **{before: "early"})
    await there.execute("migrate-set-parameters", **{before: ""})
    await there.execute("migrate-incoming", uri="unix:/run/there.sock")
    text = await there.refusal("migrate-set-parameters", **{before: "late"})
    assert "cannot be changed while a migration is under way or waited for" in text
    assert (await there.execute("query-migrate-parameters"))[before] == ""
    await there.execute("migrate-set-parameters", **{"downtime-limit": 500})


async def test_migration_without_its_credentials_is_refused_at_once_on_either_side(
    bench: Bench,
) -> None:
    for side, command in ((bench.here, "migrate"), (bench.there, "migrate-incoming")):
        await side.execute("migrate-set-parameters", **{"tls-creds": "nothing"})
        text = await side.refusal(command, uri="unix:/run/there.sock")
        assert "'tls-creds' names no such object" in text
        assert (await side.execute("query-migrate")).get("status") in (None, "none")


async def test_object_with_missing_files_is_not_made_and_says_which(
    here: Side, tmp_path: Path
) -> None:
    text = await refusal(here, X509, "tls0", dir=str(tmp_path), endpoint="client")
    assert "ca-cert.pem" in text
    text = await refusal(here, X509, "tls0", dir=str(tmp_path), endpoint="server")
    assert "server-cert.pem" in text
    assert "no object" in await here.refusal("object-del", id="tls0")


async def test_password_must_be_there_and_is_not_said(here: Side, tmp_path: Path) -> None:
    text = await refusal(here, X509, "tls0", dir=str(tmp_path), passwordid="none")
    assert "there is no secret" in text
    (tmp_path / "large").write_bytes(bytes(65 * 1024))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "good").write_text("swordfish")
    assert "more than 65536 bytes" in await refusal(
        here, "secret", "s", file=str(tmp_path / "large")
    )
    assert "cannot be read" in await refusal(here, "secret", "s", file=str(tmp_path / "binary"))
    assert "cannot be read" in await refusal(here, "secret", "s", file=str(tmp_path / "nowhere"))
    text = await refusal(here, "secret", "s", data="sword+fish!", format="base64")
    assert "cannot be read" in text
    assert "sword" not in text
    await add(here, "secret", "s", file=str(tmp_path / "good"))


async def test_number_of_objects_is_bounded(here: Side) -> None:
    for number in range(OBJECTS):
        await add(here, "secret", f"s{number}", data="x")
    assert f"{OBJECTS} objects already" in await refusal(here, "secret", "more", data="x")
    await here.execute("object-del", id="s0")
    await add(here, "secret", "more", data="x")


async def test_file_of_rules_is_looked_at_when_it_is_named(here: Side, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text('{"rules": [7]}')
    text = await refusal(here, "authz-list-file", "a", filename=str(tmp_path / "rules"))
    assert "has no rules of access" in text
    (tmp_path / "rules").write_text('{"policy": "allow"}')
    await add(here, "authz-list-file", "a", filename=str(tmp_path / "rules"))


def test_secret_is_not_shown() -> None:
    assert "swordfish" not in repr(Secret("swordfish"))
