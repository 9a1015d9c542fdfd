"""Any subset of the distributions works, and what is missing is named."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from distributions import distributions

INSTALLED = {each.name for each in metadata.distributions()}
# One that needs a compiler or a C library may not be here.
PLUGINS = tuple(each.name for each in distributions() if each.is_plugin and each.name in INSTALLED)


class Installation:
    """A folder of installed distributions, made of links to this one's.

    Args:
        folder: Where to make it.
        without: Distributions that are left out.
    """

    def __init__(self, folder: Path, without: tuple[str, ...]) -> None:
        self.site = folder / "site"
        self.site.mkdir(parents=True)
        here = Path(sysconfig.get_path("purelib"))
        ours = tuple(name.replace("-", "_") for name in ("transship", *PLUGINS))
        for entry in here.iterdir():
            if not entry.name.startswith(ours) and not entry.name.startswith("_transship"):
                (self.site / entry.name).symlink_to(entry)
        for name in ("transship", *PLUGINS):
            if name not in without:
                self._link(name)

    def _link(self, distribution: str) -> None:
        """Link a distribution's metadata and its package."""
        package = distribution.replace("-", "_")
        found = metadata.distribution(distribution)
        information = Path(str(found.locate_file("."))) / f"{package}-{found.version}.dist-info"
        (self.site / information.name).symlink_to(information)
        folder = "core" if distribution == "transship" else f"plugins/{distribution[10:]}"
        source = Path(__file__).parents[1] / folder / "src" / package
        (self.site / package).symlink_to(source)

    def add(self, distribution: str, entry_points: str, module: str, source: str) -> None:
        """Install a third party's distribution with one module."""
        information = self.site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (information / "entry_points.txt").write_text(entry_points)
        (self.site / f"{module}.py").write_text(source)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``transship`` with these distributions and no others."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.site),
            "XDG_CACHE_HOME": str(self.site.parent / "cache"),
        }
        base = getattr(sys, "_base_executable", sys.executable)
        return subprocess.run(
            [base, "-S", "-m", "transship", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def plugins(self) -> dict[str, dict[str, str]]:
        """What ``transship plugins`` says, by name."""
        result = self.run("plugins", "--json")
        assert result.returncode == 0, result.stderr
        return {row["name"]: row for row in json.loads(result.stdout)["plugins"]}


@pytest.mark.seed("S34", "S51", "S69", "S76")
@pytest.mark.parametrize(
    ("arguments", "uri"),
    [
        (("receive", "unix:/x", "--to", "vm"), "unix:"),
        (("run", "synthetic:ram=1MiB", "--incoming", "unix:/x"), "unix:"),
        (("demo", "--ram", "1MiB"), "unix:"),
    ],
)
def test_scheme_whose_plugin_is_missing_is_answered_with_its_distribution(
    tmp_path: Path, arguments: tuple[str, ...], uri: str
) -> None:
    installation = Installation(tmp_path, without=("transship-unix",))
    result = installation.run(*arguments)
    assert result.returncode == 3, result.stderr
    assert "transship-unix" in result.stderr
    assert uri in result.stderr
    assert "Traceback" not in result.stderr


def test_scheme_that_needs_a_library_is_answered_with_its_distribution(tmp_path: Path) -> None:
    installation = Installation(tmp_path, without=("transship-rdma",))
    result = installation.run("receive", "rdma:host:1", "--to", str(tmp_path / "vm"))
    assert result.returncode == 3, result.stderr
    assert "install transship-rdma" in result.stderr


@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_method_whose_plugin_is_missing_is_answered_with_its_distribution(
    tmp_path: Path, method: str
) -> None:
    installation = Installation(tmp_path, without=(f"transship-{method}",))
    options = ("--cap", "multifd", "--set", f"multifd-compression={method}")
    result = installation.run("receive", "unix:/x", "--to", str(tmp_path / "vm"), *options)
    assert result.returncode == 3, result.stderr
    assert f"no compression method '{method}': install transship-{method}" in result.stderr
    assert not (tmp_path / "vm").exists()


def test_core_alone_says_what_it_lacks(tmp_path: Path) -> None:
    installation = Installation(tmp_path, without=PLUGINS)
    assert installation.plugins() == {}
    assert installation.run("--help").returncode == 0
    result = installation.run("run", "synthetic:ram=1MiB", "--incoming", "tcp:127.0.0.1:0")
    assert result.returncode == 3
    assert "transship-tcp" in result.stderr


@pytest.mark.parametrize("missing", ["transship-ram", "transship-devstate"])
def test_guest_part_that_nothing_carries_is_refused_before_the_guest_is_touched(
    tmp_path: Path, missing: str
) -> None:
    installation = Installation(tmp_path, without=(missing,))
    result = installation.run("demo", "--ram", "1MiB")
    assert result.returncode == 3, result.stderr
    assert missing in result.stderr


def test_demonstration_works_without_what_it_does_not_need(tmp_path: Path) -> None:
    installation = Installation(tmp_path, without=("transship-tcp",))
    result = installation.run("demo", "--ram", "8MiB", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["guest"]["consistent"] is True


BROKEN = {
    "fails to import": (
        "[transship.transports]\nbent = bent\n",
        "import something_that_is_not_there\n",
        r"something_that_is_not_there",
    ),
    "misspells a hook": (
        "[transship.transports]\nbent = bent\n",
        "import transship\n\n@transship.hookimpl\ndef start_outgong(address, options): ...\n",
        r"start_outgong",
    ),
    "has an argument that no hook has": (
        "[transship.transports]\nbent = bent\n",
        "import transship\n\n@transship.hookimpl\ndef start_outgoing(adress): ...\n",
        r"adress",
    ),
    "is a section that misspells a hook": (
        "[transship.sections]\nbent = bent\n",
        "import transship\n\n@transship.hookimpl\ndef make_sections(guest): ...\n",
        r"make_sections",
    ),
}


@pytest.mark.parametrize("how", list(BROKEN))
def test_broken_plugin_is_named_and_the_others_work(tmp_path: Path, how: str) -> None:
    entry_points, source, reason = BROKEN[how]
    installation = Installation(tmp_path, without=())
    installation.add("transship-bent", entry_points, "bent", source)
    rows = installation.plugins()
    assert rows["bent"]["status"] == "failed"
    assert rows["bent"]["distribution"] == "transship-bent"
    assert re.search(reason, rows["bent"]["reason"])
    assert {rows[name]["status"] for name in ("tcp", "zstd", "ram", "devstate")} == {"ok"}
    result = installation.run("demo", "--ram", "1MiB", "--json")
    assert result.returncode == 0, result.stderr


def test_scheme_claimed_twice_is_an_error_that_names_both(tmp_path: Path) -> None:
    installation = Installation(tmp_path, without=())
    installation.add(
        "transship-other",
        "[transship.transports]\nunix = other\n",
        "other",
        "import transship\n\n@transship.hookimpl\ndef start_outgoing(address, options): ...\n",
    )
    rows = json.loads(installation.run("plugins", "--json").stdout)["plugins"]
    claims = [row for row in rows if row["name"] == "unix"]
    assert {row["status"] for row in claims} == {"conflict"}
    assert {row["distribution"] for row in claims} == {"transship-unix", "transship-other"}
    result = installation.run("receive", "unix:/x", "--to", str(tmp_path / "vm"))
    assert result.returncode == 3
    assert "transship-unix" in result.stderr
    assert "transship-other" in result.stderr
    over_tcp = installation.run("demo", "--ram", "1MiB", "--transport", "tcp", "--json")
    assert over_tcp.returncode == 0, over_tcp.stderr
