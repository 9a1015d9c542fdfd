"""Builds every package there is and tests each as its users would: ``make packages``.

Leaves wheels, sdists and Debian packages in ``dist/``. The Debian packages need root, for
debootstrap and chroot, and are asked for with ``debs``; the others with ``wheels``; all without an
argument.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import debs
import wheels
from chroots import Chroots
from distributions import ROOT, distributions

if TYPE_CHECKING:
    from collections.abc import Iterator

DIST: Final = ROOT / "dist"
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "transship")
_BEGIN: Final = time.monotonic()


def _make_wheels(work: Path) -> None:
    found = distributions()
    _say(f"sdists and wheels of {len(found)} distributions, without a network")
    built = work / "built"
    for each in found:
        wheels.build(each, built)
    _say("the tests in the sdists, against the wheels")
    wheels.test_sdists(found, built, work)
    _deliver(built, "*.whl", "*.tar.gz")


def _make_debs(work: Path) -> None:
    chroots = Chroots(_CACHE / "debian-13", work / "chroots.log")
    with chroots.lock():
        _say(f"Debian 13, in {_CACHE / 'debian-13'}")
        chroots.builder(ROOT / "debian/control")
        _say("the Debian packages and their tests, without a network")
        built = debs.build(chroots, work)
        _say("autopkgtest, in a fresh Debian 13; and lintian")
        found = work / "lintian.log"
        with ThreadPoolExecutor() as beside:
            looking = beside.submit(debs.look_over, chroots, built, found)
            debs.test(chroots, built, work / "autopkgtest.log")
            looking.result()
        print(found.read_text(), end="")
    _deliver(built, "*.deb", "*.dsc", "*.tar.*", "*.changes", "*.buildinfo")


@contextmanager
def _wheels_beside(work: Path) -> Iterator[None]:
    """Make the wheels in a second process meanwhile: one core for each."""
    log = work / "wheels.log"
    with log.open("wb") as output:
        command = [sys.executable, str(Path(__file__).parent), "wheels"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
        process.wait()
    finally:
        process.terminate()
        process.wait()
    print(log.read_text(), end="")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _deliver(built: Path, *patterns: str) -> None:
    DIST.mkdir(exist_ok=True)
    for pattern in patterns:
        for path in built.glob(pattern):
            shutil.copyfile(path, DIST / path.name)


def _say(what: str) -> None:
    print(f"\n--> {what} ({time.monotonic() - _BEGIN:.0f} s)", flush=True)


def _lacking(wanted: set[str]) -> str | None:
    """What has to be there first, or nothing."""
    if shutil.which("unshare") is None:
        return "`unshare` is missing; on Debian it is in util-linux"
    if "debs" in wanted and os.geteuid() != 0:
        return "the Debian packages need root, for debootstrap and chroot; `wheels` does not"
    if "debs" in wanted and shutil.which("debootstrap") is None:
        return "debootstrap is missing: apt install debootstrap"
    return None


def main() -> int:
    """Make what the arguments name."""
    wanted = set(sys.argv[1:]) or {"wheels", "debs"}
    if unknown := wanted - {"wheels", "debs"}:
        print(f"packages: not {', '.join(unknown)}, but wheels, debs", file=sys.stderr)
        return 2
    if lack := _lacking(wanted):
        print(f"packages: {lack}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="transship-packages-") as folder:
        work = Path(folder)
        work.chmod(0o755)
        try:
            if wanted == {"wheels"}:
                _make_wheels(work)
            elif wanted == {"debs"}:
                _make_debs(work)
            else:
                shutil.rmtree(DIST, ignore_errors=True)
                with _wheels_beside(work):
                    _make_debs(work)
        except subprocess.CalledProcessError as error:
            for log in sorted(work.glob("*.log"), key=os.path.getmtime)[-1:]:
                print("".join(log.open(errors="replace").readlines()[-60:]), file=sys.stderr)
            print(f"packages: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("packages: interrupted", file=sys.stderr)
            return 130
    _say(f"{len(list(DIST.iterdir()))} files in {DIST}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
