"""The Debian packages: a source package, built, looked over, installed, tested in Debian 13."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import jail
from distributions import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from chroots import Chroots


def build(chroots: Chroots, work: Path) -> Path:
    """Build the source package and the binary packages, without a network and without root.

    Returns:
        The folder with the results, among them a ``.changes`` file.
    """
    builder = chroots.builder(ROOT / "debian/control")
    place = work / "debian"
    tree = place / upstream()
    _export(tree)
    with tarfile.open(place / f"{upstream().replace('-', '_')}.orig.tar.gz", "w:gz") as archive:
        archive.add(tree, tree.name, filter=_without_debian)
    _give_to_builder(place, builder)
    jobs = f"parallel={os.cpu_count()} {os.environ.get('DEB_BUILD_OPTIONS', '')}"
    jail.run(
        *("dpkg-buildpackage", "--no-sign"),
        root=builder,
        user="builder",
        folder=f"/build/{tree.name}",
        binds={place: "/build"},
        environment={"DEB_BUILD_OPTIONS": jobs},
        log=work / "dpkg-buildpackage.log",
    )
    shutil.rmtree(tree)
    return place


def look_over(chroots: Chroots, built: Path, log: Path) -> None:
    """Run lintian.

    Args:
        log: Where it says what it found.

    Raises:
        subprocess.CalledProcessError: It has found an error.
    """
    jail.run(
        *("lintian", "--fail-on", "error", next(built.glob("*.changes")).name),
        root=chroots.builder(ROOT / "debian/control"),
        user="builder",
        folder="/build",
        binds={built: "/build"},
        log=log,
    )


def test(chroots: Chroots, built: Path, log: Path) -> None:
    """Run debian/tests with autopkgtest, in a fresh system that has the packages in a repository.

    autopkgtest installs, with apt, what each test depends on. The system is thrown away, so the
    test that removes packages may run as well.

    Args:
        log: Where all of it is told. How each test ended is told to everybody.

    Raises:
        subprocess.CalledProcessError: A test failed.
    """
    with chroots.copy() as root:
        repository = root / "srv/packages"
        shutil.copytree(built, repository)
        chroots.install(root, "autopkgtest", "apt-utils", "dpkg-dev")
        jail.run(
            *("sh", "-c", "apt-ftparchive packages . > Packages"), root=root, folder="/srv/packages"
        )
        source = "deb [trusted=yes] file:/srv/packages ./\n"
        (root / "etc/apt/sources.list.d/packages.list").write_text(source)
        chroots.apt(root, "update")
        jail.run(
            *("autopkgtest", "--ignore-restrictions=breaks-testbed", "--no-built-binaries"),
            "--summary-file=/tmp/summary",
            *(next(repository.glob("*.dsc")).name, "--", "null"),
            root=root,
            folder="/srv/packages",
            has_network=True,
            log=log,
        )
        print((root / "tmp/summary").read_text(), end="", flush=True)


def upstream() -> str:
    """Name and version of the source package, without Debian's revision."""
    first = (ROOT / "debian/changelog").read_text().splitlines()[0]
    found = re.match(r"(\S+) \((\S+)-\d+\)", first)
    if found is None:
        raise ValueError(f"debian/changelog begins with {first!r}")
    return f"{found[1]}-{found[2]}"


def _export(tree: Path) -> None:
    """Copy the source tree as it is now, without what git ignores."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _without_debian(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    is_debian = member.name.split("/")[1:2] == ["debian"]
    return None if is_debian else member


def _give_to_builder(place: Path, builder: Path) -> None:
    passwd = (builder / "etc/passwd").read_text()
    user, group = re.findall(r"^builder:[^:]*:(\d+):(\d+)", passwd, re.MULTILINE)[0]
    for path in [place, *place.rglob("*")]:
        os.chown(path, int(user), int(group), follow_symlinks=False)
