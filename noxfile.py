"""The project's tasks; `make` calls them, CI calls `make`.

The sessions a developer uses run in `.venv`, which the Makefile sets up. `floors`, `pythons-3.x`
and `subsets` make environments of their own and install built distributions, as a user would.
"""

import logging
import os
import re
import shutil
import sys
import tomllib
from itertools import chain
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "imports", "docs", "test"]
nox.options.default_venv_backend = "none"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"

# nox looks for uv even where no session uses it, and says so as if something were missing.
logging.getLogger("nox").addFilter(lambda record: "uv binary" not in record.getMessage())

ROOT = Path(__file__).parent
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
DISTRIBUTIONS = ["core", *(f"plugins/{name}" for name in PLUGINS)]
INSTALLABLE = ["./core[tui]", *(f"./plugins/{name}" for name in PLUGINS)]
# Sessions without an environment of their own find their tools beside this interpreter.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and layout."""
    session.run("ruff", "check", "--quiet", ".")
    session.run("ruff", "format", "--check", "--quiet", ".")


@nox.session(name="format")
def format_(session: nox.Session) -> None:
    """Ruff: put right what it can."""
    session.run("ruff", "check", "--fix", "--quiet", ".")
    session.run("ruff", "format", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict: the sources together, then each tests folder (their file names repeat)."""
    sources = [f"{folder}/src" for folder in DISTRIBUTIONS]
    session.run("mypy", "--no-error-summary", "noxfile.py", *sources)
    for tests in [*(f"{folder}/tests" for folder in DISTRIBUTIONS), "tests"]:
        if any((ROOT / tests).rglob("*.py")):
            session.run("mypy", "--no-error-summary", tests)
    examples = sorted(map(str, Path("docs/examples").glob("*[!_]")))
    for folder in ["packaging", "docs/_ext", *examples]:
        session.run("mypy", "--no-error-summary", folder)


@nox.session
def imports(session: nox.Session) -> None:
    """Import-linter: who may know whom."""
    session.run("lint-imports", "--no-logo")


@nox.session
def docs(session: nox.Session) -> None:
    """Sphinx, with warnings as errors."""
    session.run(
        "sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html"
    )
    session.log("written: docs/_build/html/index.html")


@nox.session
def test(session: nox.Session) -> None:
    """All tests but the long ones, a file on each core; arguments go to pytest."""
    session.run("pytest", "-n", "auto", "--dist", "loadfile", *session.posargs)


@nox.session
def sanitize(session: nox.Session) -> None:
    """The tests of the kernels, with the C code built under AddressSanitizer and UBSan."""
    built = _folder(session) / "sanitized"
    shutil.rmtree(built, ignore_errors=True)
    # The sources are copied: an editable installation shares its build folder with them.
    sources = built / "sources"
    shutil.copytree("plugins/accel", sources, ignore=shutil.ignore_patterns("build", "*.so"))
    session.run(
        *("python", "-m", "pip", "install", "-qq", "--no-build-isolation", "--no-deps"),
        *("--target", str(built / "site"), str(sources)),
        env={"TRANSSHIP_ACCEL_SANITIZE": "1"},
    )
    runtime = str(session.run("cc", "-print-file-name=libasan.so", silent=True, external=True))
    session.run(
        *("pytest", "-q", "-p", "no:cacheprovider", "-n", "auto"),
        *("core/tests/memory", "plugins/accel/tests", "plugins/ram/tests/test_packets.py"),
        env={
            "PYTHONPATH": str(built / "site"),
            "LD_PRELOAD": runtime.strip(),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
            "TRANSSHIP_SANITIZED": "1",
        },
    )


@nox.session
def bench(session: nox.Session) -> None:
    """Compare with QEMU; arguments are keys of races."""
    session.run("python", "-m", "bench", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def soak(session: nox.Session) -> None:
    """The long tests; arguments go to pytest."""
    session.run("pytest", "-m", "soak", *session.posargs)


@nox.session
def packages(session: nox.Session) -> None:
    """Build and test wheels, sdists, Debian packages; `wheels` or `debs` alone, if named."""
    session.run("python", "packaging", *session.posargs)


@nox.session(python=PYTHONS, venv_backend="virtualenv")
def pythons(session: nox.Session) -> None:
    """All tests against the built distributions, on one Python version."""
    session.install("--group", "test", *INSTALLABLE)
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[0], venv_backend="virtualenv")
def floors(session: nox.Session) -> None:
    """All tests with the lowest version of each dependency that we declare."""
    floors_file = _folder(session) / "floors.txt"
    floors_file.write_text("".join(f"{line}\n" for line in sorted(_lowest_versions())))
    session.install("--group", "test", "-c", str(floors_file), *INSTALLABLE)
    session.run("pytest", *session.posargs)


@nox.session(venv_backend="virtualenv")
def subsets(session: nox.Session) -> None:
    """The core with none, one, and all but one of the plugins.

    Without plugins the core's tests must pass, with one plugin that plugin's tests; and always
    `transship plugins` must name what is there.
    """
    wheels = _folder(session) / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    session.install("--group", "test", "./core")
    folders = [f"./plugins/{name}" for name in PLUGINS]
    session.run("pip", "wheel", "-q", "--no-deps", "-w", str(wheels), *folders, silent=True)
    none: list[str] = []
    for subset in [none, *([one] for one in PLUGINS), *(_all_but(one) for one in PLUGINS)]:
        session.log(f"core with {', '.join(subset) or 'no plugin'}")
        absent = ["numpy", *(f"transship-{name}" for name in PLUGINS)]
        session.run("pip", "uninstall", "-qq", "-y", *absent, log=False)
        for name in subset:
            wheel = next(wheels.glob(f"transship_{name}-*.whl"))
            session.run("pip", "install", "-q", str(wheel), log=False)
        session.run("transship", "--help", silent=True)
        listed = str(session.run("transship", "plugins", "--json", silent=True))
        missing = [name for name in subset if f'"transship-{name}"' not in listed]
        if missing:
            session.error(f"`transship plugins` does not name {', '.join(missing)}")
        if not subset:
            session.run("pytest", "-q", "core/tests")
        elif len(subset) == 1:
            session.run("pytest", "-q", f"plugins/{subset[0]}/tests")


def _folder(session: nox.Session) -> Path:
    """A folder of the session, in which tests do not make theirs: its path is long for sockets."""
    folder = Path(session.create_tmp()).resolve()
    del session.env["TMPDIR"]
    return folder


def _all_but(left_out: str) -> list[str]:
    return [name for name in PLUGINS if name != left_out]


def _lowest_versions() -> set[str]:
    """Reads `name >= version` out of every distribution as the constraint `name == version`."""
    constraints = set()
    for folder in DISTRIBUTIONS:
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        extras = project.get("optional-dependencies", {}).values()
        for requirement in chain(project["dependencies"], *extras):
            if floor := re.fullmatch(r"([\w.-]+) >= ([\d.]+)", requirement):
                constraints.add(f"{floor[1]} == {floor[2]}")
    return constraints
