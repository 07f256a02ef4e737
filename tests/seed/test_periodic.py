"""celery.task: tasks by the clock, and celery.backends.database, which sends them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from celery import backends
from celery.backends.base import Result
from celery.backends.database import Backend
from celery.backends.periodic import PeriodicTasks
from celery.exceptions import InvalidSchedule
from celery.models import Message, PeriodicTaskMeta, TaskMeta
from celery.task import DeleteExpiredTaskMetaTask, PeriodicTask, tasks
from celery.testing import Worker
from tests.seed.table import rows_of

pytestmark = pytest.mark.django_db

row = rows_of("celery.task")
of_database = rows_of("celery.backends.database")


class Tick(PeriodicTask):
    name = "seed.tick"
    run_every = timedelta(hours=1)

    def run(self, **kwargs: Any) -> str:
        return kwargs["task_name"]  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with one periodic task, which no database has seen."""
    tasks.clear()
    tasks.register(Tick)
    PeriodicTaskMeta.objects.all().delete()


@row("PeriodicTask", "PeriodicTask.type")
def test_a_periodic_task_is_a_task_of_another_type() -> None:
    assert isinstance(tasks["seed.tick"], PeriodicTask)
    assert PeriodicTask.type == tasks["seed.tick"].type == "periodic"
    assert set(tasks.get_all_periodic()) == {"seed.tick"}


@row("PeriodicTask.run_every")
@pytest.mark.parametrize("interval", [1800, 1800.0, timedelta(minutes=30)])
def test_the_interval_is_in_seconds_or_a_timedelta(interval: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    made = type("Made", (PeriodicTask,), {"name": "seed.made", "run_every": interval, "run": lambda self: None})
    tasks.unregister("seed.tick")
    tasks.register(made)

    # then
    assert tasks["seed.made"].run_every == timedelta(minutes=30)
    assert sent_at(monkeypatch, 0, 29, 31, 59, 61) == [1, 1, 2, 2, 3]


@row("PeriodicTask.run_every")
def test_a_periodic_task_without_an_interval_is_refused() -> None:
    class Never(PeriodicTask):
        name = "seed.never"

    assert Never.run_every is None
    with pytest.raises(InvalidSchedule):
        tasks.register(Never)


def sent_at(monkeypatch: pytest.MonkeyPatch, *minutes: int) -> list[int]:
    """Look what is due at these minutes; return how many messages there were after each look."""
    now = datetime(2026, 5, 1, tzinfo=UTC)
    looking = PeriodicTasks(Backend().alias)
    counts: list[int] = []
    for minute in minutes:
        moment = now + timedelta(minutes=minute)
        monkeypatch.setattr(looking, "now", lambda moment=moment: moment)
        looking.run()
        Message.objects.filter(owner="").update(owner=None)
        counts.append(PeriodicTaskMeta.objects.get().total_run_count)
    return counts


@row("periodic tasks run by the clock")
@of_database("Backend.run_periodic_tasks")
def test_what_is_due_is_sent_once_however_many_look(bench: Worker) -> None:
    # when
    waits = [Backend().run_periodic_tasks() for _ in range(3)]

    # then
    assert [message.task for message in Message.objects.all()] == ["seed.tick"]
    assert all(0 <= wait <= 3600 for wait in waits)
    (run,) = bench.run()
    assert (run.task, run.state) == ("seed.tick", "DONE")
    assert PeriodicTaskMeta.objects.get().total_run_count == 1
    assert backends.default().get_result(run.task_id) == "seed.tick"


@row("DeleteExpiredTaskMetaTask")
def test_expired_results_are_deleted_once_a_day(bench: Worker, settings: Settings) -> None:
    # given
    settings.CELERY_TASK_RESULT_EXPIRES = timedelta(days=2)
    for task_id, age in (("old", 3), ("new", 1)):
        Backend().store([Result(task_id=task_id, state="DONE", date_done=datetime.now(UTC) - timedelta(days=age))])
    tasks.register(DeleteExpiredTaskMetaTask)

    # when
    result = DeleteExpiredTaskMetaTask.delay()
    bench.run()

    # then
    assert result.get() == 1
    assert set(TaskMeta.objects.values_list("task_id", flat=True)) == {"new", result.task_id}
    assert DeleteExpiredTaskMetaTask.run_every == timedelta(days=1)
    assert DeleteExpiredTaskMetaTask.name in tasks.get_all_periodic()
