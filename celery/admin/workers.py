"""The list of workers, and the page of one."""

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet

from celery import broker
from celery.admin import links, shown
from celery.admin.base import ReadOnlyAdmin
from celery.admin.paging import Found, find
from celery.models import Message, Worker
from celery.moments import as_moment

#: Messages of a worker that are counted.
MOST_COUNTED = 10_000


class WorkerAdmin(ReadOnlyAdmin):
    """Workers, by name: one row for each start of a dispatcher, deleted when it ends or is lost."""

    list_display = ("name", "pid", "queues", "concurrency", "life", "idle", "started")
    search_help_text = "A name or its beginning, or an owner."
    actions = None
    fieldsets = (
        (None, {"fields": ("name", "pid", "queues", "concurrency", "started")}),
        ("Proof of life", {"fields": ("life", "seen", "lease", "counter", "idle")}),
        ("Messages", {"fields": ("owner", "held", "results")}),
    )

    def database(self) -> str:
        """Return the alias of the database of messages."""
        return broker.current().alias

    def notices(self) -> list[str]:
        """Say what an empty list means."""
        return [] if Worker.objects.using(self.database()).exists() else ["No worker runs, or none has begun yet."]

    def find(self, rows: QuerySet[Any], chosen: dict[str, str], term: str) -> Found:  # noqa: ARG002 - there are no filters
        """Find by name or owner; the table is small."""
        if term:
            rows = rows.filter(Q(name__startswith=term) | Q(owner=term))
        return find(rows.order_by("name", "owner"))

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False: what it holds would be taken from a worker that lives."""
        return False

    @admin.display(description="proof of life")
    def life(self, row: Worker) -> str:
        """Return when it was last seen, and whether it is silent for longer than its lease."""
        silence = (datetime.now(UTC) - as_moment(row.seen_at)).total_seconds()
        return f"{'silent: ' if silence > row.lease else ''}seen {shown.ago(row.seen_at)}"

    @admin.display(description="seen at")
    def seen(self, row: Worker) -> str:
        """Return its last proof of life, by its own clock."""
        return shown.moment(row.seen_at)

    @admin.display(description="started at")
    def started(self, row: Worker) -> str:
        """Return when it began."""
        return shown.moment(row.started_at)

    @admin.display(description="held")
    def held(self, row: Worker) -> str:
        """Return how many messages of the database it holds, with a link to them."""
        if not self.may_see("message"):
            return links.hidden("message")
        rows = Message.objects.using(self.database()).filter(owner=row.owner)
        number = len(rows.values_list("pk")[: MOST_COUNTED + 1])
        text = f"{MOST_COUNTED:,}+" if number > MOST_COUNTED else f"{number:,}"
        return self.link("message", f"{text} messages of the database", worker=row.owner)

    @admin.display(description="results")
    def results(self, row: Worker) -> str:
        """Return a link to what it has stored."""
        if not self.may_see("taskmeta"):
            return links.hidden("taskmeta")
        return self.link("taskmeta", "what it has stored", worker=row.name)
