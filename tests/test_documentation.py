"""What is in the code is in the documentation, and what the documentation says is so.

The pages are read as Sphinx reads them, with the parts that are made from the code filled in.
Sphinx itself is not needed.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import pytest
import trio
from channel_pairs import unix_pair
from qemu_peer.find import NO_QEMU, QemuBinary, qemu_binaries
from tls_pair import destination_security, secure_both, source_security

from transship import abc, errors, testing, toolkit
from transship.abc import (
    channel as abc_channel,
    compression as abc_compression,
    section as abc_section,
    transport as abc_transport,
)
from transship.abc.settings import Capability
from transship.abc.transport import Address
from transship.cli import addresses
from transship.cli.exits import ExitCode
from transship.cli.main import main
from transship.control.qapi.declaring import Object
from transship.control.server import limits as server_limits
from transship.engine.status import MigrationStatus
from transship.errors import LocalError, MigrationError, PluginError
from transship.guests import choosing
from transship.guests.choosing import dirty_log_for
from transship.guests.spec import parse_guest
from transship.plugin import discovery, hookspecs, selection, tracing
from transship.testing import pytest_plugin
from transship.testing.memory_device import MemoryDevice
from transship.tls import RulesFile, failures
from transship.wire import limits
from transship.wire.grammar import GRAMMAR, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
VERB_MODULES = Path(main.get_command.__code__.co_filename).parent / "verbs"
PAGES = sorted(
    [
        *(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
        *ROOT.glob("*.md"),
        *ROOT.glob("plugins/*/README.md"),
        ROOT / "newsfragments" / "README.md",
    ]
)
PATIENCE_S = 60.0


def _load_extension() -> Any:
    folder = DOCS / "_ext" / "code_reference"
    found = importlib.util.spec_from_file_location(
        "code_reference", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["code_reference"] = module
    found.loader.exec_module(module)
    return module


reference = _load_extension()


def page(name: str) -> str:
    """A page as Sphinx gets to see it."""
    text: str = reference.fill((DOCS / name).read_text(encoding="utf-8"))
    return text


def section_of(text: str, title: str) -> str:
    """What is below a heading, up to the next one of the same level."""
    found = re.search(rf"^(#+) {re.escape(title)}$(.*?)(?=^\1 |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no heading {title!r}"
    return found[2]


# --- the reference is complete --------------------------------------------------------------------


def verbs() -> dict[str, click.Command]:
    names = sorted(module.stem for module in VERB_MODULES.glob("*.py") if module.stem != "__init__")
    found = {}
    for name in names:
        command = main.get_command(click.Context(main), name)
        assert command is not None, f"{name} is a module of verbs, and no verb"
        found[name] = command
    return found


@pytest.mark.parametrize("name", list(verbs()))
def test_verb_is_documented_with_each_option_and_examples(name: str) -> None:
    command = verbs()[name]
    documented = section_of(page("reference/cli.md"), name)
    assert command.help, f"{name} has no help"
    assert command.help.split("\n")[0] in documented
    assert f"$ transship {name}" in documented
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"
            for option in parameter.opts:
                assert f"`{option}" in documented or f", {option}" in documented
        else:
            assert parameter.human_readable_name in documented


def test_help_lists_each_verb() -> None:
    assert sorted(main.list_commands(click.Context(main))) == list(verbs())


@pytest.mark.parametrize(
    "variable",
    [
        selection.VARIABLE,
        selection.DENY_VARIABLE,
        selection.FILE_VARIABLE,
        tracing.VARIABLE,
    ],
)
def test_environment_variable_is_documented(variable: str) -> None:
    assert f"`{variable}`" in section_of(page("reference/cli.md"), "Environment")


HOOKS = [
    hook
    for family in vars(hookspecs).values()
    if inspect.isclass(family) and family.__module__ == hookspecs.__name__
    for name, hook in vars(family).items()
    if inspect.isfunction(hook) and not name.startswith("_")
]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_hook_is_documented_with_its_signature(hook: Any) -> None:
    documented = section_of(page("reference/hooks.md"), hook.__name__)
    assert hook.__doc__, f"{hook.__name__} has no docstring"
    assert hook.__doc__.split("\n")[0] in documented
    names = [name for name in inspect.signature(hook).parameters if name != "self"]
    written = ast.unparse(ast.parse(re.search(r"^def .*$", documented, re.MULTILINE)[0]))  # type: ignore[index]
    arguments = re.search(r"\((.*)\)", written)
    assert arguments is not None
    assert [one.split(":")[0].strip() for one in arguments[1].split(",") if one] == names
    explained = {entry for entry, _ in reference.docstrings.section(hook, "Args")}
    assert explained == set(names)


ERRORS = [
    error
    for error in vars(errors).values()
    if inspect.isclass(error) and issubclass(error, MigrationError)
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_error_is_documented_and_drawn(error: type[MigrationError]) -> None:
    documented = page("reference/errors.md")
    assert error.__doc__, f"{error.__name__} has no docstring"
    assert f"| `{error.__name__}` | {reference.docstrings.first_sentence(error)}" in documented
    assert re.search(rf"(─ |^){error.__name__}$", documented, re.MULTILINE)
    assert re.search(rf"(─ |^ *){error.__name__}\b", errors.__doc__ or "", re.MULTILINE)


def test_errors_outside_the_tree_do_not_exist() -> None:
    def below(kind: type[MigrationError]) -> set[type[MigrationError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    def is_public(kind: type[MigrationError]) -> bool:
        package, *modules = kind.__module__.split(".")
        return package.startswith("transship") and not any(one.startswith("_") for one in modules)

    assert not {kind for kind in below(MigrationError) - set(ERRORS) if is_public(kind)}


@pytest.mark.parametrize("code", list(ExitCode), ids=lambda code: code.name)
def test_exit_code_is_documented(code: ExitCode) -> None:
    row = rf"^\| {int(code)} \| `{code.name}` \| \S.* \|$"
    for name in ("reference/errors.md", "reference/cli.md"):
        assert re.search(row, page(name), re.MULTILINE), f"{code.name} in {name}"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(limits).items()
        if name.isupper() and isinstance(value, int) and name not in reference.limits.UNITS
    ],
)
def test_limit_is_documented_with_its_value_and_reason(name: str) -> None:
    row = rf"^\| `{name}` \| [\d ]+\S* ?\S* \| \S.* \|$"
    assert re.search(row, page("reference/stream-limits.md"), re.MULTILINE)


@pytest.mark.parametrize("status", list(MigrationStatus), ids=lambda status: status.value)
def test_status_is_explained_and_in_the_table(status: MigrationStatus) -> None:
    documented = page("reference/statuses.md")
    assert re.search(rf"^`{status.value}`\n: \S", documented, re.MULTILINE)
    assert f"\n| `{status.value}` |" in documented


@pytest.mark.parametrize("place", list(Place), ids=lambda place: place.name)
def test_place_in_a_stream_is_documented_with_all_that_may_follow(place: Place) -> None:
    documented = page("reference/grammar.md")
    for event, after in GRAMMAR[place].items():
        assert f"| {place.value} | `{event.__name__}` | {after.value} |" in documented
        assert re.search(rf"^\| `{event.__name__}` \| \S", documented, re.MULTILINE)
    assert f"| {place.value} |" in documented


@pytest.mark.parametrize("capability", list(Capability))
def test_capability_is_documented_with_its_meaning(capability: Capability) -> None:
    documented = section_of(page("reference/qmp.md"), "Capabilities")
    row = rf"^\| `{capability.value}` \| (yes|no) \| \S.* \|$"
    assert re.search(row, documented, re.MULTILINE)


def test_object_does_not_say_what_the_base_of_all_objects_says() -> None:
    documented = section_of(page("reference/qmp.md"), "Objects")
    inherited = inspect.cleandoc(Object.__doc__ or "").split("\n")[0]
    assert inherited
    assert inherited not in documented


def test_number_of_clients_is_documented() -> None:
    assert f"At most {server_limits.CLIENTS} clients" in page("reference/qmp.md")


@pytest.mark.parametrize(
    "project", sorted(ROOT.glob("plugins/*/pyproject.toml")), ids=lambda path: path.parent.name
)
def test_distribution_is_documented_with_its_entry_points(project: Path) -> None:
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    documented = page("reference/distributions.md")
    for group, points in declared["entry-points"].items():
        for name in points:
            assert re.search(
                rf"^\| `{declared['name']}` \| `\w+` \| `{group}` \| `{re.escape(name)}` \|",
                documented,
                re.MULTILINE,
            )


def test_function_that_declares_a_field_is_documented() -> None:
    documented = page("reference/device-state.md")
    for name, maker in reference.fields.makers().items():
        assert maker.__doc__, f"{name} has no docstring"
        assert f"| `{name}(" in documented
    for name in reference.fields.scalars():
        assert f"`{name}`" in documented


OF_COMPRESSION = frozenset(
    {
        *("Compression", "Compressor", "Decompressor"),
        *("COMPRESSION_CHECKS", "MakeMethod", "check_compression"),
        *("CompressionConformance", "CompressionPlugin"),
    }
)
"""What only the author of a method of compression needs; it has a page of its own."""


OF_SECTIONS = frozenset(
    {
        *("FakeGuest", "GuestWrite", "GoldenSection", "SavedRecord", "SectionCase", "StateOf"),
        *("LIVE_SECTION_CHECKS", "MakeGuest", "MakeSection", "SECTION_CHECKS", "check_section"),
        "ram_and_devices",
        *("LiveSectionConformance", "SectionConformance", "SectionPlugin"),
        *(
            "Section",
            "SectionSet",
            "Segments",
            "Body",
            "ChannelWork",
            "ChannelParsing",
            "FileWork",
            "RemoteWork",
        ),
        *("FromDescriptor", "LiveCounters", "Pending"),
    }
)
"""The same for the author of a section."""

OF_DISKS = frozenset(
    {"BLOCK_DEVICE_CHECKS", "BlockDeviceConformance", "OpenDevice", "check_block_device"}
)
"""The same for the author of a kind of disks."""


def _public_names() -> set[str]:
    """What the author of a plugin may import, modules of the contracts included."""
    names = {*toolkit.__all__, *testing.__all__, *pytest_plugin.__all__}
    for module in (abc_channel, abc_compression, abc_section, abc_transport):
        names |= {
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and not isinstance(value, TypeVar)
            and (
                getattr(value, "__module__", None) == module.__name__
                or (name in abc.__all__ and value is vars(abc)[name])
            )
        }
    return names


def test_public_names_are_looked_for() -> None:
    assert {"Channel", "ReturnPath", "Listener", "Address", "Options"} <= _public_names()
    assert {"Incoming", "Outgoing", "SocketListener", "check_listener"} <= _public_names()
    assert {"TransportConformance", "TransportPlugin"} <= _public_names()
    assert _public_names() > OF_COMPRESSION | OF_SECTIONS | OF_DISKS


@pytest.mark.parametrize("name", sorted(_public_names()))
def test_name_that_a_plugin_may_use_is_documented(name: str) -> None:
    kind = "compression" if name in OF_COMPRESSION else "channels"
    kind = "sections" if name in OF_SECTIONS else kind
    kind = "disks" if name in OF_DISKS else kind
    assert section_of(page(f"reference/{kind}.md"), name).strip()


@pytest.mark.parametrize(
    "kind",
    [
        abc_channel.Channel,
        abc_channel.ReturnPath,
        abc_transport.Address,
        abc_transport.Listener,
        toolkit.SocketChannel,
        toolkit.SocketListener,
    ],
    ids=lambda kind: kind.__name__,
)
def test_method_of_a_transport_is_documented_with_its_signature(kind: type) -> None:
    documented = section_of(page("reference/channels.md"), kind.__name__)
    for name, member in vars(kind).items():
        is_slot = inspect.ismemberdescriptor(member)
        if not name.startswith("_") and not is_slot:
            text = section_of(documented, f"{kind.__name__}.{name}")
            assert f"def {name}(" in text
            assert inspect.getdoc(member), f"{kind.__name__}.{name} has no docstring"
            assert reference.docstrings.plain(inspect.getdoc(member)).split("\n")[0] in text


def test_capability_is_in_the_table_of_the_guide() -> None:
    documented = section_of(page("how-to/write-a-transport.md"), "Capabilities")
    rows = re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE)
    assert sorted(rows) == sorted(kind.__name__ for kind in abc_channel.CHANNEL_CAPABILITIES)


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        (pytest_plugin.ChannelConformance, "channels"),
        (pytest_plugin.TransportPluginConformance, "channels"),
        (pytest_plugin.TransportConformance, "channels"),
        (pytest_plugin.ListeningTransportConformance, "channels"),
        (pytest_plugin.StoredTransportConformance, "channels"),
        (pytest_plugin.CompressionConformance, "compression"),
        (pytest_plugin.SectionConformance, "sections"),
        (pytest_plugin.LiveSectionConformance, "sections"),
    ],
)
def test_conformance_class_is_documented_with_its_fixtures_and_tests(
    kind: type, where: str
) -> None:
    documented = section_of(page(f"reference/{where}.md"), kind.__name__)
    for name in vars(kind):
        if not name.startswith("_") and name != "pytestmark":
            assert f"\n| `{name}` | " in documented


def test_marker_that_nothing_fills_is_an_error() -> None:
    with pytest.raises(KeyError, match="no such thing"):
        reference.fill("<!-- from the code: no such thing -->")


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(_filled(path))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{path.relative_to(ROOT)} links to {target}"
        if anchor:
            assert anchor in _anchors(_filled(linked)), f"{target} has no such heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_included_files_exist(path: Path) -> None:
    for file in re.findall(r"^```\{literalinclude\} (\S+)$", path.read_text(), re.MULTILINE):
        assert (path.parent / file).is_file()


def _filled(path: Path) -> str:
    text: str = reference.fill(path.read_text(encoding="utf-8"))
    return text


def _without_code(text: str) -> str:
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


# --- commands -------------------------------------------------------------------------------------


def console(text: str) -> list[str]:
    """The commands of a page's console blocks, continued lines joined."""
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without pipes, redirections and variables before it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            while words and re.match(r"\w+=", words[0]):
                del words[0]
            if words:
                yield words
            words = []
        else:
            words.append(word)


DOCUMENTED_LINES = [
    pytest.param(line, id=f"{path.relative_to(ROOT)}-{number}")
    for path in PAGES
    for number, line in enumerate(console(_filled(path)))
]


@pytest.mark.parametrize("line", DOCUMENTED_LINES)
def test_documented_command_is_accepted_by_the_command_line(
    line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a disk that is not there is made
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "transship-websocket" / "src"))
    # Files that the reader has, and this test has not.
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, context: value)
    for program, *arguments in simple_commands(line):
        if program == "transship":
            _parse(arguments)
        elif program == "make":
            assert arguments[0] in _make_targets(), f"there is no `make {arguments[0]}`"


def _parse(arguments: list[str]) -> None:
    if "--help" in arguments or "--version" in arguments:
        return
    verb, *rest = arguments
    assert verb in verbs(), f"there is no verb {verb!r}"
    context = verbs()[verb].make_context(verb, list(rest))
    for name in ("uri", "incoming", "migrate_to"):
        uri = context.params.get(name)
        if uri is not None:
            _check_uri(uri, is_incoming=name == "incoming" or verb == "receive")
    if "guest" in context.params and not context.params["guest"].startswith(("stored:", "mym")):
        parse_guest(
            context.params["guest"], incoming=True, open_device=lambda uri: MemoryDevice(1 << 20)
        )


def _check_uri(text: str, *, is_incoming: bool) -> None:
    uri, options = addresses.target(text, {})
    address = Address.parse(uri)
    if address.scheme in ("ws", "wss"):  # of the tutorial, which is not installed here
        grammar = importlib.import_module("transship_websocket._address")
        parse = grammar.parse_incoming if is_incoming else grammar.parse_outgoing
        assert parse(address, {}).scheme == address.scheme
        return
    try:
        transport = discovery.find_transport(address.scheme)
    except PluginError:
        assert address.scheme in ("tcp", "unix", "rdma")
        return
    (transport.start_incoming if is_incoming else transport.start_outgoing)(address, options)


def _make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):", text, re.MULTILINE))


def test_readme_shows_the_two_commands() -> None:
    assert {"make demo", "make test"} <= set(console((ROOT / "README.md").read_text()))


# --- the tutorials are followed -------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for sockets, and with the examples in it."""
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        for example in EXAMPLES.glob("*.py"):
            shutil.copy(example, name)
        yield Path(name)


@contextmanager
def started(line: str, folder: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command line of a page, as a process that is ended with the block."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": beside, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finished(line: str, folder: Path) -> str:
    """What a command line of a page prints."""
    with started(line, folder) as process:
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, f"{line}: {output}"
    return output


def wait_for_line(path: Path, beginning: str, line: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while beginning not in path.read_text():
        assert time.monotonic() < deadline, f"{line}: {path.read_text()}"
        time.sleep(0.02)


def test_first_migration_goes_as_the_tutorial_says(folder: Path) -> None:
    pytest.importorskip("transship_unix")
    pytest.importorskip("transship_ram")
    pytest.importorskip("transship_devstate")
    lines = [line for line in console(page("tutorials/first-migration.md")) if " run " in line]
    lines = [line.replace("unix:/tmp/", f"unix:{folder}/") for line in lines]
    assert len(lines) == 4
    for (waiting, leaving), verdict in zip(
        (lines[:2], lines[2:]), ("consistent: yes", "wrong: 0"), strict=True
    ):
        said = folder / "said"
        with said.open("w") as stderr, started(waiting, folder, stderr=stderr) as destination:
            wait_for_line(said, "listening", waiting)
            assert "completed" in finished(leaving, folder)
            os.killpg(destination.pid, signal.SIGINT)
            output, _ = destination.communicate(timeout=PATIENCE_S)
        assert verdict in output


def test_ledger_moves_within_a_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transship_unix")
    pytest.importorskip("transship_ram")
    pytest.importorskip("transship_devstate")
    monkeypatch.syspath_prepend(str(folder))
    move = importlib.import_module("move")
    try:
        report = trio.run(move.main, f"unix:{folder}/ledger.sock")
    finally:
        del sys.modules["move"], sys.modules["ledger"]
    assert report["wrong"] == 0
    assert report["migrations"] == 1
    assert report["entries"] > 100


@pytest.mark.parametrize("log", ["write-protect", "comparing"])
def test_machine_that_another_process_writes_moves_as_the_guide_says(
    folder: Path,
    log: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("transship_unix")
    pytest.importorskip("transship_ram")
    pytest.importorskip("transship_devstate")
    if dirty_log_for([]).name != "write-protect":
        if log == "write-protect":
            pytest.skip("this kernel does not protect memory for us")
    elif log == "comparing":
        monkeypatch.setattr(choosing, "check_write_protection", _refuse)
    monkeypatch.syspath_prepend(str(folder))
    example = importlib.import_module("outside_writer")
    try:
        report = trio.run(example.main, f"unix:{folder}/outside.sock")
    finally:
        del sys.modules["outside_writer"]
    assert f"the dirty log was {log}" in capsys.readouterr().out
    assert report["numbers"] > 100
    assert (report["wrong"], report["spare_bytes"]) == (0, 0)


def _refuse() -> None:
    raise LocalError("not on this kernel")


def test_costs_of_dirty_logs_are_measured_as_the_guide_says(folder: Path) -> None:
    (line,) = (line for line in console(page("how-to/track-dirty-pages.md")) if "cost_of" in line)
    measured = finished(f"{line} 4", folder)
    for name in ("marked", "comparing", "write-protect"):
        assert measured.count(f"  {name}") == 2


# --- the plugins of the guides work ---------------------------------------------------------------


class GuidesPlugin:
    """A guide's plugin, found as if it were installed.

    Args:
        folder: Empty; gets a copy of the files, and what an installation would write.
        name: Its distribution.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.files = folder / name
        shutil.copytree(EXAMPLES / name, self.files, ignore=shutil.ignore_patterns("__pycache__"))
        self.project = tomllib.loads((self.files / "pyproject.toml").read_text())["project"]
        self._site = folder / "site"
        self._cache = folder / "cache"
        name, version = self.project["name"], self.project["version"]
        information = self._site / f"{name.replace('-', '_')}-{version}.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        (information / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{point} = {value}\n" for point, value in points.items())
                for group, points in self.project["entry-points"].items()
            )
        )

    @property
    def environment(self) -> dict[str, str]:
        """Lets a process find it."""
        path = [str(self._site), str(self.files / "src"), os.environ.get("PYTHONPATH", "")]
        return {
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "XDG_CACHE_HOME": str(self._cache),
        }

    def run(self, *arguments: str) -> str:
        """What ``python -m`` prints with it."""
        result = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.files,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


GUIDES = {
    "transship-loop": ("write-a-transport.md", pytest_plugin.ListeningTransportConformance),
    "transship-bz2": ("write-a-compression-method.md", pytest_plugin.CompressionConformance),
}

each_guide = pytest.mark.parametrize("name", list(GUIDES))


@pytest.mark.parametrize(
    ("name", "hooks"),
    [
        ("transship-loop", ["channel_capabilities", "start_incoming", "start_outgoing"]),
        ("transship-bz2", ["create_compression"]),
    ],
)
def test_plugin_of_a_guide_is_loaded(tmp_path: Path, name: str, hooks: list[str]) -> None:
    plugin = GuidesPlugin(tmp_path, name)
    plugins = json.loads(plugin.run("transship", "plugins", "--json"))["plugins"]
    (found,) = [one for one in plugins if one["distribution"] == name]
    assert found["status"] == "ok"
    assert found["hooks"] == hooks


@each_guide
def test_plugin_of_a_guide_is_pinned_as_ours_are(tmp_path: Path, name: str) -> None:
    project = GuidesPlugin(tmp_path, name).project
    ours = tomllib.loads((ROOT / "plugins" / "unix" / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ours["dependencies"]
    assert project["requires-python"] == ours["requires-python"]


@each_guide
def test_plugin_of_a_guide_conforms(tmp_path: Path, name: str) -> None:
    _, conformance = GUIDES[name]
    checks = [one for one in dir(conformance) if "test_" in one]
    output = GuidesPlugin(tmp_path, name).run("pytest", "-q", "-p", "no:cacheprovider")
    assert re.search(rf"^{len(checks)} passed", output, re.MULTILINE), output


def test_guest_moves_over_the_transport_of_the_guide(tmp_path: Path) -> None:
    pytest.importorskip("transship_ram")
    pytest.importorskip("transship_devstate")
    (line,) = [line for line in console(page("how-to/write-a-transport.md")) if " demo " in line]
    # Another run of this test may be under way on this machine.
    line = line.replace("loop:demo", f"loop:demo-{os.getpid()}")
    loop = GuidesPlugin(tmp_path, "transship-loop")
    report = json.loads(loop.run(*shlex.split(line), "--ram", "8MiB", "--json"))
    assert report["guest"]["consistent"] is True


def test_checkpoint_is_copied_with_the_method_of_the_guide(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transship_unix")
    pytest.importorskip("transship_ram")
    for name, value in GuidesPlugin(tmp_path, "transship-bz2").environment.items():
        monkeypatch.setenv(name, value)
    lines = [
        line.replace("/tmp/", f"{folder}/").removesuffix(" &")
        for line in console(page("how-to/write-a-compression-method.md"))
        if line.startswith("transship ")
    ]
    assert [line.split()[1] for line in lines] == ["receive", "run", "receive", "send"]
    for number in (0, 2):
        receive, move = lines[number : number + 2]
        said = folder / f"said-{number}"
        with said.open("w") as stderr, started(receive, folder, stderr=stderr) as receiver:
            wait_for_line(said, "listening", receive)
            assert "completed" in finished(move, folder)
            output, _ = receiver.communicate(timeout=PATIENCE_S)
            assert receiver.returncode == 0, output
    original, copy = (
        {path.name: path.read_bytes() for path in (folder / name / "ram").iterdir()}
        for name in ("vm", "copy")
    )
    assert any(map(any, original.values()))
    assert original == copy


@each_guide
def test_guide_shows_every_file_of_its_plugin(tmp_path: Path, name: str) -> None:
    guide, _ = GUIDES[name]
    text = (DOCS / "how-to" / guide).read_text(encoding="utf-8")
    files = GuidesPlugin(tmp_path, name).files
    for path in files.rglob("*.*"):
        assert f" {path.name}" in text
        if path.is_file() and path.name not in ("__init__.py", "py.typed"):
            included = f"../examples/{path.relative_to(files.parent)}"
            assert f"```{{literalinclude}} {included}\n" in text


# --- the tutorial with a device is followed -------------------------------------------------------


def test_clock_of_the_tutorial_passes_the_kit(tmp_path: Path) -> None:
    pytest.importorskip("transship_devstate")
    clock = tmp_path / "clock"
    shutil.copytree(EXAMPLES / "real-time-clock", clock)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(clock)],
        cwd=clock,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    checks = [one for one in dir(pytest_plugin.SectionConformance) if "test_" in one]
    assert re.search(rf"^{2 * len(checks) + 1} passed", result.stdout, re.MULTILINE), result.stdout
    (line,) = [
        line
        for line in console(page("tutorials/write-a-device-state-section.md"))
        if line.startswith("python -c")
    ]
    saved = subprocess.run(
        [sys.executable, *shlex.split(line)[1:]],
        cwd=clock,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert re.fullmatch(r"[0-9a-f]{8}00\n", saved.stdout)


# --- the tutorial with QEMU is followed -----------------------------------------------------------


@pytest.mark.qemu
@pytest.mark.skipif(not qemu_binaries(), reason=NO_QEMU)
@pytest.mark.parametrize("binary", qemu_binaries(), ids=lambda binary: binary.label)
def test_qemu_guest_goes_through_a_folder_as_the_tutorial_says(
    binary: QemuBinary, folder: Path
) -> None:
    pytest.importorskip("transship_unix")
    pytest.importorskip("transship_ram")
    text = page("tutorials/qemu-guest-in-a-folder.md")
    lines = iter(console(text))
    monitor = re.findall(r"^\(qemu\) (migrate.*)$", text, re.MULTILINE)

    def following(beginning: str) -> str:
        line = next(lines)
        assert line.startswith(beginning)
        return line.replace("qemu-system-x86_64", str(binary.path), 1)

    finished(following("python3 counting_disk.py"), folder)
    with started(following("qemu-system-x86_64"), folder, stdin=subprocess.PIPE) as source:
        _wait_for_count(folder / "first.txt")
        receive = following("transship receive")
        said = folder / "said"
        with said.open("w") as stderr, started(receive, folder, stderr=stderr) as receiver:
            wait_for_line(said, "listening", receive)
            _type(source, *monitor)
            output, _ = receiver.communicate(timeout=PATIENCE_S)
            assert receiver.returncode == 0, output
        _type(source, "quit")
        source.communicate(timeout=PATIENCE_S)
    last = int(finished(following("tail"), folder), 16)
    assert "complete  yes" in finished(following("transship inspect vm"), folder)
    assert int(finished(following("od"), folder).split()[1], 16) in (last, last + 1)
    assert '"i8254"' in finished(following("transship inspect vm --json"), folder)
    with started(following("qemu-system-x86_64"), folder, stdin=subprocess.PIPE) as destination:
        _wait_for_socket(folder / "back.sock")
        assert "completed" in finished(following("transship send"), folder)
        _wait_for_count(folder / "second.txt")
        numbers = finished(following("head"), folder).split()
        _type(destination, "quit")
        destination.communicate(timeout=PATIENCE_S)
    assert [int(number, 16) for number in numbers] == [last + 1, last + 2, last + 3]
    assert next(lines, None) is None


def _type(process: subprocess.Popen[str], *commands: str) -> None:
    assert process.stdin is not None
    for command in commands:
        process.stdin.write(f"{command}\n")
    process.stdin.flush()


def _wait_for_count(path: Path) -> None:
    """Wait until the guest has written three whole numbers."""
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() or path.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline, f"the guest wrote nothing to {path.name}"
        time.sleep(0.05)


def _wait_for_socket(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline, "QEMU does not listen"
        time.sleep(0.05)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
async def test_certificates_made_as_the_guide_says_secure_a_channel(tmp_path: Path) -> None:
    guide = (DOCS / "how-to/secure-a-migration.md").read_text()
    script = guide.partition("```sh\n")[2].partition("```")[0]
    with trio.fail_after(30):
        await trio.run_process(["sh", "-e", "-c", script], cwd=tmp_path, capture_stderr=True)
    rules = guide.partition("```json\n{\n")[2].partition("```")[0]
    (tmp_path / "rules.json").write_text("{" + rules)
    access = RulesFile(tmp_path / "rules.json").read()
    for name in ("b.example.org", "192.0.2.7"):
        async with unix_pair() as pair:
            ends = await secure_both(
                pair,
                source_security(tmp_path / "source", name),
                destination_security(tmp_path / "destination", access),
            )
            assert not any(isinstance(end, MigrationError) for end in ends)


def test_guide_to_tls_has_the_words_of_the_errors() -> None:
    guide = (DOCS / "how-to/secure-a-migration.md").read_text()
    hints = {*failures._HINTS.values(), *failures._CERTIFICATES.values()}
    for beginning in ("what came is not TLS", "it has expired", "replace ca-crl.pem", "set tls-"):
        assert any(hint.startswith(beginning) for hint in hints)
        assert beginning in guide
