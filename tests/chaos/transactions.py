"""Transactions of which is known for certain how they ended. Used by producers and by tasks that send."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from django.db import transaction

UNSURE: Final = "the transaction has ended without an error, and was not committed"


class NotCommittedError(Exception):
    """The end of an atomic block is no proof of a commit."""


class _RollBackError(Exception):
    """Ends a block without its changes."""


@contextmanager
def committed() -> Iterator[None]:
    """Have a block committed. Raises NotCommittedError, and what Django raises, if it may not have been.

    Where a savepoint could not be rolled back, the connection being gone, Django rolls the whole back and says nothing.
    """
    hooks: list[bool] = []
    with transaction.atomic():
        transaction.on_commit(lambda: hooks.append(True))
        yield
    if not hooks:
        raise NotCommittedError(UNSURE)


@contextmanager
def rolled_back() -> Iterator[None]:
    """Have a block rolled back: a transaction, or a savepoint of the one that is open."""
    with suppress(_RollBackError), transaction.atomic():
        yield
        raise _RollBackError
