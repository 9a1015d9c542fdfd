"""Exception groups stop here: nurseries inside, one error outside."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

from transship.errors import ChannelError, LocalError, MigrationError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transship.abc.section import Section
    from transship.errors import Side

E = TypeVar("E", bound=MigrationError)


def collapse(error: BaseException) -> BaseException:
    """The error that says most about why a group of tasks failed.

    What the peer did wrong explains a broken channel, and a broken channel explains what was
    cancelled because of it.
    """
    return min(_leaves(error), key=_rank)


def as_migration_error(error: BaseException) -> MigrationError:
    """Wrap what is no migration error of ours (a bug in a plugin, an ``OSError``) in one."""
    if isinstance(error, MigrationError):
        return error
    wrapped = LocalError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


@contextmanager
def concerning(section: Section, offset: Callable[[], int] | None = None) -> Iterator[None]:
    """Let whatever fails within be one migration error that names the section.

    Args:
        section: What is being sent or loaded.
        offset: Says how far the stream has been read.
    """
    try:
        yield
    except Exception as failure:
        error = as_migration_error(collapse(failure))
        error.add_context(section=section.idstr, offset=offset() if offset else None)
        raise error from error.__cause__


def after_handover(
    kind: type[E], error: MigrationError, what: str, *, side: Side, hint: str | None
) -> E:
    """The error for what failed once the source had given the guest up: it may not resume it."""
    return kind(
        f"{what}, but then: {error.cause}",
        side=side,
        phase=error.phase,
        expected=error.expected,
        found=error.found,
        source_may_resume=False,
        hint=hint,
    )


def add_trouble(error: MigrationError, what: str, trouble: Exception) -> None:
    """Say in an error that cleaning up after it failed as well."""
    hints = [f"{what}: {trouble}"] + ([error.hint] if error.hint else [])
    error.hint = "; ".join(hints)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _rank(error: BaseException) -> int:
    order = (KeyboardInterrupt, RemoteError, LocalError)
    for rank, kind in enumerate(order):
        if isinstance(error, kind):
            return rank
    if isinstance(error, MigrationError) and not isinstance(error, ChannelError):
        return len(order)
    if isinstance(error, ChannelError):
        return len(order) + 2
    if isinstance(error, trio.Cancelled):
        return len(order) + 3
    return len(order) + 1
