"""Exception groups stop here: nurseries inside, one error outside."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from transship.errors import ChannelError, LocalError, MigrationError, RemoteError


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
