"""Results in a database: writers at once, and what is deleted when it is old."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections

from celery import states
from celery.backends import database
from celery.backends.base import Result
from celery.backends.database import Backend
from celery.broker.store.base import Store
from celery.message import Message

OLD = datetime.now(UTC) - timedelta(days=10)
YOUNG = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def backend(alias: str, settings: Any) -> Backend:
    settings.CELERY_BROKER_URL = f"django://{alias}"
    settings.CELERY_TASK_RESULT_EXPIRES = timedelta(days=5)
    return Backend()


def result(task_id: str, state: str = states.DONE, **fields: Any) -> Result:
    return Result(task_id=task_id, state=state, **fields)


def message(task_id: str, **fields: Any) -> Message:
    return Message(**{"task_id": task_id, "task": "shop.add", "body": b"{}", "queue": "celery"} | fields)


class TestWritersAtOnce:
    def test_of_equal_attempts_exactly_one_wins(self, backend: Backend) -> None:
        group = [result(f"id {number}") for number in range(200)]
        backend.store([result(f"id {number}", states.RETRY, attempt=0) for number in range(0, 200, 3)])
        start = threading.Barrier(4)

        def store() -> set[str]:
            start.wait(timeout=30)
            try:
                return _patiently(backend, group)
            finally:
                connections[backend.alias].close()

        with ThreadPoolExecutor(4) as pool:
            won = [future.result(timeout=60) for future in [pool.submit(store) for _ in range(4)]]

        assert sorted(task_id for winners in won for task_id in winners) == sorted(one.task_id for one in group)

    def test_the_latest_attempt_is_what_is_left(self, backend: Backend) -> None:
        start = threading.Barrier(4)

        def store(attempt: int) -> None:
            start.wait(timeout=30)
            try:
                for number in range(12):
                    _patiently(backend, [result(f"id {number}", attempt=attempt, result=f'"{attempt}"')])
            finally:
                connections[backend.alias].close()

        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(store, attempt) for attempt in (1, 2, 3, 4)]:
                future.result(timeout=60)

        found = backend.fetch([f"id {number}" for number in range(12)])
        assert {(stored.attempt, stored.result) for stored in found.values()} == {(4, '"4"')}
        assert len(found) == 12


def _patiently(backend: Backend, group: list[Result]) -> set[str]:
    """Store as the writer does: after a deadlock, and whatever else passes, again."""
    while True:
        try:
            return backend.store(group)
        except OperationalError:
            connections[backend.alias].close()


class TestCleaningUp:
    def test_what_is_older_than_its_lifetime_is_deleted_and_counted(self, backend: Backend) -> None:
        backend.store(
            [result("old", date_done=OLD), result("older", states.FAILURE, date_done=OLD - timedelta(days=1))]
        )
        backend.store([result("young", date_done=YOUNG)])

        assert backend.cleanup() == 2

        assert backend.fetch(["old", "older", "young"]).keys() == {"young"}

    def test_a_second_time_there_is_nothing_to_do(self, backend: Backend) -> None:
        backend.store([result("old", date_done=OLD), result("young", date_done=YOUNG)])
        backend.cleanup()

        assert backend.cleanup() == 0

    def test_more_than_a_page_goes_page_by_page(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "CLEANUP_PAGE", 3)
        backend.store([result(f"id {number}", date_done=OLD) for number in range(10)])

        assert backend.cleanup() == 10

    @pytest.mark.parametrize(
        "fields",
        [
            {"attempt": 2, "visible_at": datetime(2100, 1, 1, tzinfo=UTC)},
            {"attempt": 2},
            {"reason": "it killed three children"},
        ],
        ids=["waiting for its moment", "ready", "dead"],
    )
    def test_the_result_of_a_task_that_has_a_message_stays(
        self, backend: Backend, kept: Store, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
    ) -> None:
        """Without its RETRY a first attempt that comes again would run again, beside the second."""
        monkeypatch.setattr(database, "CLEANUP_PAGE", 2)
        kept.insert([message(f"kept {number}", **fields) for number in range(5)])
        backend.store([result(f"kept {number}", states.RETRY, date_done=OLD) for number in range(5)])
        backend.store([result(f"old {number}", date_done=OLD + timedelta(seconds=1)) for number in range(5)])

        assert backend.cleanup() == 5

        found = backend.fetch([f"{name} {number}" for name in ("kept", "old") for number in range(5)])
        assert found.keys() == {f"kept {number}" for number in range(5)}

    def test_a_result_that_is_replaced_meanwhile_stays(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        backend.store([result("x", states.RETRY, date_done=OLD)])
        look = backend._with_message

        def look_slowly(task_ids: list[str]) -> set[str]:
            found = look(task_ids)
            backend.store([result("x", attempt=2, date_done=YOUNG)])
            return found

        monkeypatch.setattr(backend, "_with_message", look_slowly)

        assert backend.cleanup() == 0

        assert backend.fetch(["x"])["x"].attempt == 2

    @pytest.mark.parametrize("use_tz", [True, False])
    def test_the_age_is_the_same_whatever_use_tz_says(self, backend: Backend, settings: Any, use_tz: bool) -> None:
        settings.TIME_ZONE = "Pacific/Kiritimati"
        settings.USE_TZ = use_tz
        settings.CELERY_TASK_RESULT_EXPIRES = timedelta(hours=2)
        backend.store([result("old", date_done=datetime.now(UTC) - timedelta(hours=3))])
        backend.store([result("young", date_done=YOUNG)])

        assert backend.cleanup() == 1

        assert backend.fetch(["old", "young"]).keys() == {"young"}
