"""The two markers of hooks; every plugin imports ``hookimpl``, as ``transship.hookimpl``."""

from __future__ import annotations

from typing import Final

import pluggy

PROJECT: Final = "transship"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
