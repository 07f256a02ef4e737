"""Raw statements on one database: what all tables of the store need."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.db import connections
from django.db.utils import OperationalError, ProgrammingError
from django.utils import timezone

from celery.exceptions import SchemaMissing

MISSING: Final = re.compile(
    r"no such (table|column)|relation \"celery_\w+\" does not exist|column .* does not exist|has no column named"
)


class Statements:
    """Executes statements on the database `alias`, on the calling thread's connection."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def rows(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute and return all rows. Raises SchemaMissing, and what the database raises."""
        with connections[self.alias].cursor() as cursor:
            self._execute(cursor, statement, parameters)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

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
