"""What `make packages` builds fits together: versions, the Debian control file, sdists, man pages.

That the packages can be installed and work is what `make packages` itself tests.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
from typing import TYPE_CHECKING, Any

import click
import debs
import jail
import manpages
import pytest
from debian_control import CONTROL, binary_package, control
from distributions import ROOT, Distribution, distributions, floor, requirement_name

from transship.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

ALL = distributions()
PLUGINS = [each for each in ALL if each.is_plugin]
each_distribution = pytest.mark.parametrize("distribution", ALL, ids=lambda each: each.name)
each_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda each: each.name)


def document(distribution: Distribution) -> dict[str, Any]:
    return tomllib.loads((distribution.folder / "pyproject.toml").read_text())


def field(package: str, name: str) -> list[str]:
    """The values of a field of a package in debian/control."""
    (stanza,) = re.findall(
        rf"^Package: {re.escape(package)}\n(.*?)(?:\n\n|\Z)",
        CONTROL.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    (text,) = re.findall(rf"^{name}:(.*(?:\n[ #].*)*)", stanza, re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [value.strip() for value in ",".join(lines).split(",") if value.strip()]


# --- versions -------------------------------------------------------------------------------------


@each_plugin
def test_plugin_goes_with_the_core_beside_it(plugin: Distribution) -> None:
    core = ALL[0].version.split(".")
    (pin,) = (each for each in plugin.requirements if requirement_name(each) == "transship")
    assert "~=" in pin
    assert str(floor(pin)).split(".") == core[:2]
    assert plugin.version.split(".")[:2] == core[:2]


def test_debian_changelog_is_at_the_version_of_the_core() -> None:
    assert debs.upstream() == f"transship-{ALL[0].version}"


# --- Debian ---------------------------------------------------------------------------------------


def test_control_file_is_what_the_distributions_say() -> None:
    assert CONTROL.read_text() == control(), "run packaging/debian_control.py"


@each_plugin
def test_plugin_has_a_debian_package_that_the_core_suggests(plugin: Distribution) -> None:
    package = binary_package(plugin.name)
    assert field(package, "Enhances") == ["python3-transship"]
    assert "python3-transship (= ${source:Version})" in field(package, "Depends")
    assert field(package, "Architecture") == ["any" if plugin.is_compiled else "all"]
    assert package in field("python3-transship", "Suggests")
    by_command = field("transship", "Recommends") + field("transship", "Suggests")
    assert by_command.count(package) == 1


def test_command_recommends_no_plugin_that_runs_commands_or_opens_files() -> None:
    recommended = set(field("transship", "Recommends"))
    assert "python3-transship-ram" in recommended
    assert recommended.isdisjoint({"python3-transship-exec", "python3-transship-file"})


# --- sdists ---------------------------------------------------------------------------------------


@each_distribution
def test_sdist_carries_its_tests_and_what_building_needs(
    distribution: Distribution, tmp_path: Path
) -> None:
    for needed in ("build", *map(requirement_name, distribution.build_requires)):
        pytest.importorskip(needed, reason=f"{needed} is not installed: nothing can be built here")
    build = (sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir")
    done = subprocess.run(
        [*build, str(tmp_path), str(distribution.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = tmp_path.glob(f"{distribution.package}-{distribution.version}.tar.gz")
    with tarfile.open(archive) as contents:
        present = {name.partition("/")[2] for name in contents.getnames()}
    folder = distribution.folder
    tests = [path.relative_to(folder) for path in folder.glob("tests/**/*.py")]
    assert {"pyproject.toml", "LICENSE", "README.md"} <= present
    assert {str(path) for path in tests} <= present


@each_distribution
def test_distribution_alone_has_the_test_settings_of_the_workspace(
    distribution: Distribution,
) -> None:
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours = workspace["tool"]["pytest"]["ini_options"]
    alone = document(distribution)["tool"]["pytest"]["ini_options"]
    assert alone.pop("pythonpath") == alone.pop("testpaths") == ["tests"]
    assert set(alone.pop("addopts")) <= set(ours["addopts"])
    assert set(alone.pop("markers")) <= set(ours["markers"])
    assert alone == {name: ours[name] for name in ("filterwarnings", "trio_mode")}


# --- man pages ------------------------------------------------------------------------------------


def test_each_verb_has_a_man_page_with_all_its_options() -> None:
    pages = manpages.pages()
    context = click.Context(main, info_name="transship")
    verbs = main.list_commands(context)
    assert sorted(pages) == sorted(["transship.1", *(f"transship-{verb}.1" for verb in verbs)])
    for verb in verbs:
        command = main.get_command(context, verb)
        assert command is not None
        page = pages[f"transship-{verb}.1"]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[-1].replace("-", "\\-") in page
        assert "\b" not in page
        assert f"\\fB{verb}\\fP" in pages["transship.1"]


def test_man_page_keeps_the_lines_of_examples_apart() -> None:
    page = manpages.pages()["transship-receive.1"]
    examples = page.split(".nf\n")[1].split("\n.fi")[0].splitlines()
    assert examples[0] == "Examples:"
    assert all(line.strip().startswith("transship ") for line in examples[1:])


# --- the command ----------------------------------------------------------------------------------


def test_unknown_kind_of_package_is_refused_with_those_that_there_are() -> None:
    command = [sys.executable, str(ROOT / "packaging"), "rpms"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "packages: not rpms, but wheels, debs\n"


# --- without a network ----------------------------------------------------------------------------


def test_jail_has_no_network_but_a_loopback_that_works(tmp_path: Path) -> None:
    script = tmp_path / "look.py"
    script.write_text(
        "import socket\n"
        "print(*(name for _, name in socket.if_nameindex()))\n"
        "with socket.create_server(('127.0.0.1', 0)) as listener:\n"
        "    socket.create_connection(listener.getsockname()).close()\n"
    )
    log = tmp_path / "log"
    if not _may_unshare():
        pytest.skip("this user may not make namespaces (unshare)")
    jail.run(sys.executable, script, log=log)
    assert log.read_text() == "lo\n"


def _may_unshare() -> bool:
    command = ["unshare", "--map-root-user", "--net", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


# --- documentation --------------------------------------------------------------------------------


@each_distribution
def test_guide_for_packagers_has_a_row_for_the_distribution(distribution: Distribution) -> None:
    guide = (ROOT / "docs/how-to/package-a-selection.md").read_text()
    row = re.findall(rf"^\| `{distribution.name}` \| .*", guide, re.MULTILINE)[0]
    named = [requirement_name(each) for each in distribution.requirements]
    for name in {*named} - {"transship"}:
        assert name in row
