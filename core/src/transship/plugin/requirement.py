"""Which releases of the core a plugin says it works with: its pin, read from its metadata.

That pin is the version of the hooks that a plugin was written for. An installer sees to it, where
there is one; a copied folder or a package of a distribution is seen to here. Only plain release
numbers are compared: what is written in another way is taken to fit.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

CORE: Final = "transship"

_REQUIREMENT: Final = re.compile(
    rf"\s*{CORE}(?![\w.-])\s*(?:\[[^]]*\])?\s*\(?([^;()]*)\)?\s*$", re.IGNORECASE
)
_CLAUSE: Final = re.compile(r"(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?")
_RELEASE: Final = re.compile(r"\d+(?:\.\d+)*")


def of_core(requirements: Iterable[str]) -> str:
    """What is asked of the core, such as ``~=0.1``; empty if nothing is, or only under conditions.

    Args:
        requirements: The ``Requires-Dist`` of a distribution.
    """
    found = (_REQUIREMENT.match(one) for one in requirements)
    return ", ".join("".join(one[1].split()) for one in found if one and one[1].strip())


def is_met(made_for: str, version: str) -> bool:
    """Whether a release of the core is among those that a plugin works with.

    Args:
        made_for: Clauses such as ``>=0.1,<0.3``.
        version: The core's. What follows its release number, as in ``0.2.dev1``, does not count.
    """
    release = _RELEASE.match(version)
    clauses = [_CLAUSE.fullmatch(one.strip()) for one in made_for.split(",")]
    return release is None or all(
        _fits(one[1], one[2], bool(one[3]), release[0]) for one in clauses if one
    )


def _fits(operator: str, wanted: str, is_prefix: bool, release: str) -> bool:
    """Whether a release fits one clause, by the rules of version specifiers."""
    named = [int(part) for part in wanted.split(".")]
    have = [int(part) for part in release.split(".")]
    have += [0] * (len(named) - len(have))
    want = named + [0] * (len(have) - len(named))
    is_same = have[: len(named)] == named if is_prefix else have == want
    return {
        "~=": have >= want and have[: len(named) - 1] == named[:-1],
        "==": is_same,
        "!=": not is_same,
        "<=": have <= want,
        ">=": have >= want,
        "<": have < want,
        ">": have > want,
    }[operator]
