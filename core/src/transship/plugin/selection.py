"""Which of the installed plugins may load: what an administrator and the environment say.

Every list narrows what the others leave, so nobody's variable undoes what the administrator's file
says: a plugin loads if each list of those allowed has it, and no list of those denied. What cannot
be read lets nothing load.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

from transship.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VARIABLE: Final = "TRANSSHIP_PLUGINS"
"""Names the plugins that may load, separated by commas. Unset: all; set to nothing: none."""

DENY_VARIABLE: Final = "TRANSSHIP_PLUGINS_DENY"
"""Names plugins that may not load, separated by commas."""

FILE_VARIABLE: Final = "TRANSSHIP_PLUGINS_FILE"
"""Another file like the administrator's, read beside it."""

SYSTEM_FILE: Final = "/etc/transship/plugins.toml"
"""The administrator's file; without it all that are installed may load."""

KINDS: Final = ("transports", "compressions", "sections", "block-devices", "kernels")
"""What may stand before the slash of a name; the entry point group behind its first dot."""

_LARGEST_FILE_BYTES: Final = 1024 * 1024
"""Far more names than there are plugins; so that a wrong path does not fill memory."""


@dataclass(frozen=True, slots=True)
class NameList:
    """Plugins that one place allows, or denies.

    Args:
        source: The variable or file, for people.
        names: Entry points, distributions, or ``KIND/ENTRY-POINT``, in their normal form.
        denies: Whether those named may not load; otherwise only those may.
    """

    source: str
    names: frozenset[str]
    denies: bool = False

    def unmatched(self, plugins: Iterable[frozenset[str]]) -> list[str]:
        """The names that fit none of the plugins with these :func:`labels`, in order."""
        return sorted(self.names.difference(*plugins))


@dataclass(frozen=True, slots=True)
class Selection:
    """The lists that decide together.

    Args:
        lists: Those that deny come first: they have the last word.
    """

    lists: tuple[NameList, ...] = ()

    @classmethod
    def in_force(cls) -> Self:
        """Read the variables and the files.

        Raises:
            PluginError: One of them makes no sense, or a file cannot be read.
        """
        found = [*_from_environment(), *_from_files()]
        return cls(tuple(sorted(found, key=lambda one: not one.denies)))

    def allows(self, plugin: frozenset[str]) -> bool:
        """Whether the plugin with these :func:`labels` may load."""
        return self.who_leaves_out(plugin) is None

    def who_leaves_out(self, plugin: frozenset[str]) -> str | None:
        """The list because of which a plugin may not load, as the beginning of a sentence."""
        for one in self.lists:
            if one.names.isdisjoint(plugin) != one.denies:
                return f"{one.source} {'denies' if one.denies else 'does not allow'}"
        return None


def labels(group: str, name: str, distribution: str) -> frozenset[str]:
    """All that a list may call a plugin."""
    kind = normal(group.partition(".")[2])
    return frozenset({normal(name), normal(distribution), f"{kind}/{normal(name)}"})


def normal(name: str) -> str:
    """As package indexes compare names: case and the kind of dash do not matter."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _from_environment() -> Iterator[NameList]:
    for variable in (VARIABLE, DENY_VARIABLE):
        text = os.environ.get(variable)
        if text is not None:
            names = [name for name in text.split(",") if name.strip()]
            yield _name_list(variable, names, denies=variable == DENY_VARIABLE)


def _from_files() -> Iterator[NameList]:
    named = os.environ.get(FILE_VARIABLE)
    for path in filter(None, (SYSTEM_FILE, named)):
        try:
            with open(path, "rb") as file:
                content = file.read(_LARGEST_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            if path == named:
                raise _unusable(path, f"{FILE_VARIABLE} names it, and there is none") from error
        except (OSError, ValueError) as error:
            raise _unusable(path, f"it cannot be read: {error}") from error
        else:
            yield from _read(path, content)


@lru_cache(maxsize=4)
def _read(path: str, content: bytes) -> tuple[NameList, ...]:
    """The lists of a file; read once for each content."""
    import tomllib

    if len(content) > _LARGEST_FILE_BYTES:
        raise _unusable(path, f"it has more than {_LARGEST_FILE_BYTES} bytes")
    try:
        said = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"it is no TOML: {error}") from error
    if unknown := sorted(said.keys() - {"allow", "deny"}):
        raise _unusable(path, "unknown key", expected="allow or deny", found=", ".join(unknown))
    return tuple(
        _name_list(path, _words(path, key, value), denies=key == "deny")
        for key, value in said.items()
    )


def _words(path: str, key: str, value: Any) -> list[str]:
    wrong = next((one for one in value if not isinstance(one, str)), None) if value else None
    if not isinstance(value, list) or wrong is not None:
        found = repr(value if wrong is None else wrong)
        raise _unusable(path, key, expected='names in quotes, such as ["tcp"]', found=found)
    return value


def _name_list(source: str, names: Iterable[str], *, denies: bool) -> NameList:
    for name in names:
        kind, slash, rest = name.strip().partition("/")
        if not name.strip() or (slash and (normal(kind) not in KINDS or not rest or "/" in rest)):
            raise _unusable(
                source,
                "a name is no plugin's",
                expected=f"a name, a distribution, or KIND/NAME (KIND: {', '.join(KINDS)})",
                found=repr(name),
            )
    return NameList(source, frozenset(map(normal, names)), denies)


def _unusable(source: str, what: str, **facts: str) -> PluginError:
    return PluginError(f"no plugin is loaded because of {source}: {what}", **facts)
