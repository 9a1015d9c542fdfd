"""The example of a third party's transport, installed where nothing of this tree is."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.clean_environment import CleanEnvironment

EXAMPLE = Path(__file__).parents[1] / "examples" / "transship-websocket"

MAKE_CERTIFICATES = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from certificates import make_certificates
print(*make_certificates(Path(sys.argv[1])), sep="\\n")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, clean_environment: CleanEnvironment) -> Path:
    """A copy of its files, installed."""
    project = tmp_path_factory.mktemp("example") / EXAMPLE.name
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    clean_environment.install(project, "trio-websocket >= 0.12", "trustme >= 1.2")
    return project


def test_example_passes_the_kit_and_its_own_tests(
    project: Path, clean_environment: CleanEnvironment
) -> None:
    output = clean_environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert re.search(r"^\d+ passed", output, re.MULTILINE), output
    assert "skipped" not in output


def test_both_schemes_are_found(project: Path, clean_environment: CleanEnvironment) -> None:
    listed = clean_environment.run("-m", "transship", "plugins", cwd=project)
    for scheme in ("ws", "wss"):
        assert re.search(rf"transport\s+{scheme}\s+ok\s+transship-websocket", listed)


def test_guest_moves_over_a_websocket(project: Path, clean_environment: CleanEnvironment) -> None:
    _require_arrival(clean_environment, project, "ws:127.0.0.1:0")


def test_memory_moves_over_several_websockets(
    project: Path, clean_environment: CleanEnvironment, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    receiving = clean_environment.start(
        *("-m", "transship", "receive", "ws:127.0.0.1:0", "--to", "vm", "--cap", "multifd"),
        cwd=tmp_path,
        output=said,
    )
    try:
        uri = _listening(said)
        source = ("-m", "transship", "run", "synthetic:ram=32MiB", "--migrate-to", uri, "--json")
        output = clean_environment.run(
            *source, "--after", "200ms", "--cap", "multifd", cwd=tmp_path
        )
        assert '"completed"' in output
        assert receiving.wait(60) == 0, said.read_text()
    finally:
        receiving.kill()
        receiving.wait()
    sizes = [image.stat().st_size for image in (tmp_path / "vm" / "ram").iterdir()]
    assert max(sizes) == 32 << 20


def _listening(said: Path) -> str:
    """The address that somebody says to listen on."""
    for _ in range(600):
        if found := re.search(r"^listening (\S+)$", said.read_text(), re.MULTILINE):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(said.read_text())


def test_guest_moves_over_a_secure_websocket(
    project: Path,
    clean_environment: CleanEnvironment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = clean_environment.run("-c", MAKE_CERTIFICATES, str(tmp_path), cwd=project)
    authority, host = made.split()
    monkeypatch.setenv("SSL_CERT_FILE", authority)
    _require_arrival(clean_environment, project, f"wss:127.0.0.1:0,certificate={host}")


def _require_arrival(environment: CleanEnvironment, project: Path, uri: str) -> None:
    command = ("-m", "transship", "demo", "--transport", uri, "--ram", "32MiB", "--json")
    report = json.loads(environment.run(*command, cwd=project))
    assert report["guest"]["consistent"] is True
    assert report["status"] == "completed"
