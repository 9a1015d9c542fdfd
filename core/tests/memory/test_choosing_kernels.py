"""Which implementation of the kernels is used, of those that there are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from transship.memory import _kernels_py as reference, kernels


def output_of(program: str) -> str:
    """What a program prints, in an interpreter of its own."""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return run.stdout


def test_reference_is_always_available() -> None:
    assert kernels.available()[-1].name == "reference"


def test_current_is_the_first_available() -> None:
    assert kernels.current() is kernels.available()[0]


def test_numpy_is_preferred_where_it_is_installed() -> None:
    pytest.importorskip("numpy")
    assert [implementation.name for implementation in kernels.available()][-2:] == [
        "numpy",
        "reference",
    ]


def test_installed_kernels_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_installed", [])
    kernels.install(reference)
    assert kernels.current() is reference


def test_core_does_without_numpy() -> None:
    program = (
        "import sys; sys.modules['numpy'] = None\n"
        "from transship.memory import kernels; print(kernels.current().name)"
    )
    assert output_of(program) == "reference\n"


def test_numpy_is_not_imported_before_a_kernel_is_asked_for() -> None:
    program = "import sys, transship.memory.kernels; print('numpy' in sys.modules)"
    assert output_of(program) == "False\n"
