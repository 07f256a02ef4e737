"""celery/waiting.py: what a person does to messages that no worker has."""

import pytest
from django.db import connection

from celery import backends, states, waiting
from celery.exceptions import ResultBackendUnreachable, TaskDropped
from celery.models import Message, TaskMeta
from celery.result import AsyncResult
from tests.unit.admin_pages import later, make_dead, make_message, make_result, make_scheduled

pytestmark = pytest.mark.django_db


def ids(messages: list[Message]) -> list[str]:
    return [message.task_id for message in messages]


def left() -> list[str]:
    return list(Message.objects.order_by("id").values_list("task_id", flat=True))


class TestRunNow:
    def test_what_is_scheduled_is_ready(self) -> None:
        make_scheduled("a")

        assert ids(waiting.run_now(Message.objects.all())) == ["a"]
        assert Message.objects.get().visible_at is None

    def test_all_else_stays_as_it_is(self) -> None:
        make_message("waits")
        make_dead("dead")
        make_scheduled("relayed", owner="me")
        make_message("taken", owner="me")
        before = list(Message.objects.order_by("id").values())

        assert waiting.run_now(Message.objects.all()) == []
        assert list(Message.objects.order_by("id").values()) == before

    def test_only_those_that_were_meant(self) -> None:
        make_scheduled("a")
        make_scheduled("b")

        waiting.run_now(Message.objects.filter(task_id="b"))

        assert list(Message.objects.filter(visible_at=None).values_list("task_id", flat=True)) == ["b"]


class TestDrop:
    def test_what_no_worker_has_is_deleted(self) -> None:
        make_message("waits")
        make_dead("dead")
        make_scheduled("scheduled")

        assert ids(waiting.drop(Message.objects.all())) == ["waits", "dead", "scheduled"]
        assert left() == []

    def test_what_a_worker_has_stays(self) -> None:
        make_message("taken", owner="me")
        make_scheduled("relayed", owner="me")

        assert waiting.drop(Message.objects.all()) == []
        assert left() == ["taken", "relayed"]
        assert not TaskMeta.objects.exists()

    def test_who_waits_for_one_that_was_not_dead_is_told(self) -> None:
        make_message("a")

        waiting.drop(Message.objects.all())

        with pytest.raises(TaskDropped, match=r"^shop.tasks.pay was dropped before a worker took it$"):
            AsyncResult("a").get(timeout=1)
        assert TaskMeta.objects.get().name == "shop.tasks.pay"

    def test_the_state_of_a_retry_becomes_failure(self) -> None:
        make_result("a", status=states.RETRY, attempt=1)
        make_scheduled("a", attempt=2)

        waiting.drop(Message.objects.all())

        stored = TaskMeta.objects.get()
        assert (stored.status, stored.attempt) == (states.FAILURE, 2)

    def test_the_result_of_a_dead_one_stays(self) -> None:
        make_result("a", status=states.FAILURE, result='"why it died"')
        make_dead("a")

        waiting.drop(Message.objects.all())

        assert TaskMeta.objects.get().result == '"why it died"'

    def test_a_dead_one_without_a_result_gets_none(self) -> None:
        make_dead("a")

        waiting.drop(Message.objects.all())

        assert not TaskMeta.objects.exists()

    def test_nothing_is_dropped_when_nobody_could_be_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise ResultBackendUnreachable("it is away")

        make_message("a")
        monkeypatch.setattr(type(backends.default()), "store", refuse)

        with pytest.raises(ResultBackendUnreachable):
            waiting.drop(Message.objects.all())
        assert left() == ["a"]

    def test_bodies_are_not_read(self) -> None:
        make_message("a", body=b"x" * 1000)

        with connection.execute_wrapper(_refuses_bodies):
            waiting.drop(Message.objects.all())


def _refuses_bodies(execute, statement, *rest):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    assert "body" not in statement
    return execute(statement, *rest)


def test_a_moment_that_is_past_can_be_hurried_too() -> None:
    make_scheduled("a", visible_at=later(seconds=-5))

    assert ids(waiting.run_now(Message.objects.all())) == ["a"]
