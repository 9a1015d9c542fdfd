"""Describes the extension to cffi: plain C over libfabric, in API mode, for CPython from 3.11 on.

libfabric's headers and library must be where the compiler looks (Debian: ``libfabric-dev``), or
where ``CPPFLAGS`` and ``LDFLAGS`` lead it.
"""

import re
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).parent
C = Path("c")

ffibuilder = FFI()
ffibuilder.cdef(re.sub(r"/\*.*?\*/", "", (ROOT / C / "endpoint.h").read_text(), flags=re.DOTALL))
ffibuilder.set_source(
    "transship_rdma._native",
    '#include <stdint.h>\n#include <stddef.h>\n#include "endpoint.h"\n',
    sources=[str(path.relative_to(ROOT)) for path in sorted((ROOT / C).glob("*.c"))],
    depends=[str(path.relative_to(ROOT)) for path in sorted((ROOT / C).glob("*.h"))],
    include_dirs=[str(C)],
    libraries=["fabric"],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra"],
    py_limited_api=True,
)
