from __future__ import annotations

import shlex

import pytest
from hypothesis import given, strategies as st

from transship.errors import BlockedError
from transship_exec._uri import parse

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(words)
def test_any_text_is_a_shells_or_refused(text: str) -> None:
    if text.strip():
        command = parse(text, {})
        assert command.args == ("/bin/sh", "-c", text)
        assert str(command) == f"exec:{text}"
    else:
        with pytest.raises(BlockedError):
            parse(text, {})


@given(words.filter(bool), st.lists(words))
def test_list_of_words_is_run_as_it_is_and_shown_as_a_shell_would_have_it(
    program: str, more: list[str]
) -> None:
    args = [program, *more]
    command = parse("", {"args": args})
    assert list(command.args) == args
    assert shlex.split(command.text) == args


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_no_system_can_run_is_refused(text: str) -> None:
    with pytest.raises(BlockedError):
        parse(text, {})
    with pytest.raises(BlockedError):
        parse("", {"args": ["cat", text]})


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"args": "cat"}, "'cat'"),
        ({"args": []}, "[]"),
        ({"args": [""]}, "['']"),
        ({"args": ["cat", 1]}, "['cat', 1]"),
        ({"args": True}, "True"),
        ({"shell": False}, "'shell'"),
    ],
)
def test_option_that_is_no_command_is_refused(options: dict[str, object], found: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse("", options)  # type: ignore[arg-type]
    assert caught.value.found == found


def test_two_commands_are_refused() -> None:
    with pytest.raises(BlockedError, match="two commands"):
        parse("cat", {"args": ["cat"]})
