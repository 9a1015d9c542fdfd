"""Wheels and sdists: built without a network, complete, and tested as somebody else would.

The third parties come from the environment that runs this; ours come from the wheels alone.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

import jail

if TYPE_CHECKING:
    from distributions import Distribution

CORE_TESTS: Final = ["tests/cli", "tests/plugin"]
"""Of the core's sdist; all of its tests take minutes, and the Debian build runs them."""


def build(distribution: Distribution, into: Path) -> None:
    """Make the sdist, and the wheel out of the sdist.

    Raises:
        ValueError: A file of the source tree is missing in the sdist.
    """
    frontend = (sys.executable, "-m", "build", "--quiet", "--no-isolation")
    jail.run(*frontend, "--outdir", into, distribution.folder)
    with tarfile.open(sdist(distribution, into)) as archive:
        present = {name.partition("/")[2] for name in archive.getnames()}
    if missing := _tracked(distribution.folder) - present - {".gitignore"}:
        raise ValueError(f"the sdist of {distribution.name} lacks {', '.join(sorted(missing))}")


def sdist(distribution: Distribution, folder: Path) -> Path:
    return folder / f"{distribution.package}-{distribution.version}.tar.gz"


def wheel(distribution: Distribution, folder: Path) -> Path:
    return next(folder.glob(f"{distribution.package}-{distribution.version}-*.whl"))


def test_sdists(found: list[Distribution], built: Path, work: Path) -> None:
    """Install the wheels beside the third parties, and run the tests out of the sdists."""
    python = _environment(work / "environment")
    wheels = [wheel(each, built) for each in found]
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    jail.run(*pip, "--python", python, "install", "--no-index", *wheels)
    for each in found:
        with tarfile.open(sdist(each, built)) as archive:
            archive.extractall(work / "sdists", filter="data")
        unpacked = work / "sdists" / f"{each.package}-{each.version}"
        chosen = [] if each.is_plugin else CORE_TESTS
        print(f"tests out of {sdist(each, built).name}", *chosen, flush=True)
        pytest = ("-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-n", "auto")
        jail.run(python, *pytest, *chosen, folder=unpacked)


def _environment(folder: Path) -> Path:
    """A virtual environment that sees what is installed beside us, except what is ours."""
    venv.create(folder, symlinks=True)
    others = folder / "others"
    others.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lstrip("_").startswith(("transship", "editable")):
            (others / entry.name).symlink_to(entry)
    python = folder / "bin/python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    Path(site.stdout.strip(), "others.pth").write_text(f"{others}\n")
    return python


def _tracked(folder: Path) -> set[str]:
    """The files of a folder that belong to the source tree."""
    listed = subprocess.run(
        ["git", "-C", folder, "ls-files", "--cached", "--others", "--exclude-standard", "."],
        check=True,
        capture_output=True,
        text=True,
    )
    return {line for line in listed.stdout.splitlines() if (folder / line).exists()}
