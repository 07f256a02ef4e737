"""Raw statements on one database: what all tables of the store need."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage
from django.db import connections
from django.db.utils import OperationalError, ProgrammingError
from django.utils import timezone

from celery.exceptions import SchemaMissing

MISSING: Final = re.compile(
    r"no such (table|column)|relation \"celery_\w+\" does not exist|column .* does not exist|has no column named"
    r"|Table '.*celery_\w+' doesn't exist|Unknown column|Key 'celery_\w+' doesn't exist"
)

Row = Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class Merge:
    """How rows are inserted into a table that may have some of them already.

    The rule of what may be overwritten is said twice, for databases that can evaluate it while they insert, and for
    those that cannot; the contract tests hold both together.
    """

    table: str
    columns: tuple[str, ...]
    #: The first columns, which are unique together.
    key: tuple[str, ...]
    #: What is taken from the new row when it overwrites a stored one. Nothing: a stored one stays, whatever it is.
    changes: tuple[str, ...]
    #: What is returned of each row that was inserted or overwritten.
    answer: str
    #: When a stored row is overwritten, in SQL; `excluded` is the new one.
    condition: str
    #: The columns of a stored row that decide it in Python, and how: by their values and the new row.
    decides_by: tuple[str, ...]
    may_replace: Callable[[Row, Row], bool]

    @cached_property
    def conflict(self) -> str:
        """Return the clause that says it in SQL."""
        if not self.changes:
            return f" ON CONFLICT ({', '.join(self.key)}) DO NOTHING"
        changes = ", ".join(f"{column} = excluded.{column}" for column in self.changes)
        return f" ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changes} WHERE {self.condition}"


class Statements:
    """Executes statements on the database `alias`, on the calling thread's connection."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def check(self) -> list[CheckMessage]:
        """Return what Django's system checks should say of the settings of this database. Opens no connection."""
        return []

    def shortcoming(self) -> str | None:
        """Ask the server, and return what keeps a worker from using it, or None."""
        return None

    def rows(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute and return all rows. Raises SchemaMissing, and what the database raises."""
        with connections[self.alias].cursor() as cursor:
            self._execute(cursor, statement, parameters)
            return list(cursor.fetchall())

    def run(self, statement: str, parameters: Sequence[Any]) -> int:
        """Execute and return the number of rows changed. Raises as `rows` does."""
        with connections[self.alias].cursor() as cursor:
            self._execute(cursor, statement, parameters)
            return int(cursor.rowcount)

    def _execute(self, cursor: Any, statement: str, parameters: Sequence[Any]) -> None:
        try:
            cursor.execute(statement, parameters)
        except (ProgrammingError, OperationalError) as error:
            if not MISSING.search(str(error)):
                raise
            text = f"the tables of celery are missing or too old in DATABASES[{self.alias!r}]: run `manage.py migrate`"
            raise SchemaMissing(text) from error

    def is_conflict(self, error: Exception) -> bool:  # noqa: ARG002 - for databases that have such errors
        """Tell whether a transaction failed only because of another: nothing was changed, and it may be repeated."""
        return False

    def merge(self, rule: Merge, rows: Sequence[Row]) -> list[Any]:
        """Insert `rows`, whose keys differ, or overwrite by `rule`; return the answers of those that won.

        One statement, or one transaction. Raises as `rows` does.
        """
        statement, parameters = self.merging(rule, rows)
        return [answer for (answer,) in self.rows(statement, parameters)]

    def merging(self, rule: Merge, rows: Sequence[Row]) -> tuple[str, list[Any]]:
        """Return the statement of `merge` and its parameters."""
        source, parameters = self.source(rule.table, rule.columns, rows)
        names = ", ".join(rule.columns)
        return f"INSERT INTO {rule.table} ({names}) {source}{rule.conflict} RETURNING {rule.answer}", parameters

    def among(self, ids: Sequence[Any]) -> tuple[str, list[Any]]:
        """Return the condition "one of these" and its parameters."""
        return f"IN ({', '.join(['%s'] * len(ids))})", list(ids)

    def source(self, _table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        """Return what stands after ``INSERT INTO table (columns)`` for many rows, and its parameters."""
        places = f"({', '.join(['%s'] * len(columns))})"
        return f"VALUES {', '.join([places] * len(rows))}", [value for row in rows for value in row]

    def moment(self, value: datetime | None) -> Any:
        """Return an aware moment as this database takes it in raw statements."""
        if value is not None and not settings.USE_TZ:
            value = timezone.make_naive(value, timezone.get_default_timezone())
        return connections[self.alias].ops.adapt_datetimefield_value(value)

    def read_moment(self, value: Any) -> datetime | None:
        """Return what a raw statement answered as an aware moment."""
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment is None or timezone.is_aware(moment):
            return moment
        return timezone.make_aware(moment, connections[self.alias].timezone)


def now() -> datetime:
    """Return the present moment, aware, whatever USE_TZ says."""
    return datetime.now(UTC)


def as_bytes(body: Any) -> bytes:
    """Return a body as bytes, also where somebody stored it as text, or as a number, which SQLite keeps as it is."""
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    return f"{body}".encode("utf-8", "surrogateescape")
