"""Arrays as this distribution uses them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Numbers of pages or positions of bytes; ``.data`` is what kernels take."""

Marks: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
"""One truth value for each page."""
