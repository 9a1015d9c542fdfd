"""The distributions of this source tree, as their pyproject.toml files say; knows no tool."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Distribution:
    """One folder with a pyproject.toml: the core, or a plugin.

    Attributes:
        folder: Where it lies, as an absolute path.
        project: Its table ``project``.
        build_requires: What its build needs, as PEP 508 requirements.
    """

    folder: Path
    project: dict[str, Any]
    build_requires: list[str]

    @property
    def name(self) -> str:
        return str(self.project["name"])

    @property
    def package(self) -> str:
        """Its import name, with which the names of its wheel and sdist begin too."""
        return self.name.replace("-", "_")

    @property
    def is_plugin(self) -> bool:
        return self.folder.parent.name == "plugins"

    @property
    def is_compiled(self) -> bool:
        """Whether its build runs a C compiler, so that its wheel fits one architecture."""
        return any(requirement_name(each) == "cffi" for each in self.build_requires)

    @property
    def version(self) -> str:
        source = self.folder / "src" / self.package / "_version.py"
        found = re.search(r'^__version__.* = "(.+)"$', source.read_text(), re.MULTILINE)
        if found is None:
            raise ValueError(f"{source} states no version")
        return found[1]

    @property
    def introduction(self) -> str:
        """The first paragraph of its README, without markup."""
        paragraph = (self.folder / "README.md").read_text().split("\n\n")[1]
        unlinked = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", paragraph)
        return " ".join(unlinked.replace("`", "").split())

    @property
    def requirements(self) -> list[str]:
        """What it needs at run time, the core included, the extras not."""
        return list(self.project["dependencies"])


def distributions(root: Path = ROOT) -> list[Distribution]:
    """All of them, the core first and the plugins by name."""
    return [
        _read(path)
        for path in [root / "core/pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml"))]
    ]


def requirement_name(requirement: str) -> str:
    """The distribution that a requirement such as ``numpy >= 2.2`` asks for."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if found is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    return found[0].lower()


def floor(requirement: str) -> str | None:
    """The lowest version that a requirement admits, if it names one."""
    found = re.search(r"(?:>=|~=)\s*([\d.]+)", requirement)
    return found[1] if found else None


def _read(path: Path) -> Distribution:
    document = tomllib.loads(path.read_text())
    return Distribution(path.parent, document["project"], document["build-system"]["requires"])
