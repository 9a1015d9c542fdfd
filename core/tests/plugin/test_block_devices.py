from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tls_certificates import make_folder

from transship import assembly
from transship.abc import Address, ConnectionSecurity, SecureSession
from transship.errors import BlockedError, PluginError
from transship.plugin import hints
from transship.plugin.discovery import find_block_devices, installed_plugins

from .fake_distributions import BLOCK_DEVICES, DISKS

if TYPE_CHECKING:
    from pathlib import Path

    from .fake_distributions import FakeDistributions


def test_disk_is_opened_by_the_plugin_of_its_scheme_and_no_other_is_imported(
    site: FakeDistributions,
) -> None:
    wanted = site.install("fake-drum", BLOCK_DEVICES, "drum", DISKS)
    other = site.install("fake-platter", BLOCK_DEVICES, "platter", DISKS)
    device = find_block_devices("drum").open(Address("drum", "4096"), {})
    assert device.size_bytes == 4096
    assert wanted in sys.modules
    assert other not in sys.modules


def test_scheme_may_have_a_plus(site: FakeDistributions) -> None:
    site.install("fake-drum", BLOCK_DEVICES, "drum+unix", DISKS)
    assert find_block_devices("drum+unix").open(Address("drum+unix", "1"), {}).size_bytes == 1


def test_refusal_of_an_address_is_the_plugins_own(site: FakeDistributions) -> None:
    site.install("fake-drum", BLOCK_DEVICES, "drum", DISKS)
    with pytest.raises(BlockedError, match="'drum:round' has no size"):
        find_block_devices("drum").open(Address("drum", "round"), {})


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return None", "does not take 'drum:1'"),
        ("return 'a disk'", "returned a str, which is no BlockDevice"),
        ("raise KeyError('side')", "failed: KeyError: 'side'"),
    ],
)
def test_plugin_that_opens_no_device_is_at_fault(
    site: FakeDistributions, body: str, fault: str
) -> None:
    source = f"import transship\n@transship.hookimpl\ndef open_block_device(address):\n    {body}\n"
    site.install("fake-drum", BLOCK_DEVICES, "drum", source)
    with pytest.raises(PluginError, match="plugin 'drum' of fake-drum") as caught:
        find_block_devices("drum").open(Address("drum", "1"), {})
    assert fault in str(caught.value)


async def test_devices_are_served_by_the_plugin_of_the_scheme(site: FakeDistributions) -> None:
    source = (
        "import contextlib, transship\n"
        "@contextlib.asynccontextmanager\n"
        "async def serving(where):\n    yield f'a server at {where}'\n"
        "@transship.hookimpl\n"
        "def serve_block_devices(address):\n    return serving(address.rest)\n"
    )
    site.install("fake-drum", BLOCK_DEVICES, "drum", source)
    async with find_block_devices("drum").serve(Address("drum", "//here"), {}) as server:
        assert str(server) == "a server at //here"


def test_plugin_that_serves_nothing_is_said(site: FakeDistributions) -> None:
    site.install("fake-drum", BLOCK_DEVICES, "drum", DISKS)
    with pytest.raises(BlockedError, match="fake-drum serves no disks at 'drum:'"):
        find_block_devices("drum").serve(Address("drum", "1"), {})


def test_plugin_whose_server_is_none_is_at_fault(site: FakeDistributions) -> None:
    source = (
        "import transship\n@transship.hookimpl\ndef serve_block_devices():\n    return 'here'\n"
    )
    site.install("fake-drum", BLOCK_DEVICES, "drum", source)
    with pytest.raises(PluginError, match=r"serve_block_devices of plugin 'drum'.*returned a str"):
        find_block_devices("drum").serve(Address("drum", "1"), {})


class Securing(ConnectionSecurity):
    def begin_client(self, peer: str, host: str | None = None) -> SecureSession:
        raise NotImplementedError

    def begin_server(self, peer: str) -> SecureSession:
        raise NotImplementedError


@pytest.mark.parametrize("hook", ["open_block_device", "serve_block_devices"])
def test_plugin_that_knows_no_security_is_not_called_where_there_is_any(
    site: FakeDistributions, hook: str
) -> None:
    source = (
        "import transship\n@transship.hookimpl\n"
        f"def {hook}(address, options):\n    raise AssertionError('called')\n"
    )
    site.install("fake-drum", BLOCK_DEVICES, "drum", source)
    drum, address = find_block_devices("drum"), Address("drum", "1")
    call = drum.open if hook == "open_block_device" else drum.serve
    with pytest.raises(BlockedError, match="fake-drum reaches disks at 'drum:' in plain") as caught:
        call(address, {}, Securing())
    assert caught.value.expected == f"a plugin whose {hook} takes 'security', without a default"


@pytest.mark.parametrize("hook", ["open_block_device", "serve_block_devices"])
def test_plugin_that_knows_security_is_given_it(site: FakeDistributions, hook: str) -> None:
    source = (
        "import transship\nfrom transship.errors import BlockedError\n@transship.hookimpl\n"
        f"def {hook}(address, security):\n"
        "    raise BlockedError(f'given {type(security).__name__}')\n"
    )
    site.install("fake-drum", BLOCK_DEVICES, "drum", source)
    drum, address = find_block_devices("drum"), Address("drum", "1")
    call = drum.open if hook == "open_block_device" else drum.serve
    with pytest.raises(BlockedError, match="given Securing"):
        call(address, {}, Securing())
    with pytest.raises(BlockedError, match="given NoneType"):
        call(address, {})


NAMING = """
@hookimpl
def block_device_certificates(address):
    return address.rest.partition("?")[2] or None
"""


def test_certificates_in_an_address_are_told_by_its_plugin(site: FakeDistributions) -> None:
    site.install("fake-drum", BLOCK_DEVICES, "drum", DISKS + NAMING)
    site.install("fake-platter", BLOCK_DEVICES, "platter", DISKS)
    drum, platter = find_block_devices("drum"), find_block_devices("platter")
    assert drum.certificates(Address("drum", "1?/etc/pki")) == "/etc/pki"
    assert drum.certificates(Address("drum", "1")) is None
    assert platter.certificates(Address("platter", "1?/etc/pki")) is None


def test_plugin_whose_certificates_are_none_is_at_fault(site: FakeDistributions) -> None:
    source = (
        "import transship\n@transship.hookimpl\ndef block_device_certificates():\n    return 5\n"
    )
    site.install("fake-drum", BLOCK_DEVICES, "drum", source)
    with pytest.raises(PluginError, match="returned a int, which is no path"):
        find_block_devices("drum").certificates(Address("drum", "1"))


def test_certificates_in_an_address_secure_its_connections(
    site: FakeDistributions, tmp_path: Path
) -> None:
    source = DISKS.replace(
        "def open_block_device(address):",
        "def open_block_device(address, security):\n    raise BlockedError(repr(security))",
    )
    site.install("fake-drum", BLOCK_DEVICES, "drum", source + NAMING)
    with pytest.raises(BlockedError, match="None"):
        assembly.open_block_device("drum:1")
    with pytest.raises(BlockedError, match="X509Security"):
        assembly.open_block_device(f"drum:1?{make_folder(tmp_path)}")
    with pytest.raises(BlockedError, match="No such file or directory"):
        assembly.open_block_device("drum:1?/no/such/folder")
    with pytest.raises(BlockedError, match="names certificates, and others were given beside it"):
        assembly.open_block_device("drum:1?/no/such/folder", security=Securing())


def test_unknown_scheme_names_the_distribution_to_install(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "BLOCK_DEVICES", {"drum": "transship-drum"})
    with pytest.raises(PluginError) as caught:
        find_block_devices("drum")
    assert str(caught.value) == "no disks at 'drum:': install transship-drum"
    assert caught.value.distribution == "transship-drum"


def test_scheme_nobody_knows_names_those_there_are(site: FakeDistributions) -> None:
    site.install("fake-drum", BLOCK_DEVICES, "drum", DISKS)
    with pytest.raises(PluginError, match=r"no disks at 'platter:'.*'drum:'"):
        find_block_devices("platter")


def test_scheme_of_two_distributions_is_an_error_that_names_both(site: FakeDistributions) -> None:
    site.install("fake-drum", BLOCK_DEVICES, "drum", DISKS)
    site.install("fake-platter", BLOCK_DEVICES, "drum", DISKS)
    with pytest.raises(PluginError, match="fake-drum and fake-platter"):
        find_block_devices("drum")


def test_list_of_those_allowed_may_name_the_kind(
    site: FakeDistributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("fake-drum", BLOCK_DEVICES, "drum", DISKS)
    monkeypatch.setenv("TRANSSHIP_PLUGINS_DENY", "block-devices/drum")
    with pytest.raises(PluginError, match="TRANSSHIP_PLUGINS_DENY denies fake-drum"):
        find_block_devices("drum")


def test_report_names_the_hook(site: FakeDistributions) -> None:
    site.install("fake-drum", BLOCK_DEVICES, "drum", DISKS)
    (report,) = (one for one in installed_plugins() if one.distribution == "fake-drum")
    assert (report.status, report.hooks) == ("ok", ("open_block_device",))
