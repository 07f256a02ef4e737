"""The list of results, and the page of one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db import router
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse

from celery import broker, conf, states
from celery.admin import actions, filters, links, shown
from celery.admin.actions import Deed
from celery.admin.base import ReadOnlyAdmin, results_are_rows
from celery.admin.paging import LOOKED_THROUGH, Condition, Found, begins_with, find, from_text_on, nothing
from celery.message import LONGEST_NAME
from celery.models import Message, TaskMeta


class ResultAdmin(ReadOnlyAdmin):
    """Results, the newest first."""

    list_display = ("task_id", "name", "status", "attempt", "on_worker", "seconds", "done_at")
    list_filter = (filters.ResultState, filters.Since, filters.WorkerName, filters.TaskName)
    search_help_text = "A task id or a task name, or the beginning of one. Capitals count."
    actions = ("delete_selected",)
    heavy = ("result", "traceback")
    fieldsets = (
        (
            None,
            {"fields": ("task_id", "name", "status", "attempt", "on_worker", "seconds", "done_and_age", "messages")},
        ),
        ("Result", {"fields": ("result_text",)}),
        ("Traceback", {"fields": ("traceback_text",)}),
    )

    def database(self) -> str:
        """Return the alias that the database backend uses."""
        return router.db_for_write(TaskMeta)

    def notices(self) -> list[str]:
        """Say so when this table is not where results go."""
        if results_are_rows():
            return []
        text = "so results are not kept in this table. What is listed was stored before, or by another project."
        return [f"CELERY_BACKEND is {conf.BACKEND!r}, {text}"]

    # -- which

    def find(self, rows: QuerySet[Any], chosen: dict[str, str], term: str) -> Found:
        """Find by task id, by name, or by what was chosen, the newest first."""
        since = filters.since(chosen)
        if not term:
            return self._newest(rows, chosen, since)
        if len(term) > LONGEST_NAME:
            return nothing()
        return self._by_id(rows, chosen, since, term) or self._by_name(rows, chosen, since, term) or nothing()

    def _newest(self, rows: QuerySet[Any], chosen: dict[str, str], since: datetime | None) -> Found:
        state, name = chosen.get("state"), chosen.get("task")
        young = [Q(date_done__gte=since)] if since else []
        rest = [Q(worker=chosen["worker"])] if "worker" in chosen else []
        if state is not None and state != states.DONE:
            rest += [Q(name=name)] if name is not None else []
            odd = rows.exclude(status=states.DONE)  # as the condition of the index says it
            return find(_newest_of(odd, "status", state), rest, first=young)
        rest += [Q(status=state)] if state else []
        if name is not None:
            return find(_newest_of(rows, "name", name), rest, first=young)
        newest = rows.filter(*young).order_by("-date_done")
        return find(_ending(newest) if rest else newest, rest)

    def _by_id(self, rows: QuerySet[Any], chosen: dict[str, str], since: datetime | None, term: str) -> Found | None:
        rest = _conditions(chosen, since)
        exact = find(rows.filter(task_id=term).order_by("task_id"), rest)
        if exact.keys or _has_name(rows, term):
            return exact if exact.keys else None
        begun = rows.filter(from_text_on("task_id", term)).order_by("task_id")
        found = find(begun, [begins_with("task_id", term), *rest], notes=[f"Task ids that begin with {term!r}."])
        return found if found.keys else None

    def _by_name(self, rows: QuerySet[Any], chosen: dict[str, str], since: datetime | None, term: str) -> Found | None:
        if _has_name(rows, term):
            if chosen.get("task", term) != term:
                return None
            return self._newest(rows, {**chosen, "task": term}, since)
        begun = rows.filter(from_text_on("name", term)).order_by("name", "date_done")
        rest = [begins_with("name", term), *_conditions(chosen, since)]
        found = find(begun, rest, notes=[f"Task names that begin with {term!r}."])
        return found if found.keys else None

    # -- what is shown

    @admin.display(description="worker")
    def on_worker(self, row: TaskMeta) -> str:
        """Return who stored it, with a link to that worker."""
        return self.link("worker", row.worker, q=row.worker) if row.worker else "-"

    @admin.display(description="runtime")
    def seconds(self, row: TaskMeta) -> str:
        """Return how long it ran."""
        return "-" if row.runtime is None else f"{row.runtime:.3f} s"

    @admin.display(description="stored at")
    def done_at(self, row: TaskMeta) -> str:
        """Return when it was stored."""
        return shown.moment(row.date_done)

    @admin.display(description="stored at")
    def done_and_age(self, row: TaskMeta) -> str:
        """Return when it was stored, and how long ago that is."""
        return shown.moment_and_age(row.date_done)

    @admin.display(description="messages")
    def messages(self, row: TaskMeta) -> str:
        """Return how many messages of this task are in the database, with a link to them."""
        if not self.may_see("message"):
            return links.hidden("message")
        number = Message.objects.using(broker.current().alias).filter(task_id=row.task_id).count()
        return self.link("message", f"{number} in the database", q=row.task_id) if number else "none in the database"

    @admin.display(description="value or exception")
    def result_text(self, row: TaskMeta) -> str:
        """Return the stored JSON. Nothing is made of it: an exception's class might run code."""
        return shown.block(shown.pretty(row.result))

    @admin.display(description="traceback")
    def traceback_text(self, row: TaskMeta) -> str:
        """Return the text."""
        return shown.block(row.traceback)

    # -- what can be done

    @admin.action(description="Delete selected results", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask, then delete. It takes the place of Django's own action, which reads all rows, however many."""
        if not actions.is_confirmed(request):
            facts = ["Who asks for one of these results later is told PENDING; who waits for it, waits for ever."]
            return actions.question(self, request, queryset, verb="Delete", facts=facts)
        deed = Deed(do=_delete, past="deleted", entry="", unless="they have changed", deletes=True)
        actions.perform(self, request, queryset, deed)
        return None


def _newest_of(rows: QuerySet[Any], column: str, value: str) -> QuerySet[Any]:
    """Return the rows with a value in a column, the newest first, by the index on that column and the time.

    Said as a range: for an equality PostgreSQL may take the index on the time alone, and read all the other rows.
    """
    return rows.filter(**{f"{column}__gte": value, f"{column}__lte": value}).order_by(f"-{column}", "-date_done")


def _ending(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the rows that will be looked through, with their end as a condition: else MariaDB would sort them all."""
    end = rows.values_list("date_done", flat=True)[LOOKED_THROUGH : LOOKED_THROUGH + 1]
    return rows.filter(date_done__gte=end[0]) if end else rows


def _has_name(rows: QuerySet[Any], name: str) -> bool:
    """Tell whether there are results of a task. The order has the index used: `exists` might read the table."""
    return bool(rows.filter(name=name).order_by("-date_done").values_list("pk", flat=True)[:1])


def _delete(rows: QuerySet[Any]) -> Sequence[Any]:
    light = list(rows.only("task_id", "status"))
    rows.delete()
    return light


def _conditions(chosen: dict[str, str], since: datetime | None) -> list[Condition]:
    columns = {"state": "status", "task": "name", "worker": "worker"}
    conditions: list[Condition] = [Q(**{columns[name]: value}) for name, value in chosen.items() if name in columns]
    return [*conditions, Q(date_done__gte=since)] if since else conditions
