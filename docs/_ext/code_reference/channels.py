"""What the author of a plugin implements, builds with and tests with, out of the code."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from transship import abc, disks as images, testing, toolkit
from transship.abc import (
    block_server,
    channel,
    compression,
    disk,
    section as abc_section,
    security as abc_security,
    transport,
)
from transship.testing import (
    channel_checks,
    checking,
    compression_checks,
    disk_checks,
    listener_checks,
    live_section_checks,
    section_case,
    section_checks,
    stored_checks,
)
from transship.toolkit import network_address, network_sockets

from .docstrings import below_assignments, first_sentence, markdown, plain, section, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_HOMES: Final = (
    block_server,
    channel,
    transport,
    disk,
    abc_section,
    checking,
    channel_checks,
    compression_checks,
    disk_checks,
    listener_checks,
    live_section_checks,
    network_address,
    network_sockets,
    section_case,
    section_checks,
    stored_checks,
)
"""Modules whose assignments are documented; a class or a function says itself where it is from."""

_CONFORMANCE: Final = tuple(
    f"transship.testing.conformance.{name}"
    for name in (
        "endurance",
        "block_devices",
        "channels",
        "transport_plugins",
        "transports",
        "stored_transports",
        "compressions",
        "sections",
    )
)
"""Read, not imported: the documentation is made without pytest."""


def contracts() -> str:
    """What a channel is, and what it may be able to do besides."""
    return _items(channel, _own(channel))


def transports() -> str:
    """What a transport deals in."""
    return _items(transport, _own(transport))


def compressions() -> str:
    """What a method of compression is."""
    return _items(compression, _own(compression))


def disks() -> str:
    """What a disk of a guest is, and what holds its bytes."""
    contracts = _items(disk, disk.__all__), _items(block_server, _own(block_server))
    return "\n\n".join(contracts)


def security_of_channels() -> str:
    """What keeps others from reading or forging what goes over a channel."""
    return _items(abc_security, ["ChannelSecurity"])


def security_of_connections() -> str:
    """What does the same for connections to a server of disks."""
    return _items(abc_security, ["ConnectionSecurity", "SecureSession"])


def images_of_disks() -> str:
    """The kinds of disks that the core brings along."""
    return _items(images, images.__all__, with_overrides=True)


def tools() -> str:
    """The toolkit, with what its classes say about the methods that they override."""
    return _items(toolkit, toolkit.__all__, with_overrides=True)


def checks() -> str:
    """The test kit that needs no test framework, for transports."""
    return _items(
        testing,
        [
            name
            for name in testing.__all__
            if not (_is_of_compression(name) or _is_of_disks(name) or _is_of_sections(name))
        ],
    )


def checks_of_compression() -> str:
    """The same for methods of compression."""
    return _items(testing, [name for name in testing.__all__ if _is_of_compression(name)])


def checks_of_disks() -> str:
    """The test kit for what holds the bytes of a disk."""
    return _items(testing, [name for name in testing.__all__ if _is_of_disks(name)])


def conformance_of_disks() -> str:
    """The same as a class for pytest."""
    return _conformance_classes(r"BlockDevice")


def sections() -> str:
    """What a section is."""
    return _items(abc_section, _own(abc_section))


def checks_of_sections() -> str:
    """The same for sections, with the guest to try them on."""
    return _items(testing, [name for name in testing.__all__ if _is_of_sections(name)])


def conformance() -> str:
    """The classes of the test kit for pytest, for transports."""
    return _conformance_classes(r"(?!.*(BlockDevice|Compression|Section))")


def conformance_of_sections() -> str:
    """The same for sections."""
    return _conformance_classes(r".*Section")


def conformance_of_compression() -> str:
    """The same for methods of compression."""
    return _conformance_classes(r"Compression")


def _conformance_classes(pattern: str) -> str:
    return "\n\n".join(_conformance_class(node) for node in _kit() if re.match(pattern, node.name))


def _is_of_compression(name: str) -> bool:
    return name in vars(compression_checks) and name not in vars(checking)


def _is_of_disks(name: str) -> bool:
    return name in vars(disk_checks) and name not in vars(checking)


def _is_of_sections(name: str) -> bool:
    homes = (live_section_checks, section_case, section_checks)
    return name in ("FakeGuest", "GuestWrite") or (
        any(name in vars(home) for home in homes) and name not in vars(checking)
    )


def _kit() -> Iterator[ast.ClassDef]:
    """The public classes of the test kit for pytest."""
    for module in _CONFORMANCE:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node


# --- names, classes, functions, assignments -------------------------------------------------------


def _own(module: ModuleType) -> list[str]:
    """The public names that a module without ``__all__`` defines, in the order of the file."""
    assigned = [name for name in below_assignments(module) if name in abc.__all__]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, TypeVar)
        and (name in assigned or getattr(value, "__module__", None) == module.__name__)
    ]


def _items(module: ModuleType, names: list[str], *, with_overrides: bool = False) -> str:
    return "\n\n".join(_item(name, getattr(module, name), with_overrides) for name in names)


def _item(name: str, value: Any, with_overrides: bool) -> str:
    if inspect.isclass(value):
        if issubclass(value, Enum):
            return _enumeration(name, value)
        return _class(name, value, with_overrides)
    if inspect.isfunction(value):
        return f"### {name}\n\n{_code(_definition(value))}\n\n{markdown(value)}"
    home = next(home for home in _HOMES if name in below_assignments(home))
    parts = [f"### {name}", below_assignments(home)[name]]
    if isinstance(value, tuple):
        rows = [[f"`{check.__name__}`", first_sentence(check)] for check in value]
        parts.append(table(["check", "rule"], rows))
    else:
        parts.insert(1, _code(f"{name} = {_assigned(home, name)}"))
    return "\n\n".join(filter(None, parts))


def _enumeration(name: str, kind: type[Enum]) -> str:
    meanings = below_assignments(sys.modules[kind.__module__], name)
    rows = [[f"`{one.name}`", meanings[one.name]] for one in kind]
    return "\n\n".join([f"### {name}", markdown(kind), table(["member", "meaning"], rows)])


def _class(name: str, kind: type, with_overrides: bool) -> str:
    parts = [f"### {name}", _code(_class_line(kind)), markdown(kind), _inherited_arguments(kind)]
    for member, value in vars(kind).items():
        is_new = not any(hasattr(base, member) for base in kind.__bases__)
        if not member.startswith("_") and (is_new or with_overrides):
            parts += _member(name, member, value)
    return "\n\n".join(filter(None, parts))


def _member(class_name: str, name: str, value: object) -> list[str]:
    title = f"#### {class_name}.{name}"
    abstract = "@abstractmethod\n" if getattr(value, "__isabstractmethod__", False) else ""
    match value:
        case property(fget=getter) if getter is not None:
            returns = str(inspect.signature(getter).return_annotation)
            code = f"@property\n{abstract}def {name}(self) -> {returns}"
        case classmethod(__func__=function):
            code = f"@classmethod\n{_definition(function)}"
        case _ if inspect.isfunction(value):
            code = f"{abstract}{_definition(value)}"
        case _:
            return []
    return [title, _code(code), markdown(value)]


def _definition(function: Any) -> str:
    keyword = "async def" if inspect.iscoroutinefunction(function) else "def"
    return f"{keyword} {function.__name__}{_unquoted(inspect.signature(function))}"


def _class_line(kind: type) -> str:
    """How a class is subclassed, or how an object of it is made."""
    is_made = not (inspect.isabstract(kind) or getattr(kind, "_is_protocol", False))
    if is_made:
        made = inspect.signature(kind).replace(return_annotation=inspect.Signature.empty)
        line = f"{kind.__name__}{_unquoted(made)}"
        if not re.search(r"\b_", line):  # what takes something private is made by a function
            return line
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    return f"class {kind.__name__}({bases})"


def _inherited_arguments(kind: type) -> str:
    """The arguments that a class has from a base with another docstring."""
    if section(kind, "Args"):
        return ""
    for base in kind.__mro__[1:-1]:
        found = section(base, "Args")
        if found and {name for name, _ in found} == set(inspect.signature(kind).parameters):
            return "*Args*\n\n" + "\n".join(f"- `{name}`: {text}" for name, text in found)
    return ""


def _unquoted(signature: inspect.Signature) -> str:
    return re.sub(r"ForwardRef\((.*?)\)", r"\1", str(signature).replace("'", ""))


def _assigned(module: ModuleType, name: str) -> str:
    """The expression that a module assigns to a name."""
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=found)], value=value)
                | ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value)
            ) if found == name:
                return ast.unparse(value)
    raise KeyError(name)


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


# --- the conformance classes ----------------------------------------------------------------------


def _conformance_class(node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    parts = [
        f"### {node.name}",
        _code(f"class {node.name}({bases})" if bases else f"class {node.name}"),
        plain(ast.get_docstring(node) or ""),
    ]
    fixtures = [_fixture(one) for one in _methods(node) if _is_marked(one, "pytest.fixture")]
    tests = [_test(one) for one in _methods(node) if one.name.startswith("test_")]
    hooks = [
        [f"`{one.name}`", f"`{_returned(one)}`"]
        for one in _methods(node)
        if _is_marked(one, "property")
    ]
    if fixtures:
        parts.append(table(["fixture", "gives", "override it", "meaning"], fixtures))
    if tests:
        parts.append(table(["test", "check"], tests))
    if hooks:
        parts.append(table(["attribute", "is"], hooks))
    return "\n\n".join(parts)


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            yield one


def _is_marked(function: ast.FunctionDef | ast.AsyncFunctionDef, decorator: str) -> bool:
    return decorator in [ast.unparse(one) for one in function.decorator_list]


def _returned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return ast.unparse(function.returns) if function.returns else ""


def _fixture(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    is_required = any(
        isinstance(one, ast.Raise) and "NotImplementedError" in ast.unparse(one)
        for one in function.body
    )
    used = " and ".join(f"`{one.arg}`" for one in function.args.args if one.arg != "self")
    meaning = plain(ast.get_docstring(function) or "") or f"Made from {used}."
    return [
        f"`{function.name}`",
        f"`{_returned(function)}`",
        "you must" if is_required else "you may",
        meaning,
    ]


def _test(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    called = [
        one.attr
        for one in ast.walk(function)
        if isinstance(one, ast.Attribute) and one.attr.startswith("check_")
    ]
    check = f"`{called[0]}`" if called else "what its name says"
    return [f"`{function.name}`", check]
