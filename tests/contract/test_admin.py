"""The pages of the admin and their actions on each database, beside another one that has users and the log."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connections, router
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from celery.models import Message, PeriodicTaskMeta, TaskMeta, Worker
from tests.shop.database_url import database_from

SITE = "contract_site"


class OursApart:
    """A router that sends the models of celery to one database, and users, sessions and the log to another."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def db_for_read(self, model: Any, **_: Any) -> str:
        return self._alias if model._meta.app_label == "celery" else SITE

    db_for_write = db_for_read


@pytest.fixture(scope="module")
def _site(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """The database of the rest of the project."""
    path = tmp_path_factory.mktemp("site") / "site.sqlite3"
    connections.settings[SITE] = {**connections.settings["default"], **database_from(str(path))}
    with django_db_blocker.unblock():
        call_command("migrate", database=SITE, verbosity=0)
        yield
        connections[SITE].close()
    del connections[SITE]
    del connections.settings[SITE]


@pytest.fixture
def person(_site: None, alias: str, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[Client]:
    """A superuser. Messages and results are in the database in turn."""
    monkeypatch.setattr(router, "routers", [OursApart(alias)])
    settings.CELERY_BROKER_URL = f"django://{alias}"
    ContentType.objects.clear_cache()
    user = get_user_model().objects.create_superuser("root")
    client = Client()
    client.force_login(user)
    yield client
    LogEntry.objects.all().delete()
    Session.objects.all().delete()
    user.delete()
    ContentType.objects.clear_cache()


def message(alias: str, task_id: str, **fields: Any) -> Message:
    usual = {"task": "shop.pay", "queue": "celery", "body": b"{}"}
    return Message.objects.using(alias).create(task_id=task_id, **usual | fields)


def dead(alias: str, task_id: str, **fields: Any) -> Message:
    return message(alias, task_id, dead_at=timezone.now(), reason="signal 9", **fields)


def act(person: Client, model: str, action: str, *rows: Any) -> None:
    chosen = {"action": action, "_selected_action": [row.pk for row in rows], "post": "yes"}
    assert person.post(f"/admin/celery/{model}/", chosen).status_code == 302


def said(person: Client, model: str) -> list[str]:
    return [str(one) for one in person.get(f"/admin/celery/{model}/").context["messages"]]


def left(alias: str) -> list[str]:
    return list(Message.objects.using(alias).order_by("id").values_list("task_id", flat=True))


def test_the_pages_show_the_rows_of_that_database(person: Client, alias: str) -> None:
    rows = {
        "message": dead(alias, "a"),
        "taskmeta": TaskMeta.objects.using(alias).create(task_id="a", status="FAILURE"),
        "worker": Worker.objects.using(alias).create(owner="me", name="w", pid=1, queues="q", concurrency=1, lease=30),
        "periodictaskmeta": PeriodicTaskMeta.objects.using(alias).create(name="shop.sweep", last_task_id="a"),
    }

    for model, row in rows.items():
        answer = person.get(f"/admin/celery/{model}/")
        assert [one.pk for one in answer.context["cl"].result_list] == [row.pk]
        assert person.get(f"/admin/celery/{model}/{row.pk}/change/").status_code == 200
        assert person.get(f"/admin/celery/{model}/{row.pk}/history/").status_code == 200


@pytest.mark.parametrize("state", ["waiting", "scheduled", "taken", "relayed", "dead"])
def test_any_filters_and_searches_can_be_combined(person: Client, alias: str, state: str) -> None:
    moment = timezone.now()
    states: dict[str, dict[str, Any]] = {
        "waiting": {},
        "scheduled": {"visible_at": moment},
        "taken": {"owner": "me"},
        "relayed": {"visible_at": moment, "owner": "me"},
        "dead": {"dead_at": moment},
    }
    for name, fields in states.items():
        message(alias, f"{name}-1", **fields)
        message(alias, f"{name}-2", **fields, queue="mail", task="shop.refund")

    def found(**query: str) -> set[str]:
        answer = person.get("/admin/celery/message/", {"state": state, **query})
        return {row.task_id for row in answer.context["cl"].result_list}

    assert found() == {f"{state}-1", f"{state}-2"}
    assert found(queue="mail", since="1", task="shop.refund") == {f"{state}-2"}
    assert found(q=f"{state}-", queue="celery") == {f"{state}-1"}
    assert found(q="shop.r") == {f"{state}-2"}
    assert found(q="shop.", worker="me") == (found() if state in {"taken", "relayed"} else set())


@pytest.mark.parametrize("term", ["ab", "aB", "ab9", "ab-", "ab_", "ab%", "é", "abz", "aZ"])
def test_the_beginning_of_an_id_is_exact_in_every_collation(person: Client, alias: str, term: str) -> None:
    known = [
        *("ab", "aB", "AB", "ab9", "ab9x", "ab-1", "ab1", "ab_1", "ab%1", "a+b"),
        *("é1", "e1", "É1", "abz", "abzz", "ac", "aZ1", "az1"),
    ]
    for task_id in known:
        message(alias, f"{task_id}:x")
        TaskMeta.objects.using(alias).create(task_id=f"{task_id}:x", name="n")

    for model in ("message", "taskmeta"):
        answer = person.get(f"/admin/celery/{model}/", {"q": term})
        found = {row.task_id for row in answer.context["cl"].result_list}
        assert found == {f"{task_id}:x" for task_id in known if task_id.startswith(term)}


def test_dead_messages_are_requeued(person: Client, alias: str) -> None:
    first, second, stays = dead(alias, "a"), dead(alias, "b"), dead(alias, "c")
    message(alias, "c", attempt=2)

    act(person, "message", "requeue", first, second, stays)

    unless = "they are not dead, or have a later attempt in the table"
    assert said(person, "message") == ["2 messages requeued.", f"1 message not requeued: {unless}."]
    assert [row.task_id for row in Message.objects.using(alias).filter(dead_at__isnull=False)] == ["c"]
    assert LogEntry.objects.count() == 2


def test_scheduled_messages_are_hurried(person: Client, alias: str) -> None:
    act(person, "message", "run_now", message(alias, "a", visible_at="2100-01-01T00:00Z"))

    assert Message.objects.using(alias).get().visible_at is None
    assert LogEntry.objects.count() == 1


def test_messages_are_dropped_unless_a_worker_has_them(person: Client, alias: str) -> None:
    act(person, "message", "delete_selected", message(alias, "a"), dead(alias, "b"), message(alias, "c", owner="me"))

    assert left(alias) == ["c"]
    assert list(TaskMeta.objects.using(alias).values_list("task_id", "status")) == [("a", "FAILURE")]
    assert LogEntry.objects.count() == 2


def test_results_are_deleted(person: Client, alias: str) -> None:
    rows = [TaskMeta.objects.using(alias).create(task_id=task_id) for task_id in "ab"]

    act(person, "taskmeta", "delete_selected", *rows)
    person.post(
        f"/admin/celery/taskmeta/{TaskMeta.objects.using(alias).create(task_id='c').pk}/delete/", {"post": "yes"}
    )

    assert not TaskMeta.objects.using(alias).exists()
    assert LogEntry.objects.count() == 3


def test_what_cannot_be_logged_is_not_done(person: Client, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing log, in a database of its own, takes the change back."""

    def refuse(*_: object, **__: object) -> Any:
        raise RuntimeError("the log is full")

    monkeypatch.setattr(type(LogEntry.objects), "log_actions", refuse)
    row = message(alias, "a", visible_at="2100-01-01T00:00Z")

    for action in ("run_now", "delete_selected"):
        with pytest.raises(RuntimeError, match="the log is full"):
            act(person, "message", action, row)

    assert left(alias) == ["a"]
    assert Message.objects.using(alias).get().visible_at is not None
    assert not TaskMeta.objects.using(alias).exists()
