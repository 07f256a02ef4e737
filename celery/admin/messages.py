"""The list of messages in the database, the page of one, and what a person may do to them."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db import router
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from celery import broker, conf, dead, waiting
from celery.admin import actions, filters, links, shown
from celery.admin.actions import Deed
from celery.admin.base import ReadOnlyAdmin, results_are_rows
from celery.admin.paging import Condition, Found, begins_with, find, from_text_on, nothing
from celery.broker import store
from celery.message import LONGEST_NAME
from celery.models import Message, TaskMeta, Worker
from celery.standing import DEAD, IN_RELAY, READY, SCHEDULED, TAKEN

#: What each value of the filter means. An index has the rows of each; see `through_an_index`.
STATES: Final = {"waiting": READY, "scheduled": SCHEDULED, "relayed": IN_RELAY, "taken": TAKEN, "dead": DEAD}
#: A message that its worker is working on must not vanish, or be tried twice.
HELD: Final = "a worker has taken them"


class State(filters.Choice):
    """By state."""

    title = "state"
    parameter_name = "state"

    def offered(self) -> Iterable[tuple[str, str]]:
        """Return the states; with RabbitMQ and Redis, what is ready here is an outbox."""
        relays = broker.current().relays
        yield "waiting", "outbox" if relays else "waiting"
        yield "scheduled", "scheduled"
        if relays:
            yield "relayed", "being relayed"
        yield "taken", "taken by a worker"
        yield "dead", "dead"


def state_of(message: Message, now: datetime) -> str:
    """Return the state of a message in a word or two."""
    if message.dead_at:
        return "dead"
    if message.owner:
        return "being relayed" if message.visible_at else "taken by a worker"
    if message.visible_at:
        return "scheduled" if message.visible_at > now else "due"
    return "outbox" if broker.current().relays else "waiting"


class MessageAdmin(ReadOnlyAdmin):
    """Messages: all of them by age, or those of one state in the order of their index."""

    list_display = ("task", "task_id", "state", "queue", "attempt", "when", "why")
    list_filter = (State, filters.Queue, filters.Since, filters.Holder, filters.TaskName)
    search_help_text = "A task id or a task name, or the beginning of one. Capitals count."
    actions = ("requeue", "run_now", "delete_selected")
    offered = {"requeue": "Requeue", "run_now": "Run now", "delete_selected": "Drop"}  # noqa: RUF012 - a constant
    heavy = ("body", "headers")
    fieldsets = (
        (None, {"fields": ("task", "task_id", "state", "queue", "attempt", "priority", "result")}),
        ("Times", {"fields": ("created", "not_before", "dead_since")}),
        ("Worker", {"fields": ("taken_by", "suspect", "starts", "crashes", "reason_text")}),
        ("Content", {"fields": ("arguments", "size", "headers_text")}),
    )

    def database(self) -> str:
        """Return the alias of the database of messages."""
        return broker.current().alias

    def notices(self) -> list[str]:
        """Say so when the queues are elsewhere."""
        current = broker.current()
        if not current.relays:
            return []
        text = "messages that wait in its queues are not in this table. Listed are those that are scheduled, on their"
        return [f"The broker is {current.url.partition('://')[0]}: {text} way to the broker, or dead."]

    # -- which

    def find(self, rows: QuerySet[Any], chosen: dict[str, str], term: str) -> Found:
        """Find by task id; or else by state, and look through these for all that no index knows."""
        return listed(rows, chosen, term)

    # -- what is shown

    @admin.display(description="state")
    def state(self, row: Message) -> str:
        """Return its state as a word."""
        return state_of(row, timezone.now())

    @admin.display(description="sent, due or dead")
    def when(self, row: Message) -> str:
        """Return the moment that matters in its state: since when it is dead, when it is due, or when it was sent."""
        return shown.ago(row.dead_at or (row.visible_at if row.owner is None else None) or row.created_at)

    @admin.display(description="created at")
    def created(self, row: Message) -> str:
        """Return when it was sent."""
        return shown.moment_and_age(row.created_at)

    @admin.display(description="not before")
    def not_before(self, row: Message) -> str:
        """Return when it is due."""
        return shown.moment_and_age(row.visible_at)

    @admin.display(description="dead since")
    def dead_since(self, row: Message) -> str:
        """Return when it died."""
        return shown.moment_and_age(row.dead_at)

    @admin.display(description="why it is dead")
    def why(self, row: Message) -> str:
        """Return the beginning of the reason."""
        return shown.cell(row.reason) or "-"

    @admin.display(description="reason")
    def reason_text(self, row: Message) -> str:
        """Return the whole reason."""
        return shown.block(row.reason)

    @admin.display(description="priority")
    def priority(self, row: Message) -> int:
        """Return the priority: larger is more urgent."""
        return -row.rank

    @admin.display(description="result")
    def result(self, row: Message) -> str:
        """Return the state of the task, with a link to its result."""
        if not results_are_rows():
            return f"kept by CELERY_BACKEND {conf.BACKEND!r}, not in a table"
        if not self.may_see("taskmeta"):
            return links.hidden("taskmeta")
        rows = TaskMeta.objects.using(router.db_for_write(TaskMeta)).filter(task_id=row.task_id)
        found = rows.values_list("pk", "status", "attempt").first()
        if not found:
            return "none yet"
        key, status, attempt = found
        return self.link("taskmeta", f"{status}, attempt {attempt}", key=key)

    @admin.display(description="taken by")
    def taken_by(self, row: Message) -> str:
        """Return the worker that holds it, by name if it has a row."""
        if not row.owner:
            return "nobody"
        if not self.may_see("worker"):
            return row.owner
        worker = Worker.objects.using(self.database()).filter(owner=row.owner).first()
        if worker is None:
            return f"{row.owner}, which has no row any more: another worker will take over"
        return self.link("worker", worker.name, key=row.owner)

    @admin.display(description="arguments")
    def arguments(self, row: Message) -> str:
        """Return the arguments."""
        return shown.block(shown.arguments(row))

    @admin.display(description="size")
    def size(self, row: Message) -> str:
        """Return the length of the body."""
        return f"{len(row.body):,} bytes"

    @admin.display(description="headers")
    def headers_text(self, row: Message) -> str:
        """Return the headers."""
        return shown.block(shown.pretty(row.headers))

    # -- what can be done

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False: Django's way of deleting does not ask whether a worker has it. See `delete_selected`."""
        return False

    def applies(self, action: str, row: Message) -> bool:
        """Tell whether an action would change this message now."""
        state = state_of(row, timezone.now())
        return {
            "requeue": state == "dead",
            "run_now": state in {"scheduled", "due"},
            "delete_selected": row.owner is None,
        }[action]

    @admin.action(description="Requeue selected dead messages", permissions=["operate"])
    def requeue(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Send them again, each as a new attempt."""
        unless = "they are not dead, or have a later attempt in the table"
        self._perform(
            request, queryset, dead.requeue_page, past="requeued", entry="Requeued as a new attempt.", unless=unless
        )

    @admin.action(description="Run selected scheduled messages now", permissions=["operate"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Make them ready."""
        unless = "they are not scheduled, or a worker has just taken them"
        self._perform(
            request, queryset, waiting.run_page_now, past="made ready", entry="Made ready at once.", unless=unless
        )

    @admin.action(description="Drop selected messages", permissions=["drop"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask, then delete those that no worker has. Its name puts it in the place of Django's own action."""
        if not actions.is_confirmed(request):
            facts = [
                "They are deleted for good, and these calls of the tasks will never run.",
                "Who waits for the result of one that was not dead yet gets TaskDropped. Dead ones keep their result.",
                "Messages that a worker has taken by then are left alone.",
            ]
            return actions.question(self, request, queryset, verb="Drop", facts=facts)
        self._perform(request, queryset, waiting.drop_page, past="dropped", entry="", unless=HELD, deletes=True)
        return None

    def _perform(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        do: Callable[[QuerySet[Any]], Sequence[Any]],
        **words: Any,
    ) -> None:
        actions.perform(self, request, queryset, Deed(do=do, **words))


# -- which


def listed(rows: QuerySet[Any], chosen: dict[str, str], term: str) -> Found:
    """Find messages by what was chosen and searched for. Raises IncorrectLookupParameters."""
    if chosen.get("state", "dead") not in STATES:
        raise IncorrectLookupParameters
    since = filters.since(chosen)
    if not term:
        return _by_state(rows, chosen, since, [])
    if len(term) > LONGEST_NAME:
        return nothing()
    return _by_id(rows, chosen, since, term) or _by_state(rows, chosen, since, [begins_with("task", term)])


def _by_id(rows: QuerySet[Any], chosen: dict[str, str], since: datetime | None, term: str) -> Found | None:
    rest = _conditions(chosen, since)
    exact = find(rows.filter(task_id=term).order_by("task_id", "attempt"), rest)
    if exact.keys:
        return exact
    begun = rows.filter(from_text_on("task_id", term)).order_by("task_id", "attempt")
    begun_so = find(begun, [begins_with("task_id", term), *rest], notes=[f"Task ids that begin with {term!r}."])
    return begun_so if begun_so.keys else None


def _by_state(rows: QuerySet[Any], chosen: dict[str, str], since: datetime | None, rest: Sequence[Condition]) -> Found:
    indexed, known = through_an_index(rows, chosen, since)
    others = {name: value for name, value in chosen.items() if name not in known}
    return find(indexed, [*rest, *_conditions(others, None if "since" in known else since)])


def through_an_index(
    rows: QuerySet[Any], chosen: dict[str, str], since: datetime | None
) -> tuple[QuerySet[Any], set[str]]:
    """Return rows in the order of an index, and which of the filters that index knows."""
    state, queue, worker = (chosen.get(name) for name in ("state", "queue", "worker"))
    if worker is not None:
        return rows.filter(owner=worker).order_by("owner"), {"worker"}
    if state is None:
        return rows.order_by("-pk"), set()
    rows = rows.filter(STATES[state])
    if state == "waiting" and queue is not None:
        return rows.filter(queue=queue).order_by("rank", "pk"), {"state", "queue"}
    if state == "dead" and since:
        return rows.filter(dead_at__gte=since).order_by("-dead_at"), {"state", "since"}
    orders = {"scheduled": ["visible_at"], "dead": ["-dead_at"], "relayed": ["owner"], "taken": ["owner"]}
    return rows.order_by(*(orders.get(state) or store.of(rows.db).relay_order.split(", "))), {"state"}


def _conditions(chosen: dict[str, str], since: datetime | None) -> list[Condition]:
    columns = {"queue": "queue", "task": "task", "worker": "owner"}
    conditions: list[Condition] = [Q(**{columns[name]: value}) for name, value in chosen.items() if name in columns]
    if state := chosen.get("state"):
        conditions.append(STATES[state])
    if since:
        column = "dead_at" if chosen.get("state") == "dead" else "created_at"
        conditions.append(Q(**{f"{column}__gte": since}))
    return conditions
