"""What pyproject.toml cannot say: that cffi builds the extension, and for which Pythons."""

from setuptools import setup

setup(
    cffi_modules=["build_fabric.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
