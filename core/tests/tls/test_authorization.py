"""Whom a list of rules lets in, and what names look like in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from transship.abc import Parameters
from transship.errors import BlockedError
from transship.tls import (
    AccessList,
    Endpoint,
    Format,
    Policy,
    Rule,
    RulesFile,
    X509Credentials,
    security_of,
)
from transship.tls.names import distinguished_name, shown

if TYPE_CHECKING:
    from pathlib import Path

ALLOW, DENY = Policy.ALLOW, Policy.DENY
HOST = "O=Example,CN=host.example.org"


def test_nobody_is_let_in_by_an_empty_list() -> None:
    assert not AccessList().allows(HOST)
    assert AccessList(policy=ALLOW).allows(HOST)


def test_first_rule_that_fits_decides() -> None:
    rules = (Rule(HOST, DENY), Rule("O=Example,*", ALLOW, Format.GLOB), Rule("*", DENY))
    access = AccessList(rules, ALLOW)
    assert not access.allows(HOST)
    assert access.allows("O=Example,CN=another")
    assert access.allows("O=Else")  # a star of an exact rule is a star


@pytest.mark.parametrize("identity", [HOST.lower(), HOST + " ", HOST[:-1], "", "CN=host"])
def test_exact_rule_fits_its_name_alone(identity: str) -> None:
    assert not AccessList((Rule(HOST, ALLOW),)).allows(identity)


@pytest.mark.parametrize(
    ("pattern", "identity", "fits"),
    [
        ("*", HOST, True),
        ("O=Example,*", HOST, True),
        ("O=Example,*", "O=Example", False),
        ("*CN=host?example.org", HOST, True),
        ("CN=*", HOST, False),
        ("*[h]ost.example.org", HOST, False),
        ("CN=[fe80::1]*", "CN=[fe80::1],O=E", True),
        ("CN=[!a]", "CN=b", False),
        ("*\n", HOST, False),
        ("O=Exam*", "O=Example\nO=Exam", True),
        ("o=*", HOST, False),
    ],
)
def test_pattern_fits_the_whole_name(pattern: str, identity: str, *, fits: bool) -> None:
    assert AccessList((Rule(pattern, ALLOW, Format.GLOB),)).allows(identity) is fits


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ([[("organizationName", "A, B")], [("commonName", "c")]], "O=A\\, B,CN=c"),
        ([[("commonName", 'a+b"c\\d<e>f;g')]], 'CN=a\\+b\\"c\\\\d\\<e\\>f\\;g'),
        ([[("commonName", " #a ")]], "CN=\\ #a\\ "),
        ([[("commonName", "#a")]], "CN=\\#a"),
        ([[("commonName", "a"), ("userId", "b")]], "CN=a+UID=b"),
        ([[("commonName", "bücher")]], "CN=bücher"),
        ([[("serialNumber", "7")]], "serialNumber=7"),
        ([], ""),
    ],
)
def test_distinguished_name_is_unambiguous(subject: Any, name: str) -> None:
    assert distinguished_name(subject) == name


def test_name_that_somebody_chose_is_shown_without_control_characters() -> None:
    assert shown("CN=a\x1b[2Jb\n") == "CN=a?[2Jb?"
    assert len(shown("x" * 100_000)) < 500


def rules_in(path: Path, content: bytes | dict[str, Any]) -> AccessList:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return RulesFile(path).read()


def test_file_of_rules_is_read_each_time(tmp_path: Path) -> None:
    rule = {"match": "CN=*", "policy": "allow", "format": "glob"}
    assert rules_in(tmp_path / "rules", {"rules": [rule]}).allows("CN=a")
    assert not rules_in(tmp_path / "rules", {"rules": []}).allows("CN=a")
    assert rules_in(tmp_path / "rules", {"policy": "allow"}).allows("CN=a")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"rules": {}}',
        b'{"rules": [7]}',
        b'{"rules": [{"match": "a"}]}',
        b'{"rules": [{"match": 7, "policy": "allow"}]}',
        b'{"rules": [{"match": "a", "policy": "perhaps"}]}',
        b'{"rules": [{"match": "a", "policy": ["allow"]}]}',
        b'{"rules": [{"match": "a", "policy": "allow", "format": "regex"}]}',
        b'{"rules": [{"match": "a", "policy": "allow", "fromat": "glob"}]}',
        b'{"policy": "allow", "rule": []}',
        b'{"policy": null}',
        b" " * (1024 * 1024 + 1),
    ],
)
def test_file_that_has_no_rules_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BlockedError, match="rules has no rules of access"):
        rules_in(tmp_path / "rules", content)


def resolve(pki: Path, endpoint: Endpoint = Endpoint.SERVER, **parameters: Any) -> object:
    objects = {
        "server0": X509Credentials(pki, Endpoint.SERVER),
        "secret0": object(),
        "all": AccessList(policy=ALLOW),
    }
    return security_of(Parameters(**parameters), endpoint, objects)


def test_parameters_name_objects_or_paths(pki: Path, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("{}")
    assert resolve(pki) is None
    assert resolve(pki, tls_creds="server0") is not None
    assert resolve(pki, tls_creds=f"{pki}/") is not None
    assert resolve(pki, tls_creds="server0", tls_authz="all") is not None
    assert resolve(pki, tls_creds="server0", tls_authz=str(tmp_path / "rules")) is not None
    assert resolve(pki, Endpoint.CLIENT, tls_creds=f"{pki}/", tls_authz="nobody") is not None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"tls_creds": "nothing"}, "'tls-creds' names no such object"),
        ({"tls_creds": "secret0"}, "found 'secret0', which is of another type"),
        ({"tls_creds": "server0", "tls_authz": "nothing"}, "'tls-authz' names no such object"),
        ({"tls_creds": "server0", "tls_authz": "server0"}, "'tls-authz' names no such object"),
        ({"tls_creds": "server0", "tls_authz": "/nowhere"}, "/nowhere': No such file"),
        ({"tls_creds": "/nowhere/"}, "No such file"),
    ],
)
def test_parameters_that_name_nothing_are_refused(
    pki: Path, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(BlockedError, match=message):
        resolve(pki, **parameters)


def test_credentials_of_the_wrong_side_are_refused(pki: Path) -> None:
    with pytest.raises(BlockedError, match="of the wrong side") as caught:
        resolve(pki, Endpoint.CLIENT, tls_creds="server0")
    assert caught.value.expected == "endpoint 'client'"
