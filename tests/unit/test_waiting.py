"""celery/waiting.py: what a person does to messages that no worker has."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from celery import backends, broker, states, waiting
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

        assert waiting.run_now(Message.objects.all()) == 1
        assert Message.objects.get().visible_at is None

    def test_all_else_stays_as_it_is(self) -> None:
        make_message("waits")
        make_dead("dead")
        make_scheduled("relayed", owner="me")
        make_message("taken", owner="me")
        before = list(Message.objects.order_by("id").values())

        assert waiting.run_now(Message.objects.all()) == 0
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

        assert waiting.drop(Message.objects.all()) == 3
        assert left() == []

    def test_what_a_worker_has_stays(self) -> None:
        make_message("taken", owner="me")
        make_scheduled("relayed", owner="me")

        assert waiting.drop(Message.objects.all()) == 0
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


class TestPages:
    @pytest.fixture(autouse=True)
    def _small_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(waiting, "PAGE", 3)

    @pytest.mark.parametrize("verb", [waiting.run_now, waiting.drop])
    def test_a_transaction_has_no_more_than_a_page(
        self, verb: Callable[[Any], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        locked: list[int] = []
        lock = waiting._locked

        def note(messages: Any) -> list[Message]:
            rows = lock(messages)
            locked.append(len(rows))
            return rows

        monkeypatch.setattr(waiting, "_locked", note)
        for number in range(7):
            make_scheduled(f"{number}")
            make_scheduled(f"taken {number}", owner="me")

        with CaptureQueriesContext(connection) as queries:
            assert verb(Message.objects.all()) == 7

        assert locked == [3, 3, 1]
        begun = [query["sql"] for query in queries.captured_queries if query["sql"].startswith("SAVEPOINT")]
        assert len(begun) >= 3
        assert Message.objects.filter(visible_at__isnull=False, owner=None).count() == 0
        assert Message.objects.filter(owner="me").count() == 7

    def test_what_comes_meanwhile_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(4):
            make_message(f"early {number}")
        store = type(backends.default()).store

        def send_and_store(backend: Any, results: Any) -> set[str]:
            make_message(f"late {Message.objects.count()}")
            return store(backend, results)

        monkeypatch.setattr(type(backends.default()), "store", send_and_store)

        assert waiting.drop(Message.objects.all()) == 4
        assert [task_id.split()[0] for task_id in left()] == ["late", "late"]

    def test_what_was_dropped_before_the_backend_went_away_stays_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = type(backends.default()).store
        calls: list[int] = []

        def store_once(backend: Any, results: Any) -> set[str]:
            calls.append(len(results))
            if len(calls) > 1:
                raise ResultBackendUnreachable("it is away")
            return store(backend, results)

        for number in range(7):
            make_message(f"{number}")
        monkeypatch.setattr(type(backends.default()), "store", store_once)

        with pytest.raises(ResultBackendUnreachable):
            waiting.drop(Message.objects.all())
        assert left() == ["3", "4", "5", "6"]

    def test_a_condition_is_asked_again_when_the_page_is_locked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        make_message("a", queue="mail")
        make_message("b", queue="mail")
        lock = waiting._locked

        def change_and_lock(messages: Any) -> list[Message]:
            Message.objects.filter(task_id="a").update(queue="post")
            return lock(messages)

        monkeypatch.setattr(waiting, "_locked", change_and_lock)

        assert waiting.drop(Message.objects.filter(queue="mail")) == 1
        assert left() == ["a"]


class TestAPage:
    def test_says_which_were_made_ready(self) -> None:
        make_scheduled("a")
        make_message("b")

        assert ids(waiting.run_page_now(Message.objects.all())) == ["a"]

    def test_says_which_were_dropped(self) -> None:
        make_message("waits")
        make_dead("dead")
        make_message("taken", owner="me")

        assert ids(waiting.drop_page(Message.objects.all())) == ["waits", "dead"]


def test_messages_are_those_that_wait_or_are_scheduled() -> None:
    make_message("waits")
    make_scheduled("scheduled")
    make_dead("dead")
    make_message("taken", owner="me")
    make_scheduled("relayed", owner="me")

    assert ids(list(waiting.messages())) == ["waits", "scheduled"]


def test_messages_are_in_the_database_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "current", lambda: SimpleNamespace(alias="elsewhere"))

    assert waiting.messages().db == "elsewhere"


def test_a_moment_that_is_past_can_be_hurried_too() -> None:
    make_scheduled("a", visible_at=later(seconds=-5))

    assert waiting.run_now(Message.objects.all()) == 1
