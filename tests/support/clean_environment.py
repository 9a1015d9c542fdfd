"""A virtual environment with nothing of this source tree: our distributions come as wheels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[2]
_PATIENCE_S: Final = 300.0
_WHEELS: Final = ("core", "plugins/devstate", "plugins/ram")
_TOOLS: Final = ("hatchling >= 1.27", "pytest >= 8.3", "pytest-trio >= 0.8", "editables")


class CleanEnvironment:
    """An environment with the core, ``ram`` and ``devstate``, and pytest.

    Args:
        folder: Empty; where everything goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        wheels = folder / "wheels"
        for member in _WHEELS:
            options = ["-q", "--no-deps", *_without_isolation(), "-w", str(wheels)]
            _checked([sys.executable, "-m", "pip", "wheel", *options, str(ROOT / member)], folder)
        venv.create(folder / "venv", with_pip=True, symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        self._install_or_skip([*map(str, wheels.glob("*.whl")), *_TOOLS])

    def install(self, project: Path, *requirements: str) -> None:
        """Install a project as its author would, and what it needs from the index."""
        if requirements:
            self._install_or_skip(requirements)
        self.run("-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", str(project))

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        """What the environment's interpreter says; it sees nothing of ours but what is installed.

        Raises:
            AssertionError: It failed; says how.
        """
        return _checked([str(self.python), *arguments], cwd or self._folder)

    def start(self, *arguments: str, cwd: Path, output: Path) -> subprocess.Popen[bytes]:
        """Start the interpreter in the background; all that it says goes to a file."""
        with output.open("wb") as file:
            return subprocess.Popen(
                [str(self.python), *arguments],
                cwd=cwd,
                env=_environment(cwd),
                stdout=file,
                stderr=file,
            )

    def _install_or_skip(self, requirements: Sequence[str]) -> None:
        result = _run([str(self.python), "-m", "pip", "install", "-q", *requirements], self._folder)
        if result.returncode and "No matching distribution" in result.stderr:
            pytest.skip(f"no package index within reach for {', '.join(requirements)}")
        assert result.returncode == 0, result.stderr


def _without_isolation() -> list[str]:
    """What builds is here already, in the environment of a developer."""
    return ["--no-build-isolation"] if shutil.which("hatchling", path=_beside()) else []


def _beside() -> str:
    return str(Path(sys.executable).parent)


def _run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=_environment(cwd),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )


def _environment(cwd: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "TRANSSHIP"))
    }
    return {**kept, "XDG_CACHE_HOME": str(cwd / "cache"), "PIP_CACHE_DIR": _pip_cache()}


def _pip_cache() -> str:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return os.environ.get("PIP_CACHE_DIR") or str(Path(home) / "pip")


def _checked(command: list[str], cwd: Path) -> str:
    result = _run(command, cwd)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
