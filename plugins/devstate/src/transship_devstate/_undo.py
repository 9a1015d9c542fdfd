"""Putting objects back to what they were before a load that failed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

_MISSING: Final = object()


class Undo:
    """Remembers objects before they are written to.

    What an object has as plain attributes is remembered whole, so that what hooks set is put
    back as well. Nothing is copied: a list that a hook changes in place stays changed.
    """

    def __init__(self) -> None:
        self._before: dict[int, tuple[object, dict[str, Any]]] = {}

    def remember(self, owner: object, attribute: str | None = None) -> None:
        """Call before writing to ``owner``; ``attribute`` may also be a property."""
        if id(owner) not in self._before:
            self._before[id(owner)] = (owner, _plain_attributes(owner))
        before = self._before[id(owner)][1]
        if attribute is not None and attribute not in before and hasattr(owner, attribute):
            before[attribute] = getattr(owner, attribute)

    def roll_back(self) -> None:
        """Put everything back."""
        for owner, before in self._before.values():
            for name in _plain_attributes(owner).keys() - before.keys():
                delattr(owner, name)
            for name, value in before.items():
                if getattr(owner, name, _MISSING) is not value:
                    with suppress(AttributeError):  # a property that only reads
                        setattr(owner, name, value)


def _plain_attributes(owner: object) -> dict[str, Any]:
    attributes = dict(getattr(owner, "__dict__", ()))
    for base in type(owner).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(owner, name):
                attributes[name] = getattr(owner, name)
    return attributes
