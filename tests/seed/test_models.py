"""celery.models and celery.managers: rows of results and of periodic tasks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from celery import backends, managers
from celery.models import PeriodicTaskMeta, TaskMeta
from celery.task import PeriodicTask, Task, tasks
from celery.testing import Worker
from tests.seed.table import rows_of

pytestmark = pytest.mark.django_db

row = rows_of("celery.models")
of_managers = rows_of("celery.managers")


class Add(Task):
    name = "seed.add"

    def run(self, x: int, y: int) -> int:
        return x + y


class Tick(PeriodicTask):
    name = "seed.tick"
    run_every = 3600

    def run(self) -> str:
        return "tock"


@pytest.fixture(autouse=True)
def _tasks() -> None:
    PeriodicTaskMeta.objects.all().delete()
    tasks.clear()
    tasks.register(Add)
    tasks.register(Tick)


@row("TaskMeta", "TaskMeta.task_id", "TaskMeta.status", "TaskMeta.result", "TaskMeta.date_done", "TaskMeta.__str__")
def test_the_result_of_a_task_is_a_row(bench: Worker) -> None:
    before = datetime.now(UTC)
    sent = Add.delay(2, 2)
    bench.run()

    found = TaskMeta.objects.get(task_id=sent.task_id)

    assert (found.task_id, found.status, found.result) == (sent.task_id, "DONE", "4")
    assert before <= found.date_done <= datetime.now(UTC)
    assert str(found) == found.__str__() == f"<Task: {sent.task_id} done:DONE>"


@row("PeriodicTaskMeta", "PeriodicTaskMeta.name", "PeriodicTaskMeta.last_run_at", "PeriodicTaskMeta.total_run_count")
@row("PeriodicTaskMeta.__str__")
def test_what_was_sent_of_a_periodic_task_is_a_row(bench: Worker) -> None:
    backends.default_periodic_status_backend.run_periodic_tasks()
    bench.run()

    (found,) = PeriodicTaskMeta.objects.all()

    assert (found.name, found.total_run_count) == ("seed.tick", 1)
    assert datetime.now(UTC) - timedelta(hours=1) < found.last_run_at <= datetime.now(UTC)
    text = f"<PeriodicTask: seed.tick [last-run:{found.last_run_at}, total-run:1]>"
    assert str(found) == found.__str__() == text


@row("PeriodicTaskMeta.task", "PeriodicTaskMeta.delay")
def test_the_row_knows_its_task_and_can_send_it(bench: Worker) -> None:
    row = PeriodicTaskMeta.objects.create(name="seed.tick")

    result = row.delay()
    bench.run()

    assert row.task is tasks["seed.tick"]
    assert result.get() == "tock"


# -- managers


@of_managers("TaskManager.get_task", "TaskManager.is_done")
def test_a_result_is_found_by_its_id(bench: Worker) -> None:
    good, bad = Add.delay(2, 2), Add.delay(2, "x")
    assert not TaskMeta.objects.is_done(good.task_id)

    bench.run()

    assert isinstance(TaskMeta.objects, managers.TaskManager)
    assert TaskMeta.objects.get_task(good.task_id).status == "DONE"
    assert TaskMeta.objects.get_task(bad.task_id).status == "FAILURE"
    assert TaskMeta.objects.is_done(good.task_id)
    assert not TaskMeta.objects.is_done(bad.task_id)


@of_managers("fix: reading created a row")
def test_reading_creates_no_row() -> None:
    assert TaskMeta.objects.get_task("unknown").status == "PENDING"
    assert not TaskMeta.objects.is_done("unknown")

    assert not TaskMeta.objects.exists()


@of_managers("TaskManager.get_all_expired", "TaskManager.delete_expired")
def test_what_has_expired_is_found_and_deleted(settings: Settings) -> None:
    settings.CELERY_TASK_RESULT_EXPIRES = timedelta(days=2)
    for task_id, age in (("old", 3), ("new", 1)):
        TaskMeta.objects.create(task_id=task_id, status="DONE", date_done=datetime.now(UTC) - timedelta(days=age))

    assert [found.task_id for found in TaskMeta.objects.get_all_expired()] == ["old"]
    TaskMeta.objects.delete_expired()
    assert [found.task_id for found in TaskMeta.objects.all()] == ["new"]


@of_managers("TaskManager.store_result")
def test_a_result_can_be_stored() -> None:
    TaskMeta.objects.store_result("x", [1, None], "DONE")
    TaskMeta.objects.store_result(task_id="y", result=KeyError("no"), status="FAILURE")

    assert backends.default().get_result("x") == [1, None]
    assert isinstance(backends.default().get_result("y"), KeyError)


@of_managers("PeriodicTaskManager.get_waiting_tasks")
def test_what_is_due_is_found(db: None) -> None:
    # given
    def waiting() -> list[Any]:
        return [found.name for found in PeriodicTaskMeta.objects.get_waiting_tasks()]

    PeriodicTaskMeta.objects.create(name="seed.unknown")
    PeriodicTaskMeta.objects.create(name="seed.tick", last_run_at=datetime.now(UTC) - timedelta(hours=3))

    # then
    assert isinstance(PeriodicTaskMeta.objects, managers.PeriodicTaskManager)
    assert waiting() == ["seed.tick"]
    backends.default_periodic_status_backend.run_periodic_tasks()
    assert waiting() == []
