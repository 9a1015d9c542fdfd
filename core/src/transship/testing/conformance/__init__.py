"""The conformance kit as classes; :mod:`transship.testing.pytest_plugin` is where to take them."""
