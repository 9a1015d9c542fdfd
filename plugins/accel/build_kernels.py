"""Describes the extension to cffi: plain C, in API mode, for every CPython from 3.11 on.

``TRANSSHIP_ACCEL_SANITIZE=1`` builds it with AddressSanitizer and UBSan.
"""

import os
import re
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).parent
C = Path("c")
SANITIZERS = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g",
]
is_sanitized = bool(os.environ.get("TRANSSHIP_ACCEL_SANITIZE"))

ffibuilder = FFI()
ffibuilder.cdef(re.sub(r"/\*.*?\*/", "", (ROOT / C / "kernels.h").read_text(), flags=re.DOTALL))
ffibuilder.set_source(
    "transship_accel._native",
    '#include <stdint.h>\n#include "kernels.h"\n',
    sources=[str(path.relative_to(ROOT)) for path in sorted((ROOT / C).glob("*.c"))],
    depends=[str(path.relative_to(ROOT)) for path in sorted((ROOT / C).glob("*.h"))],
    include_dirs=[str(C)],
    extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra", *(SANITIZERS * is_sanitized)],
    extra_link_args=SANITIZERS * is_sanitized,
    py_limited_api=True,
)
