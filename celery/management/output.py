"""What the commands share: tables for people, and database trouble in one sentence."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db.utils import InterfaceError, OperationalError

from celery.broker import store
from celery.log.text import printable

WIDEST = 80


@contextmanager
def database_of(alias: str) -> Iterator[None]:
    """Turn missing tables, and a database that cannot be used, into a CommandError that says what to do."""
    try:
        store.of(alias).next_due()
        store.of(alias).census()
        yield
    except ImproperlyConfigured as error:  # SchemaMissing is one
        raise CommandError(str(error)) from error
    except (OperationalError, InterfaceError) as error:
        raise CommandError(f"the database DATABASES[{alias!r}] cannot be used: {str(error).strip()}") from error


def table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return the rows under their titles, in columns as wide as needed.

    >>> print(table(("queue", "depth"), [("celery", 3), ("mail", None)]))
    queue   depth
    celery  3
    mail    -
    """
    cells = [list(titles), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    """Return one line that no control character can leave: names and reasons come from messages."""
    shown = "-" if value in {None, ""} else printable(str(value))
    return shown if len(shown) <= WIDEST else f"{shown[: WIDEST - 3]}..."


def duration(seconds: float | None) -> str | None:
    """Return seconds as people read them.

    >>> duration(93784.2)
    '1 day, 2:03:04'
    """
    return None if seconds is None else str(timedelta(seconds=int(seconds)))


def iso(moment: datetime | None) -> str | None:
    """Return a moment as ISO 8601 to the second."""
    return moment.isoformat(timespec="seconds") if moment else None
