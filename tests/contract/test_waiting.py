"""Hurrying and dropping messages, on each database, beside workers that take them."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction
from pytest_django import Settings

from celery import backends, states, waiting
from celery.broker.store.base import Store
from celery.message import Message
from celery.models import Message as Row
from celery.models import TaskMeta
from tests.helpers import close_connections

ME = "a" * 32
FUTURE = "2100-01-01T00:00:00+00:00"


@pytest.fixture(autouse=True)
def _queue_in_turn(alias: str, settings: Settings) -> None:
    settings.CELERY_BROKER_URL = f"django://{alias}"


def send(kept: Store, *task_ids: str) -> None:
    kept.insert([Message(task_id=task_id, task="shop.pay", body=b"{}", queue="celery") for task_id in task_ids])


def work(kept: Store) -> None:
    kept.enlist(ME, name="worker", pid=1, queues=["celery"], concurrency=1, lease=30)


def rows(alias: str) -> Any:
    return Row.objects.using(alias).order_by("id")


class TestRunningNow:
    def test_a_worker_takes_it_at_once(self, kept: Store, alias: str) -> None:
        send(kept, "a")
        rows(alias).update(visible_at=FUTURE)
        work(kept)
        assert kept.claim(ME, "celery", 1) == []

        assert waiting.run_now(rows(alias)) == 1

        assert [delivery.task_id for delivery in kept.claim(ME, "celery", 1)] == ["a"]

    def test_what_a_relay_has_taken_is_left_to_it(self, kept: Store, alias: str) -> None:
        send(kept, "a")
        rows(alias).update(visible_at=FUTURE, owner=ME)

        assert waiting.run_now(rows(alias)) == 0
        assert rows(alias).get().visible_at is not None


class TestDropping:
    def test_what_a_worker_has_taken_is_left_to_it(self, kept: Store, alias: str) -> None:
        send(kept, "a", "b")
        work(kept)
        kept.claim(ME, "celery", 1)

        assert waiting.drop(rows(alias)) == 1

        assert [row.task_id for row in rows(alias)] == ["a"]
        assert list(TaskMeta.objects.using(alias).values_list("task_id", "status")) == [("b", states.FAILURE)]

    def test_hundreds_are_dropped_page_by_page(self, kept: Store, alias: str) -> None:
        send(kept, *(f"{number}" for number in range(700)))

        assert waiting.drop(rows(alias)) == 700

        assert rows(alias).count() == 0
        assert TaskMeta.objects.using(alias).filter(status=states.FAILURE).count() == 700

    def test_a_page_is_committed_before_the_next_one_begins(
        self, kept: Store, alias: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else all of them would be locked, and all locks held, until the last one is dropped."""
        send(kept, *(f"{number}" for number in range(1100)))
        seen: list[int] = []
        store_failures = backends.default().store

        def look_and_store(results: Any) -> set[str]:
            in_a_thread(lambda: seen.append(rows(alias).count()))
            return store_failures(results)

        monkeypatch.setattr(backends.default(), "store", look_and_store)

        assert waiting.drop(rows(alias)) == 1100
        assert seen == [1100, 600, 100]

    def test_a_worker_that_comes_meanwhile_gets_nothing_of_it(
        self, kept: Store, alias: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between looking and deleting, while the failure is stored, the message is nobody else's."""
        send(kept, "a")
        work(kept)
        taken: list[int] = []
        store_failures = backends.default().store

        def store_slowly(results: Any) -> set[str]:
            if connections[alias].vendor != "sqlite":  # which has one writer at a time: the worker would only wait
                in_a_thread(lambda: taken.append(len(kept.claim(ME, "celery", 1))))
            return store_failures(results)

        monkeypatch.setattr(backends.default(), "store", store_slowly)

        assert waiting.drop(rows(alias)) == 1
        assert sum(taken) == 0

    def test_what_somebody_else_is_just_changing_is_left_to_them(self, kept: Store, alias: str) -> None:
        if connections[alias].vendor == "sqlite":
            pytest.skip("it locks no rows: whoever comes second waits")
        send(kept, "a", "b")
        dropped: list[int] = []

        with transaction.atomic(using=alias):
            list(rows(alias).filter(task_id="a").select_for_update())
            in_a_thread(lambda: dropped.append(waiting.drop(rows(alias))))

        assert dropped == [1]
        assert [row.task_id for row in rows(alias)] == ["a"]


def in_a_thread(deed: Callable[[], None]) -> None:
    """Do it on connections of its own, as another process would."""

    def do() -> None:
        try:
            deed()
        finally:
            close_connections()

    thread = threading.Thread(target=do)
    thread.start()
    thread.join()
