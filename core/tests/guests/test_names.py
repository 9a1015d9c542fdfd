import os

import pytest
from hypothesis import given, strategies as st

from transship.guests.stored.names import encode_name, is_plain, unused_name

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=255).filter(
    lambda name: len(name.encode()) <= 255
)


@given(NAMES)
def test_encoded_name_is_one_plain_visible_file_name(name: str) -> None:
    encoded = encode_name(name)
    assert encoded == os.path.basename(encoded)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert not encoded.startswith(".")
    assert 0 < len(encoded) <= 180
    assert is_plain(encoded)


@given(st.lists(NAMES, unique=True, max_size=20))
def test_different_names_stay_different_where_case_does_not_count(names: list[str]) -> None:
    used: set[str] = set()
    for name in names:
        used.add(unused_name(name, used).lower())
    assert len(used) == len(names)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("pc.ram", "pc.ram"),
        ("0000:00:01.1/ide", "0000:00:01.1%2Fide"),
        ("/rom@etc/acpi/tables", "%2From@etc%2Facpi%2Ftables"),
        ("..", "%2E."),
        (".", "%2E"),
        ("", "%"),
        ("%", "%25"),
        ("\0", "%00"),
        ("-rf ~", "-rf%20%7E"),
    ],
)
def test_known_names(name: str, encoded: str) -> None:
    assert encode_name(name) == encoded


def test_name_of_255_awkward_bytes_still_fits() -> None:
    first, second = "/" * 255, "/" * 254 + "\\"
    assert len(encode_name(first)) <= 180
    assert encode_name(first) != encode_name(second)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "/etc/passwd", "x" * 256])
def test_name_that_leads_elsewhere_is_not_plain(name: str) -> None:
    assert not is_plain(name)
