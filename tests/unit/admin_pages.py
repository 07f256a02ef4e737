"""What the tests of the admin share: people with some permissions, rows, and what a page says."""

from datetime import timedelta
from html import unescape
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from celery.models import Message, TaskMeta, Worker

XSS = "<script>alert('boo')</script>"


def somebody(*permissions: str, is_superuser: bool = False) -> Client:
    """Return the browser of a member of staff who has `permissions`, such as "view_message"."""
    people = get_user_model().objects
    person = people.create_user(f"person-{people.count()}", is_staff=True, is_superuser=is_superuser)
    found = Permission.objects.filter(content_type__app_label="celery", codename__in=permissions)
    assert len(found) == len(permissions)
    person.user_permissions.set(found)
    client = Client()
    client.force_login(person)
    return client


def root() -> Client:
    """Return the browser of a superuser."""
    return somebody(is_superuser=True)


def later(**difference: float) -> Any:
    """Return a moment from now."""
    return timezone.now() + timedelta(**difference)


def make_message(task_id: str = "a", **fields: Any) -> Message:
    """Make a message; one that waits, unless `fields` say otherwise."""
    usual = {"task": "shop.tasks.pay", "queue": "celery", "body": b"{}"}
    return Message.objects.create(**usual | {"task_id": task_id} | fields)


def make_dead(task_id: str = "a", **fields: Any) -> Message:
    """Make a dead message."""
    return make_message(task_id, **{"dead_at": timezone.now(), "reason": "signal 9"} | fields)


def make_scheduled(task_id: str = "a", **fields: Any) -> Message:
    """Make a message that is due in an hour."""
    return make_message(task_id, **{"visible_at": later(hours=1)} | fields)


def make_result(task_id: str = "a", **fields: Any) -> TaskMeta:
    """Make a result."""
    usual = {"name": "shop.tasks.pay", "status": "DONE", "result": "1", "worker": "host.1"}
    made: TaskMeta = TaskMeta.objects.create(**usual | {"task_id": task_id} | fields)
    return made


def make_worker(owner: str = "me", **fields: Any) -> Worker:
    """Make the row of a worker."""
    usual = {"name": "host.1", "pid": 42, "queues": "celery,mail", "concurrency": 4, "lease": 30.0}
    return Worker.objects.create(**usual | {"owner": owner} | fields)


def listed(client: Client, model: str, **query: Any) -> list[str]:
    """Return what a list shows, by task id or name, in its order."""
    answer = client.get(f"/admin/celery/{model}/", query)
    assert answer.status_code == 200, answer
    return [getattr(row, "task_id", None) or row.name for row in answer.context["cl"].result_list]


def text_of(answer: Any) -> str:
    """Return a page as its reader sees it, nearly."""
    return unescape(answer.content.decode())


def act(client: Client, model: str, action: str, *rows: Any, **more: str) -> Any:
    """Do an action to `rows` as a browser does."""
    chosen = {"action": action, "_selected_action": [row.pk for row in rows], **more}
    return client.post(f"/admin/celery/{model}/", chosen)


def confirm(client: Client, model: str, action: str, *rows: Any, **more: str) -> Any:
    """Do an action whose question was answered with yes."""
    return act(client, model, action, *rows, post="yes", **more)


def said(client: Client, model: str) -> list[str]:
    """Return the messages that the next page shows."""
    return [str(message) for message in client.get(f"/admin/celery/{model}/").context["messages"]]


def log() -> list[tuple[str, int, str]]:
    """Return the log of the admin: the object, what was done to it, and how."""
    entries = LogEntry.objects.order_by("id")
    return [(entry.object_repr, entry.action_flag, entry.change_message) for entry in entries]
