"""Debian 13 in folders: made by debootstrap once, kept in the cache, copied for each use.

A folder in the cache is named after its recipe, so a change of the recipe makes a new one. The
mirror is the one that this machine's apt uses, unless TRANSSHIP_DEBIAN_MIRROR names another.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import jail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUITE: Final = "trixie"
MIRROR: Final = "TRANSSHIP_DEBIAN_MIRROR"
"""Environment variable: where Debian's packages come from, in place of what apt is set to."""

_APT: Final = ("apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends", "-y")


class Chroots:
    """Those in the cache; one process at a time works with them.

    Args:
        cache: The folder of the cache.
        log: Where the output of debootstrap and apt goes.
    """

    def __init__(self, cache: Path, log: Path) -> None:
        self._cache = cache
        self._log = log
        self._downloads = {cache / "archives": "/var/cache/apt/archives"}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Wait for others; and remove what one that was killed has left."""
        (self._cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        with (self._cache / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for left in self._cache.glob("copy-*"):
                shutil.rmtree(left)
            yield

    def plain(self) -> Path:
        """A minimal system, as debootstrap leaves it, that knows where packages come from."""

        def make(root: Path) -> None:
            kept = f"--cache-dir={self._cache / 'archives'}"
            command = ("debootstrap", "--variant=minbase", kept, SUITE, root, mirror())
            jail.run(*command, has_network=True, log=self._log)
            (root / "etc/apt/apt.conf.d/90proxies").write_text(_apt_proxies())

        return self._kept("plain", f"{SUITE} {mirror()}", make)

    def builder(self, control: Path) -> Path:
        """A system with what a source package needs to be built, and lintian.

        Args:
            control: The control file of the source package.
        """

        def make(root: Path) -> None:
            _copy(self.plain(), root)
            (root / "wanted/debian").mkdir(parents=True)
            shutil.copy(control, root / "wanted/debian/control")
            self.install(root, "build-essential", "lintian")
            self.apt(root, "build-dep", "/wanted")
            jail.run("useradd", "--create-home", "builder", root=root, log=self._log)

        return self._kept("builder", f"{SUITE} {mirror()}\n{_build_depends(control)}", make)

    @contextlib.contextmanager
    def copy(self) -> Iterator[Path]:
        """A fresh minimal system, gone afterwards."""
        plain = self.plain()
        with tempfile.TemporaryDirectory(prefix="copy-", dir=self._cache) as folder:
            root = Path(folder) / "root"
            root.mkdir()
            _copy(plain, root)
            yield root

    def install(self, root: Path, *packages: str) -> None:
        """Install packages by name, after a look at what the mirror has today."""
        self.apt(root, "update")
        self.apt(root, "install", *packages)

    def apt(self, root: Path, *arguments: str) -> None:
        """Run apt-get in a system, with the network."""
        for name in ("resolv.conf", "hosts"):
            shutil.copy(Path("/etc", name), root / "etc" / name)
        jail.run(
            *_APT, *arguments, root=root, has_network=True, binds=self._downloads, log=self._log
        )

    def _kept(self, name: str, recipe: str, make: Callable[[Path], None]) -> Path:
        digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
        place = self._cache / f"{name}-{digest}"
        if not place.exists():
            for outdated in self._cache.glob(f"{name}-*"):
                shutil.rmtree(outdated)
            with tempfile.TemporaryDirectory(prefix="copy-", dir=self._cache) as folder:
                root = Path(folder) / "root"
                root.mkdir()
                make(root)
                root.rename(place)
        return place


def mirror() -> str:
    """Where packages come from.

    Raises:
        ValueError: apt does not say, and no variable does.
    """
    if chosen := os.environ.get(MIRROR):
        return chosen
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    )
    for line in listed.stdout.splitlines():
        uri, _, label = line.partition(" ")
        if label == "Debian" or (not label and uri.rstrip("/").endswith("/debian")):
            return uri.rstrip("/")
    raise ValueError(f"apt names no mirror of Debian here; name one in {MIRROR}")


def _apt_proxies() -> str:
    """The lines of apt's configuration that say how packages are reached."""
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True)
    lines = [line for line in dump.stdout.splitlines() if "::Proxy" in line]
    return "".join(f"{line}\n" for line in lines)


def _build_depends(control: Path) -> str:
    return control.read_text().partition("Build-Depends:")[2].partition("\n\n")[0]


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", target], check=True)
