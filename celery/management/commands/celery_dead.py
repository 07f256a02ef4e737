"""``manage.py celery_dead list | requeue | drop``: the messages that are no longer tried."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from celery import broker, dead
from celery.management.output import database_of, iso, table
from celery.models import Message

DEFAULT_LIMIT = 100


class Command(BaseCommand):
    """Lists dead messages, makes them new attempts, or deletes them."""

    help = "Shows the tasks that are no longer tried, with the reason; sends them again, or drops them."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the three actions."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="list | requeue | drop")
        listing = actions.add_parser("list", help="show dead messages, the longest dead first")
        listing.add_argument("--queue", help="only of this queue")
        listing.add_argument("--task", help="only of the task with this name")
        listing.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help=f"at most so many ({DEFAULT_LIMIT})")
        listing.add_argument("--json", action="store_true", help="as JSON")
        for action, text in (("requeue", "send again, as a new attempt"), ("drop", "delete for good")):
            changing = actions.add_parser(action, help=text)
            changing.add_argument("ids", nargs="*", metavar="ID", help="ids of tasks")
            changing.add_argument("--all", action="store_true", help="all dead messages")
            changing.add_argument("--task", help="with --all: only of the task with this name")

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        """Do what was asked. Raises CommandError."""
        with database_of(broker.current().alias):
            if action == "list":
                self._list(options)
            else:
                self._change(action, options)

    def _list(self, options: dict[str, Any]) -> None:
        if options["limit"] < 0:
            raise CommandError("--limit is a number from 0 up")
        criteria = {name: options[name] for name in ("queue", "task") if options[name] is not None}
        found = dead.messages().filter(**criteria)
        total, shown = found.count(), found.defer("body", "headers")[: options["limit"]]
        if options["json"]:
            self.stdout.write(
                json.dumps({"total": total, "messages": [_facts(message) for message in shown]}, indent=2)
            )
            return
        if not total:
            self.stdout.write("No message is dead.")
            return
        titles = ("task id", "task", "queue", "attempt", "crashes", "dead since", "reason")
        self.stdout.write(table(titles, [tuple(_facts(message).values()) for message in shown]))
        if total > options["limit"]:
            self.stdout.write(f"{options['limit']} of {total} are shown; --limit shows more.")

    def _change(self, action: str, options: dict[str, Any]) -> None:
        chosen = _chosen(options["ids"], everything=options["all"], task=options["task"])
        number = chosen.count()
        changed = dead.requeue(chosen) if action == "requeue" else dead.drop(chosen)
        self.stdout.write(f"{'Requeued' if action == 'requeue' else 'Dropped'} {changed} of {number} messages.")
        if changed < number:
            self.stdout.write("Those left have a later attempt in the table already.")


def _facts(message: Message) -> dict[str, Any]:
    return {
        "task_id": message.task_id,
        "task": message.task,
        "queue": message.queue,
        "attempt": message.attempt,
        "crashes": message.crashes,
        "dead_since": iso(message.dead_at),
        "reason": message.reason,
    }


def _chosen(ids: list[str], *, everything: bool, task: str | None) -> QuerySet[Message]:
    if everything == bool(ids):
        raise CommandError("say which: ids of tasks as `celery_dead list` shows them, or --all")
    if task is not None and not everything:
        raise CommandError("--task goes with --all; an id names its message alone")
    if everything:
        return dead.messages().filter(**({} if task is None else {"task": task}))
    chosen = dead.messages().filter(task_id__in=ids)
    unknown = sorted(set(ids) - set(chosen.values_list("task_id", flat=True)))
    if unknown:
        raise CommandError(f"not dead, so nothing was changed: {', '.join(unknown)}. See `celery_dead list`.")
    return chosen
