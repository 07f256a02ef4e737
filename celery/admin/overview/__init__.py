"""The overview page of the admin: what runs, what waits, and what went wrong, at one look.

Its queries are few and bounded, each by an index, and nothing is counted beyond `LIMIT`, however large the tables are.
What cannot be had is said in one line; the rest of the page is there.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import DatabaseError, InterfaceError, router, transaction
from django.db.models.functions import Left, Right
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from celery import history, states, status
from celery.admin.base import results_are_rows
from celery.admin.links import address, may_see
from celery.admin.overview import figures, tiles
from celery.admin.overview.charts import printable
from celery.admin.overview.tiles import LATELY, LIMIT, NONE, RANGES, Range, capped, clock
from celery.admin.scales import duration
from celery.exceptions import CeleryError
from celery.models import Overview, TaskMeta
from celery.status import Status

MOST_ROWS: Final = 50
MOST_FAILURES: Final = 10
LONGEST_TEXT: Final = 160
#: Characters that are read of a result and of a traceback, to find the one line that says what happened.
LONGEST_STORED: Final = 1_000
#: How a stored exception begins, if its first argument is text; the end of that may be cut off.
EXCEPTION: Final = re.compile(
    r'\{"module": ?"[^"]*", ?"class": ?"(?:[^"]*\.)?([^".]+)", ?'
    r'"args": ?\[(?:\]|"((?:[^"\\]|\\[^u]|\\u[0-9a-fA-F]{4})*))'
)

Answer = TypeVar("Answer")

if TYPE_CHECKING:
    Admin = admin.ModelAdmin[Overview]
else:
    Admin = admin.ModelAdmin  # Django's has no [] yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The first rows, and how many are left out."""

    rows: list[dict[str, Any]]
    more: int = 0


class OverviewAdmin(Admin):
    """A page in the place of a list. There are no rows, so nothing can be added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - the same
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - the same
        """Return False."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Return the one page. A query that fails must not spoil a transaction around all of them."""
        view = transaction.non_atomic_requests(self.admin_site.admin_view(self.changelist_view))
        return [path("", view, name="celery_overview_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the page. Raises PermissionDenied without ``celery.view_overview``."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name
        chosen = next((one for one in RANGES if one.name == request.GET.get("range")), RANGES[0])
        context = {
            **self.admin_site.each_context(request),
            **page(request, chosen),
            "title": "Overview",
            "opts": self.opts,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/celery/overview/change_list.html", context)


# -- what is on the page


def page(request: HttpRequest, chosen: Range) -> dict[str, Any]:
    """Return what the template needs."""
    troubles: list[str] = []
    now = attempt(lambda: status.collect(limit=LIMIT), troubles)
    minutes = attempt(lambda: history.throughput(minutes=chosen.minutes), troubles) or []
    lately = attempt(lambda: history.throughput(minutes=LATELY), troubles) or []
    depths = attempt(lambda: history.depths(minutes=chosen.minutes), troubles) or {}
    failures = attempt(lambda: latest_failures(request), troubles)
    if now is not None and now.error:
        troubles.append(now.error)
    step = history.width(chosen.minutes)
    past = {"state": states.FAILURE, "since": chosen.minutes // 60}
    failures_at = "" if failures is None else address(request, "taskmeta", **past)
    return {
        "ranges": RANGES,
        "chosen": chosen,
        "at": timezone.now(),
        "zone": timezone.get_current_timezone_name(),
        "troubles": list(dict.fromkeys(one_line(text) for text in troubles)),
        "tiles": [
            *tiles.of_history(chosen, minutes, lately, failures_at=failures_at),
            *(tiles.of_present(request, now) if now else []),
        ],
        "charts": [*figures.of_throughput(minutes, step), *figures.of_queues(depths, step)],
        "is_idle": bool(minutes) and not any(map(figures.total, minutes)),
        "has_worker": now is not None and any(not worker.is_silent for worker in now.workers),
        "queues": queue_rows(now) if now else None,
        "workers": worker_rows(request, now) if now else None,
        "failures": failures,
    }


def attempt(ask: Callable[[], Answer], troubles: list[str]) -> Answer | None:
    """Return the answer; if there is none, say why, and what to do."""
    try:
        return ask()
    except (ImproperlyConfigured, ImportError, CeleryError, OSError) as error:
        troubles.append(str(error))
    except (DatabaseError, InterfaceError) as error:
        said = f"{error}".partition("\n")[0]  # what follows is the statement
        troubles.append(f"The database cannot be read: {said}. If a table is missing, run: manage.py migrate celery")
    return None


def one_line(text: str) -> str:
    """Return text on one line, printable, not too long."""
    return printable(" ".join(text.split()))[: 2 * LONGEST_TEXT]


def queue_rows(now: Status) -> Table:
    """Return the queues as they are read, the fullest first."""
    ranked = sorted(now.queues, key=lambda queue: (-(queue.depth or 0), queue.name))
    rows = [
        {
            "name": printable(queue.name),
            "depth": "?" if queue.depth is None else capped(queue.depth),
            "oldest": NONE if queue.oldest is None else duration(queue.oldest),
        }
        for queue in ranked[:MOST_ROWS]
    ]
    return Table(rows=rows, more=len(ranked) - len(rows))


def worker_rows(request: HttpRequest, now: Status) -> Table:
    """Return the workers as they are read, the silent ones first."""
    ranked = sorted(now.workers, key=lambda worker: (not worker.is_silent, worker.name))
    rows = [
        {
            "name": printable(worker.name),
            "link": address(request, "worker", key=worker.owner),
            "pid": worker.pid,
            "queues": printable(", ".join(worker.queues)),
            "children": worker.children,
            "started": clock(worker.started),
            "seen": f"{duration(worker.seen)} ago",
            "is_silent": worker.is_silent,
        }
        for worker in ranked[:MOST_ROWS]
    ]
    return Table(rows=rows, more=len(ranked) - len(rows))


def latest_failures(request: HttpRequest) -> list[dict[str, Any]] | None:
    """Return what failed last, the latest first. None for those who may not see results, or if these are no rows."""
    if not (may_see(request, "taskmeta") and results_are_rows()):
        return None
    rows = TaskMeta.objects.using(router.db_for_write(TaskMeta))
    odd = rows.exclude(status=states.DONE).filter(status=states.FAILURE)  # as the condition of the index says it
    beginning, end = Left("result", LONGEST_STORED), Right("traceback", LONGEST_STORED)
    latest = odd.order_by("-date_done").values_list("pk", "name", "task_id", "worker", "date_done", beginning, end)
    return [
        {
            "link": address(request, "taskmeta", key=pk),
            "task": printable(name or task_id),
            "worker": printable(worker),
            "at": clock(done),
            "error": reason(str(last_words), str(first_words)),
        }
        for pk, name, task_id, worker, done, first_words, last_words in latest[:MOST_FAILURES]
    ]


def reason(last_words: str, first_words: str) -> str:
    """Return the line that says what happened: the last one of a traceback, else what was stored of the exception."""
    lines = [line for line in last_words.splitlines() if line.strip()]
    text = printable(lines[-1] if lines else " ".join(told(first_words).split()))
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}\N{HORIZONTAL ELLIPSIS}"


def told(stored: str) -> str:
    """Return class and text of a stored exception of which this is the beginning; what is none is returned as it is."""
    found = EXCEPTION.match(stored)
    if not found:
        return stored
    name, text = found.groups("")
    try:
        words = json.loads(f'"{text}"', strict=False)
    except ValueError:
        return stored
    return f"{name}: {words}" if words else name
