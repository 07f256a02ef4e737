"""The list of periodic tasks: their schedules in words, what was last due, and what came of it."""

from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from cronsim import CronSim
from django.contrib import admin, messages
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from celery import broker, schedules
from celery.admin import shown
from celery.admin.actions import chosen_keys
from celery.admin.base import ReadOnlyAdmin, results_are_rows
from celery.admin.paging import Found, find
from celery.admin.scales import duration
from celery.models import PeriodicTaskMeta, TaskMeta
from celery.registry import tasks
from celery.schedules import Crontab, Interval, Schedule

#: Periodic tasks whose last results are looked up for one page.
MOST_LOOKED_UP: Final = 1_000


class PeriodicTaskAdmin(ReadOnlyAdmin):
    """Periodic tasks, by name."""

    list_display = ("name", "schedule", "last_due", "next_due", "total_run_count")
    search_help_text = "A name or its beginning."
    actions = ("run_now",)
    offered = {"run_now": "Run now"}  # noqa: RUF012 - a constant
    fieldsets = ((None, {"fields": ("name", "schedule", "last_due", "next_due", "total_run_count", "last_message")}),)

    def database(self) -> str:
        """Return the alias of the database of messages."""
        return broker.current().alias

    def notices(self) -> list[str]:
        """Say why a task may be missing."""
        waiting = set(tasks.get_all_periodic()) - set(self._rows().values_list("name", flat=True))
        if not waiting:
            return []
        return [f"Not here, because no worker has looked at them yet: {', '.join(sorted(waiting))}."]

    def _rows(self) -> QuerySet[Any]:
        return PeriodicTaskMeta.objects.using(self.database())

    def find(self, rows: QuerySet[Any], chosen: dict[str, str], term: str) -> Found:  # noqa: ARG002 - there are no filters
        """Find by name; the table is small."""
        return find((rows.filter(name__startswith=term) if term else rows).order_by("name"))

    def get_list_display(self, request: HttpRequest) -> list[Any]:  # noqa: ARG002 - Django's signature
        """Return the columns; the last results of all rows are asked for together."""
        return [*self.list_display, LastResults(self).last_result]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - the same
        """Return False: a task whose row is missing is new, and may be due at once."""
        return False

    # -- what is shown

    @admin.display(description="schedule")
    def schedule(self, row: PeriodicTaskMeta) -> str:
        """Return the schedule in words."""
        schedule = schedule_of(row)
        return shown.cell(in_words(schedule)) if isinstance(schedule, Schedule) else schedule

    @admin.display(description="last due")
    def last_due(self, row: PeriodicTaskMeta) -> str:
        """Return the last due moment; until the first one the row says when the task was first seen."""
        if not row.last_run_at or not row.total_run_count:
            return "never"
        return shown.moment_and_age(row.last_run_at)

    @admin.display(description="next due")
    def next_due(self, row: PeriodicTaskMeta) -> str:
        """Return the next due moment."""
        schedule = schedule_of(row)
        if not isinstance(schedule, Schedule):
            return "-"
        try:
            return shown.moment_and_age(schedule.following(datetime.now(UTC)))
        except Exception as error:  # noqa: BLE001 - a schedule may be the project's own code
            return shown.cell(f"cannot be told: {type(error).__name__}: {error}")

    @admin.display(description="last message")
    def last_message(self, row: PeriodicTaskMeta) -> str:
        """Return the id of the last message, with a link to its result."""
        return self.link("taskmeta", row.last_task_id, q=row.last_task_id) if row.last_task_id else "none yet"

    # -- what can be done

    @admin.action(description="Run selected periodic tasks now, beside their schedules", permissions=["operate"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Send each of them. What one raises keeps no other."""
        keys = chosen_keys(self, request, queryset)
        for row in self.get_queryset(request).filter(pk__in=keys).order_by("name"):
            try:
                task_id = row.delay().task_id
            except Exception as error:  # noqa: BLE001 - not registered, no broker, and whatever a sender of its own does
                self.message_user(request, shown.cell(f"Not sent: {row.name}: {error}"), messages.ERROR)
                continue
            self.log_change(request, row, f"Sent beside its schedule, as task {task_id}.")
            self.message_user(request, f"Sent: {row.name}, as task {task_id}.", messages.SUCCESS)


class LastResults:
    """The states of the last messages of all periodic tasks, asked for at the first cell that needs one."""

    def __init__(self, of: PeriodicTaskAdmin) -> None:
        self._admin = of

    @cached_property
    def _states(self) -> dict[str, tuple[Any, str]]:
        rows = PeriodicTaskMeta.objects.using(self._admin.database()).exclude(last_task_id="")
        ids = list(rows.order_by("pk").values_list("last_task_id", flat=True)[:MOST_LOOKED_UP])
        found = TaskMeta.objects.using(router.db_for_write(TaskMeta)).filter(task_id__in=ids)
        return {task_id: (key, status) for task_id, key, status in found.values_list("task_id", "pk", "status")}

    @admin.display(description="last result")
    def last_result(self, row: PeriodicTaskMeta) -> str:
        """Return the state of its last message, with a link to the result."""
        if not row.last_task_id:
            return "-"
        if not (results_are_rows() and self._admin.may_see("taskmeta")):
            return row.last_task_id
        key, status = self._states.get(row.last_task_id, (None, "none yet"))
        return status if key is None else self._admin.link("taskmeta", status, key=key)


def schedule_of(row: PeriodicTaskMeta) -> Schedule | str:
    """Return the schedule of a row's task, or why there is none."""
    task = tasks.get(row.name)
    if task is None:
        return "not registered in this process"
    try:
        return schedules.schedule_of(task.run_every)
    except Exception as error:  # noqa: BLE001 - it may be the project's own code
        return shown.cell(f"not a schedule: {error}")


def in_words(schedule: Schedule) -> str:
    """Return a schedule as people say it.

    >>> in_words(schedules.every(5400))
    'every 1 h 30 min'
    >>> in_words(schedules.crontab("0 3 * * mon-fri", timezone="Europe/Berlin"))
    'At 03:00 on Monday through Friday (Europe/Berlin)'
    """
    if isinstance(schedule, Interval):
        return f"every {duration(schedule.length.total_seconds())}"
    if isinstance(schedule, Crontab):
        said = CronSim(schedule.line, datetime(2000, 1, 1)).explain()  # noqa: DTZ001 - the clock on the wall
        return f"{said} ({schedule.zone or timezone.get_default_timezone_name()})"
    try:
        return str(schedule)
    except Exception as error:  # noqa: BLE001 - it is the project's own code
        return f"{type(schedule).__name__} without a text: {type(error).__name__}"
