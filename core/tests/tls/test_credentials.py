"""Whatever is wrong with certificates is said, by name, on the side that can do something."""

from __future__ import annotations

import datetime as dt
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from channel_pairs import unix_pair
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tls_certificates import make_folder
from tls_pair import destination_security, last_word, secure_both, source_security

from transship.errors import BlockedError, MigrationError, TlsError
from transship.tls import (
    AccessList,
    Endpoint,
    Policy,
    Rule,
    X509Credentials,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tls_pair import Ends

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path, pki: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(pki, tmp_path / "pki")
    return tmp_path / "pki"


def load(folder: Path, side: str = "server", **others: Any) -> None:
    X509Credentials(folder, Endpoint(side), **others).context()


async def meet(here: Path, there: Path, **others: Any) -> tuple[MigrationError, MigrationError]:
    """Why each side failed."""
    async with unix_pair() as pair:
        ends: Ends = await secure_both(
            pair, source_security(here, **others), destination_security(there)
        )
        source = await last_word(ends)
        destination = ends.destination
        assert isinstance(destination, MigrationError)
        return source, destination


@pytest.mark.parametrize(
    ("side", "name"),
    [
        ("server", "ca-cert.pem"),
        ("server", "server-cert.pem"),
        ("server", "server-key.pem"),
        ("client", "ca-cert.pem"),
        ("client", "client-key.pem"),
    ],
)
def test_missing_file_is_named(folder: Path, side: str, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BlockedError, match=f"{name}': No such file"):
        load(folder, side)


@pytest.mark.parametrize("name", ["ca-cert.pem", "server-cert.pem", "server-key.pem"])
@pytest.mark.parametrize("content", [b"", b"no certificate\n", bytes(range(256))])
def test_file_that_is_no_certificate_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(BlockedError, match=rf"{name}.* cannot be used"):
        load(folder)


def test_list_of_the_revoked_that_cannot_be_read_is_no_reason_to_do_without(folder: Path) -> None:
    (folder / "ca-crl.pem").mkdir()
    with pytest.raises(BlockedError, match=r"ca-crl\.pem': Is a directory"):
        load(folder)
    (folder / "ca-crl.pem").rmdir()
    (folder / "ca-crl.pem").symlink_to("not/mounted")
    with pytest.raises(BlockedError, match=r"ca-crl\.pem': No such file"):
        X509Credentials(folder, Endpoint.CLIENT).context()
    (folder / "ca-crl.pem").unlink()
    (folder / "ca-crl.pem").symlink_to("ca-crl.pem")
    with pytest.raises(BlockedError, match=r"ca-crl\.pem': Too many levels"):
        load(folder)


@pytest.mark.parametrize("name", ["nowhere", "a\0b", "server-cert.pem/x"])
def test_folder_that_is_none_is_named(folder: Path, name: str) -> None:
    with pytest.raises(BlockedError, match="the folder of certificates should have it"):
        load(folder / name)


def test_key_of_another_certificate_is_refused(folder: Path) -> None:
    shutil.copy(folder / "client-key.pem", folder / "server-key.pem")
    with pytest.raises(BlockedError, match=r"server-key\.pem cannot be used: key values mismatch"):
        load(folder)


def test_encrypted_key_needs_its_password_and_nobody_shows_it(folder: Path) -> None:
    path = folder / "server-key.pem"
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"swordfish"),
        )
    )
    with pytest.raises(BlockedError, match="a key that is encrypted needs its password"):
        load(folder)
    with pytest.raises(BlockedError, match="cannot be used"):
        load(folder, password="wrong")
    load(folder, password="swordfish")
    assert "swordfish" not in repr(X509Credentials(folder, Endpoint.SERVER, password="swordfish"))


async def test_source_refuses_a_destination_of_another_authority(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    make_folder(other)
    source, destination = await meet(other, folder)
    assert isinstance(source, TlsError)
    assert source.hint == "it is not of the authority in ca-cert.pem"
    assert destination.hint is not None
    assert "ca-cert.pem has not the authority of our certificate" in destination.hint


async def test_destination_refuses_a_source_of_another_authority_and_says_so(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    make_folder(other)
    for name in ("client-cert.pem", "client-key.pem"):
        shutil.copy(other / name, tmp_path / name)
    shutil.copytree(folder, tmp_path / "mixed")
    for name in ("client-cert.pem", "client-key.pem"):
        shutil.copy(other / name, tmp_path / "mixed" / name)
    source, destination = await meet(tmp_path / "mixed", folder)
    assert destination.hint == "it is not of the authority in ca-cert.pem"
    assert source.hint is not None
    assert "ca-cert.pem has not the authority of our certificate" in source.hint


async def test_source_without_a_certificate_is_refused_and_told_so(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "bare")
    (tmp_path / "bare" / "client-cert.pem").unlink()
    source, destination = await meet(tmp_path / "bare", folder)
    assert source.hint == "the other side wants a client certificate: our folder lacks one"
    assert destination.hint == "the other side's folder lacks client-cert.pem"


@pytest.mark.parametrize("name", ["elsewhere.example.org", "127.0.0.2", "fe80::1"])
async def test_wrong_name_is_refused_with_a_way_out(folder: Path, name: str) -> None:
    source, destination = await meet(folder, folder, hostname=name)
    assert name in str(source)
    assert source.hint == "set tls-hostname to a name that is in it"
    assert isinstance(destination, TlsError)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_name_or_address_in_the_certificate_is_accepted(folder: Path, name: str) -> None:
    async with unix_pair() as pair:
        ends = await secure_both(pair, source_security(folder, name), destination_security(folder))
        assert not any(isinstance(end, MigrationError) for end in ends)


@pytest.mark.parametrize("name", [".x", "a..b", "x" * 300, "abcdefg." * 33 + "x", "a\0b"])
async def test_what_cannot_be_a_name_is_refused(folder: Path, name: str) -> None:
    source, _ = await meet(folder, folder, hostname=name)
    assert isinstance(source, BlockedError)
    assert "cannot be a name in a certificate" in source.cause


async def test_channel_without_a_host_needs_the_name_to_be_set(folder: Path) -> None:
    source, _ = await meet(folder, folder, hostname=None)
    assert isinstance(source, BlockedError)
    assert source.hint == "set tls-hostname to the name that is in it"


@pytest.mark.parametrize("side", ["server", "client"])
async def test_expired_certificate_is_refused(tmp_path: Path, side: str) -> None:
    ca = trustme.CA()
    folder = tmp_path / "pki"
    make_folder(folder, ca=ca)
    old = ca.issue_cert("localhost", common_name="localhost", not_before=NOW - 9 * DAY,
                        not_after=NOW - DAY)  # fmt: skip
    old.cert_chain_pems[0].write_to_path(folder / f"{side}-cert.pem")
    old.private_key_pem.write_to_path(folder / f"{side}-key.pem")
    source, destination = await meet(folder, folder)
    refusing, refused = (source, destination) if side == "server" else (destination, source)
    assert refusing.hint == "it has expired"
    assert refused.hint == (
        "our certificate has expired, or the other side's ca-crl.pem is too old"
    )


def test_security_of_one_side_begins_no_connection_of_the_other(folder: Path) -> None:
    with pytest.raises(BlockedError, match="of the wrong side; expected endpoint 'client'"):
        destination_security(folder).begin_client("the server", "localhost")
    with pytest.raises(BlockedError, match="of the wrong side; expected endpoint 'server'"):
        source_security(folder).begin_server("the client")


def revoke(ca: trustme.CA, folder: Path, side: str | None, until: dt.datetime) -> None:
    """Write a list of revoked certificates, with that of one side or none."""
    gone = [] if side is None else [(folder / f"{side}-cert.pem").read_bytes()]
    (folder / "ca-crl.pem").write_bytes(list_of_revoked(ca, gone, until))


def list_of_revoked(ca: trustme.CA, revoked: Iterable[bytes], until: dt.datetime) -> bytes:
    """What an authority has revoked, all in PEM."""
    key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
    issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(NOW - 2 * DAY)
        .next_update(until)
    )
    for certificate in revoked:
        gone = x509.load_pem_x509_certificate(certificate)
        made = made.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(gone.serial_number)
            .revocation_date(NOW - DAY)
            .build()
        )
    signed = made.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("side", ["server", "client"])
async def test_revoked_certificate_is_refused(tmp_path: Path, side: str) -> None:
    ca = trustme.CA()
    folder = tmp_path / "pki"
    make_folder(folder, ca=ca)
    revoke(ca, folder, side, NOW + DAY)
    source, destination = await meet(folder, folder)
    refusing, refused = (source, destination) if side == "server" else (destination, source)
    assert refusing.hint == "ca-crl.pem has it"
    assert refused.hint == "the other side's ca-crl.pem has our certificate"


def make_chained_folder(folder: Path, root: trustme.CA, between: trustme.CA) -> None:
    """A folder whose certificates are of an authority that another has signed."""
    make_folder(folder, ca=between)
    root.cert_pem.write_to_path(folder / "ca-cert.pem")
    for side in ("server", "client"):
        path = folder / f"{side}-cert.pem"
        path.write_bytes(path.read_bytes() + between.cert_pem.bytes())


async def test_chain_is_trusted_where_each_of_its_authorities_has_a_list(tmp_path: Path) -> None:
    root = trustme.CA()
    between = root.create_child_ca()
    make_chained_folder(tmp_path, root, between)
    lists = [list_of_revoked(one, [], NOW + DAY) for one in (root, between)]
    (tmp_path / "ca-crl.pem").write_bytes(b"".join(lists))
    async with unix_pair() as pair:
        ends = await secure_both(pair, source_security(tmp_path), destination_security(tmp_path))
        assert not any(isinstance(end, MigrationError) for end in ends)


async def test_chain_with_a_revoked_authority_is_refused(tmp_path: Path) -> None:
    root = trustme.CA()
    between = root.create_child_ca()
    make_chained_folder(tmp_path, root, between)
    lists = [
        list_of_revoked(root, [between.cert_pem.bytes()], NOW + DAY),
        list_of_revoked(between, [], NOW + DAY),
    ]
    (tmp_path / "ca-crl.pem").write_bytes(b"".join(lists))
    source, _ = await meet(tmp_path, tmp_path)
    assert source.hint == "ca-crl.pem has it"


async def test_chain_is_refused_where_one_of_its_authorities_has_no_list(tmp_path: Path) -> None:
    root = trustme.CA()
    between = root.create_child_ca()
    make_chained_folder(tmp_path, root, between)
    (tmp_path / "ca-crl.pem").write_bytes(list_of_revoked(between, [], NOW + DAY))
    source, _ = await meet(tmp_path, tmp_path)
    assert source.hint == "ca-crl.pem has no list of the authority that signed it"


async def test_list_of_the_revoked_that_is_too_old_is_said_to_be(tmp_path: Path) -> None:
    ca = trustme.CA()
    folder = tmp_path / "pki"
    make_folder(folder, ca=ca)
    revoke(ca, folder, None, NOW - DAY)
    source, _ = await meet(folder, folder)
    assert source.hint == "replace ca-crl.pem by a newer list"


async def test_verified_source_that_no_rule_lets_in_is_turned_away_by_name(folder: Path) -> None:
    access = AccessList((Rule("CN=somebody", Policy.ALLOW),))
    async with unix_pair() as pair:
        ends = await secure_both(
            pair, source_security(folder), destination_security(folder, access)
        )
        assert isinstance(ends.destination, TlsError)
        assert str(ends.destination.found).endswith(",OU=Tests,CN=client.example.org")


def test_access_list_without_verification_is_refused(folder: Path) -> None:
    with pytest.raises(BlockedError, match="the credentials verify nobody"):
        destination_security(folder, AccessList(policy=Policy.ALLOW), verify_peer=False)


async def test_sides_that_verify_nobody_still_encrypt(tmp_path: Path, folder: Path) -> None:
    make_folder(tmp_path / "other")
    (tmp_path / "other" / "ca-cert.pem").unlink()
    async with unix_pair() as pair:
        ends = await secure_both(
            pair,
            source_security(tmp_path / "other", None, verify_peer=False),
            destination_security(folder, verify_peer=False),
        )
        assert not any(isinstance(end, MigrationError) for end in ends)
