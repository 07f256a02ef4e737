from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from celery import broker, states
from celery.broker.base import Broker
from celery.models import PeriodicTaskMeta, QueueDepth, TaskMeta, Throughput

pytestmark = pytest.mark.django_db


def keep(task_id: str, age: timedelta = timedelta(0), **fields: Any) -> TaskMeta:
    row: TaskMeta = TaskMeta.objects.create(
        task_id=task_id, date_done=timezone.now() - age, **{"status": "DONE", **fields}
    )
    return row


class TestReading:
    def test_finds_a_task_by_its_id(self) -> None:
        kept = keep("x")

        assert TaskMeta.objects.get_task("x") == kept

    def test_an_unknown_task_is_pending_and_reading_creates_no_row(self) -> None:
        found = TaskMeta.objects.get_task("x")

        assert (found.task_id, found.status, found.pk) == ("x", "PENDING", None)
        assert not TaskMeta.objects.exists()

    @pytest.mark.parametrize("state", sorted(states.ALL_STATES))
    def test_only_done_is_done(self, state: str) -> None:
        keep("x", status=state)

        assert TaskMeta.objects.is_done("x") is (state == states.DONE)
        assert not TaskMeta.objects.is_done("y")


class TestExpiry:
    @pytest.fixture(autouse=True)
    def _rows(self, settings: Settings) -> None:
        settings.CELERY_TASK_RESULT_EXPIRES = timedelta(days=2)
        keep("new", timedelta(hours=47))
        keep("old", timedelta(hours=49))
        keep("older", timedelta(days=400), status="FAILURE")

    def test_what_is_older_than_the_setting_is_expired(self) -> None:
        assert set(TaskMeta.objects.get_all_expired().values_list("task_id", flat=True)) == {"old", "older"}

    def test_the_setting_may_be_a_number(self, settings: Settings) -> None:
        settings.CELERY_TASK_RESULT_EXPIRES = 46 * 3600

        assert TaskMeta.objects.get_all_expired().count() == 3

    def test_deleting_deletes_the_expired_and_counts_them(self) -> None:
        assert TaskMeta.objects.delete_expired() == 2

        assert [row.task_id for row in TaskMeta.objects.all()] == ["new"]


class TestStoring:
    def test_stores_a_value_and_returns_the_row(self) -> None:
        row = TaskMeta.objects.store_result("x", {"a": None}, states.DONE)

        assert (row.task_id, row.status, row.result) == ("x", "DONE", '{"a": null}')

    def test_stores_an_exception(self) -> None:
        row = TaskMeta.objects.store_result("x", ValueError("no money"), states.FAILURE)

        assert "no money" in row.result
        assert "ValueError: no money" in row.traceback

    def test_an_attempt_that_is_over_stays(self) -> None:
        TaskMeta.objects.store_result("x", 1, states.DONE)

        row = TaskMeta.objects.store_result("x", ValueError("too late"), states.FAILURE)

        assert (row.status, row.result) == ("DONE", "1")


class TestBesideMessages:
    @pytest.mark.parametrize("model", [PeriodicTaskMeta, Throughput, QueueDepth])
    def test_rows_are_looked_for_where_the_messages_are(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(broker, "current", lambda: Broker("elsewhere://"))
        monkeypatch.setattr(Broker, "alias", "elsewhere")

        assert model.objects.all().db == "elsewhere"
        assert model.objects.using("default").db == "default"
