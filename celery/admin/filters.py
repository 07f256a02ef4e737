"""The filters of the lists. They only offer choices; the admin's `find` looks at all that was chosen together.

No choice is asked of a large table: tasks come from the registry, queues and workers from the rows of workers.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from celery import broker, conf, states
from celery.admin import links
from celery.models import Worker
from celery.registry import tasks

#: Workers that are read for the choices.
MOST_WORKERS: Final = 500
LONGEST_SINCE: Final = 24 * 366 * 10


class Choice(admin.SimpleListFilter):
    """One value of a few, and whatever the address asks for."""

    def offered(self) -> Iterable[tuple[str, str]]:
        """Return values and what to call them."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002 - Django's signature
        """Return the choices; with the value in force, so that it is seen and can be taken back."""
        found = list(self.offered())
        value = self.value()
        if value is not None and value not in dict(found):
            found.append((value, value))
        return found

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002 - the same
        """Return all: `find` does the filtering."""
        return queryset


class WorkerChoice(Choice):
    """One worker; those that have a row are offered to whoever may see them."""

    title = "worker"
    parameter_name = "worker"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices; no more than the value in force to those who may not see workers."""
        if links.may_see(request, "worker"):
            return super().lookups(request, model_admin)
        value = self.value()
        return [] if value is None else [(value, value)]


class ResultState(Choice):
    """By state; PENDING is never stored."""

    title = "state"
    parameter_name = "state"

    def offered(self) -> Iterable[tuple[str, str]]:
        """Return the states that rows have."""
        return [(state, state) for state in (states.FAILURE, states.RETRY, states.DONE)]


class TaskName(Choice):
    """By the name of the task."""

    title = "task"
    parameter_name = "task"

    def offered(self) -> Iterable[tuple[str, str]]:
        """Return the tasks of this process."""
        return [(name, name) for name in sorted(tasks)]


class Queue(Choice):
    """By queue."""

    title = "queue"
    parameter_name = "queue"

    def offered(self) -> Iterable[tuple[str, str]]:
        """Return the default queue, those of tasks, and those that workers take from."""
        queues = {conf.AMQP_CONSUMER_QUEUE}
        queues |= {queue for task in tasks.values() if (queue := getattr(task, "queue", None))}
        queues |= {queue for names in workers().values_list("queues", flat=True) for queue in names.split(",")}
        return [(name, name) for name in sorted(queues)]


class Holder(WorkerChoice):
    """By the worker that has taken a message."""

    def offered(self) -> Iterable[tuple[str, str]]:
        """Return the owners that have a row, by name."""
        return workers().values_list("owner", "name")


class WorkerName(WorkerChoice):
    """By the name of the worker that stored a result."""

    def offered(self) -> Iterable[tuple[str, str]]:
        """Return the names of workers that have a row."""
        return [(name, name) for name in sorted(set(workers().values_list("name", flat=True)))]


class Since(Choice):
    """By age, in hours."""

    title = "time"
    parameter_name = "since"

    def offered(self) -> Iterable[tuple[str, str]]:
        """Return a few."""
        return [("1", "past hour"), ("24", "past 24 hours"), ("168", "past 7 days")]


def workers() -> QuerySet[Worker]:
    """Return the rows of workers, a bounded number of them."""
    return Worker.objects.using(broker.current().alias).order_by("name")[:MOST_WORKERS]


def since(chosen: dict[str, str]) -> datetime | None:
    """Return the moment that the filter by age means. Raises IncorrectLookupParameters."""
    value = chosen.get(Since.parameter_name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 0 < int(value[:9]) <= LONGEST_SINCE):
        raise IncorrectLookupParameters
    return timezone.now() - timedelta(hours=int(value))
