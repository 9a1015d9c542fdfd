"""Whom a destination lets in, once it has verified who that is."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fnmatch import fnmatchcase


class Policy(enum.Enum):
    """What becomes of somebody."""

    ALLOW = "allow"
    DENY = "deny"


class Format(enum.Enum):
    """How a rule is written."""

    EXACT = "exact"
    GLOB = "glob"


@dataclass(frozen=True, slots=True)
class Rule:
    """Some names, and what becomes of them.

    Args:
        match: A distinguished name, or a pattern of such.
        policy: What becomes of it.
        format: What ``match`` is. In a pattern ``*`` stands for any text and ``?`` for a letter, as
            with QEMU 7.2 and 10.0; brackets are brackets there.
    """

    match: str
    policy: Policy
    format: Format = Format.EXACT

    def fits(self, identity: str) -> bool:
        """Whether it speaks of that name."""
        if self.format is Format.GLOB:
            return fnmatchcase(identity, self.match.replace("[", "[[]"))
        return identity == self.match


@dataclass(frozen=True, slots=True)
class AccessList:
    """Rules, of which the first that fits decides.

    Args:
        rules: In order.
        policy: What becomes of somebody whom no rule fits.
    """

    rules: tuple[Rule, ...] = ()
    policy: Policy = Policy.DENY

    def allows(self, identity: str) -> bool:
        """Whether somebody of that distinguished name is let in."""
        fitting = (rule.policy for rule in self.rules if rule.fits(identity))
        return next(fitting, self.policy) is Policy.ALLOW
