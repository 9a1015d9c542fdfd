"""The templates make projects that pass the conformance kit where nothing of this tree is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from transship.testing import pytest_plugin

if TYPE_CHECKING:
    from support.clean_environment import CleanEnvironment

copier = pytest.importorskip("copier", reason="copier, which makes projects out of templates")

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "template"

FILES = {
    "transport": """
        .gitignore
        README.md
        pyproject.toml
        src/transship_carrier/__init__.py
        src/transship_carrier/_address.py
        src/transship_carrier/_transport.py
        src/transship_carrier/plugin.py
        src/transship_carrier/py.typed
        tests/test_address.py
        tests/test_conformance.py
    """,
    "section": """
        .gitignore
        README.md
        pyproject.toml
        src/transship_lamp/__init__.py
        src/transship_lamp/_section.py
        src/transship_lamp/_state.py
        src/transship_lamp/plugin.py
        src/transship_lamp/py.typed
        tests/test_conformance.py
    """,
}
ANSWERS = {"transport": {"scheme": "carrier"}, "section": {"name": "lamp"}}
CONFORMANCE = {
    "transport": pytest_plugin.ListeningTransportConformance,
    "section": pytest_plugin.SectionConformance,
}

CAPABILITIES = {"transport": "blocking, extra-channels, return-path"}

each_template = pytest.mark.parametrize("kind", list(FILES))


def generated(kind: str, folder: Path, **answers: str) -> Path:
    """A project made out of a template."""
    project = folder / "project"
    copier.run_copy(
        str(TEMPLATES / kind), project, data=ANSWERS[kind] | answers, quiet=True, defaults=True
    )
    return project


@each_template
def test_template_makes_these_files(kind: str, tmp_path: Path) -> None:
    project = generated(kind, tmp_path)
    files = sorted(str(path.relative_to(project)) for path in project.rglob("*") if path.is_file())
    assert files == FILES[kind].split()
    for path in project.rglob("*.*"):
        assert not path.is_file() or not re.search(r"{[{%]", path.read_text())


@each_template
def test_project_is_pinned_as_ours_are(kind: str, tmp_path: Path) -> None:
    ours = tomllib.loads((ROOT / "plugins" / "unix" / "pyproject.toml").read_text())["project"]
    theirs = tomllib.loads((generated(kind, tmp_path) / "pyproject.toml").read_text())["project"]
    for key in ("dependencies", "requires-python"):
        assert theirs[key] == ours[key]


@each_template
def test_template_names_its_author(kind: str, tmp_path: Path) -> None:
    project = generated(kind, tmp_path, author="Ada")
    assert 'authors = [{ name = "Ada" }]' in (project / "pyproject.toml").read_text()


@each_template
def test_project_says_what_is_to_be_replaced_in_which_file(kind: str, tmp_path: Path) -> None:
    project = generated(kind, tmp_path)
    _, _, said = (project / "README.md").read_text().partition("## To be replaced\n")
    named = set(re.findall(r"^\| `([^`]+)` \|", said, re.MULTILINE))
    private = {one for one in FILES[kind].split() if re.search(r"/_[a-z]+\.py$", one)}
    assert private < named < set(FILES[kind].split())


@each_template
@pytest.mark.parametrize("name", ["", "Carrier", "1st", "a-b"])
def test_template_refuses_a_name_that_fits_nowhere(kind: str, name: str, tmp_path: Path) -> None:
    question = next(iter(ANSWERS[kind]))
    with pytest.raises(ValueError, match="Lower-case"):
        generated(kind, tmp_path, **{question: name})


@each_template
def test_project_passes_the_kit_without_this_tree(
    kind: str, tmp_path: Path, clean_environment: CleanEnvironment
) -> None:
    project = generated(kind, tmp_path)
    clean_environment.install(project)
    where = clean_environment.run("-c", "import transship; print(transship.__file__)")
    assert "site-packages" in where
    output = clean_environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    checks = [one for one in dir(CONFORMANCE[kind]) if one.startswith("test_")]
    passed = re.search(r"^(\d+) passed", output, re.MULTILINE)
    assert passed, output
    assert int(passed[1]) >= len(checks)
    assert "skipped" not in output
    name = next(iter(ANSWERS[kind].values()))
    listed = clean_environment.run("-m", "transship", "plugins")
    assert re.search(rf"{kind}\s+\w+\s+ok\s+transship-{name}", listed)
    if kind in CAPABILITIES:
        about = clean_environment.run("-m", "transship", "plugins", name)
        assert re.search(rf"^ +capabilities +{CAPABILITIES[kind]}$", about, re.MULTILINE), about
