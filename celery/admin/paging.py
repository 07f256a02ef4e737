"""Lists of tables with millions of rows: the keys of what is listed come from one bounded query through an index.

No row is counted, sorted or skipped in the database. A list has its first `LISTED` rows. What no index knows is looked
for among the first `LOOKED_THROUGH` rows of an index; the page says so when there were more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import EmptyResultSet
from django.core.paginator import InvalidPage
from django.db import connections
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Left
from django.db.models.lookups import Exact
from django.http import HttpRequest

#: Of rows; `Exact` compares an expression.
Condition: TypeAlias = "Q | Exact[Any]"

LISTED: Final = 10_000
LOOKED_THROUGH: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The keys of the rows of a list, in its order. `notes` say what is missing, and why."""

    keys: Sequence[Any]
    notes: tuple[str, ...] = ()


def nothing(*notes: str) -> Found:
    """Return a list without rows."""
    return Found(keys=(), notes=notes)


def find(
    rows: QuerySet[Any], rest: Sequence[Condition] = (), *, first: Sequence[Q] = (), notes: Sequence[str] = ()
) -> Found:
    """Return the first of `rows`, which an index finds in their order, for which all of `rest` and `first` holds.

    `first` are conditions that hold for the first rows, in their order, and for none after these.
    """
    conditions = [*rest, *first]
    keys = _looked_for(rows, conditions) if conditions else list(rows.values_list("pk", flat=True)[: LISTED + 1])
    said = list(notes)
    if len(keys) > LISTED:
        said.append(
            f"More than {LISTED:,} rows match; the first {LISTED:,} are listed. A filter or a search shows others."
        )
    elif rest and _holds_beyond(rows, first):
        said.append(
            f"No index knows all that you asked for, so only the first {LOOKED_THROUGH:,} rows were looked through. "
            "There may be more that match."
        )
    return Found(keys=keys[:LISTED], notes=tuple(said))


def _holds_beyond(rows: QuerySet[Any], first: Sequence[Q]) -> bool:
    """Tell whether there are more rows than are looked through, and `first` holds for them, too."""
    if not first:
        return bool(rows.values_list("pk")[LOOKED_THROUGH : LOOKED_THROUGH + 1])
    beyond = rows.annotate(wanted=_as_value(first)).values_list("wanted", flat=True)
    return any(beyond[LOOKED_THROUGH : LOOKED_THROUGH + 1])


def _as_value(conditions: Sequence[Condition]) -> Any:
    return ExpressionWrapper(Q(*conditions), output_field=BooleanField())


def _looked_for(rows: QuerySet[Any], rest: Sequence[Condition]) -> list[Any]:
    """Return the keys of those of the first rows for which `rest` holds.

    The inner query is the one that stops: with `rest` in it, a database might read a million rows to find ten, or take
    another index and sort. It returns no more than a key and a truth value, in the order that the outer one keeps.
    """
    inner = rows.annotate(wanted=_as_value(rest)).values_list(rows.model._meta.pk.attname, "wanted")[:LOOKED_THROUGH]  # noqa: SLF001 - Django's name
    connection = connections[rows.db]
    try:
        statement, parameters = inner.query.get_compiler(connection=connection).as_sql()
    except EmptyResultSet:
        return []
    key = connection.ops.quote_name(rows.model._meta.pk.column)  # noqa: SLF001 - the same
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {key} FROM ({statement}) looked WHERE wanted LIMIT {LISTED + 1}", parameters)  # noqa: S608 - a statement of Django's
        return [row_key for (row_key,) in cursor.fetchall()]


def begins_with(field: str, text: str) -> Condition:
    """Return the exact condition "`field` begins with `text`", which no index knows."""
    return Exact(Left(field, len(text)), text)


def from_text_on(field: str, text: str) -> Q:
    """Return a condition that an index knows, and that holds for all that begins with `text`, and not for much more.

    It holds in every collation that sorts letters and digits as people do: where the last of these in `text` has one
    after it, the range ends there. LIKE would need an index of its own on PostgreSQL.
    """
    begun = text
    while begun and not (begun[-1].isascii() and begun[-1].isalnum()):
        begun = begun[:-1]
    if not begun or begun[-1] in "9zZ":
        return Q(**{f"{field}__gte": text})
    return Q(**{f"{field}__gte": text, f"{field}__lt": f"{begun[:-1]}{chr(ord(begun[-1]) + 1)}"})


class BoundedChangeList(ChangeList):
    """A list whose keys its admin has found; of the rows, only those of the page are read."""

    found: Found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Return what is listed, as actions want it."""
        super().get_queryset(request, exclude_parameters)  # reads the filters, and makes a query that is never sent
        specs: list[Any] = self.filter_specs
        chosen: dict[str, str] = {spec.parameter_name: value for spec in specs if (value := spec.value()) is not None}
        if any("\0" in value for value in (*chosen.values(), self.query)):
            raise IncorrectLookupParameters
        self.found = self._admin.find(self.root_queryset, chosen, self.query.strip())
        return self.root_queryset.filter(pk__in=self.found.keys)

    @property
    def _admin(self) -> Any:
        """Return the admin of `celery.admin.base` whose list this is."""
        return self.model_admin

    def get_results(self, request: HttpRequest) -> None:
        """Read the rows of the page."""
        keys = self.found.keys
        self.paginator = self._admin.get_paginator(request, keys, self.list_per_page)
        try:
            page = self.paginator.page(self.page_num).object_list
        except InvalidPage as error:
            raise IncorrectLookupParameters from error
        light = self.root_queryset.order_by().defer(*self._admin.heavy)
        rows = {row.pk: row for row in light.filter(pk__in=page)}
        self.result_list = [rows[key] for key in page if key in rows]
        self.result_count = len(keys)
        self.full_result_count = None
        self.show_full_result_count = False
        self.show_admin_actions = bool(keys)
        self.can_show_all = False
        self.multi_page = len(keys) > self.list_per_page
