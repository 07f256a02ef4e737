"""`celery.testing`, and tasks that run inline, on every database: what unit tests see on SQLite in memory only."""

import threading
from typing import Any

import pytest
from django.db import connections, transaction

from celery import states
from celery.exceptions import UnencodableResult
from celery.models import Message, TaskMeta, Worker
from celery.task import task
from celery.testing import run_inline, worker
from tests.helpers import eventually
from tests.shop.tasks import add, echo, fail


@task(name="testing.statement")
def statement(alias: str, text: str) -> None:
    """Execute a statement on a connection of the worker's, whatever comes of it."""
    with connections[alias].cursor() as cursor:
        cursor.execute(text)


@task(name="testing.statement_quietly")
def statement_quietly(alias: str, text: str) -> str:
    try:
        statement(alias, text)
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    return ""


@task(name="testing.retries", auto_retry=True, retry_interval=0, max_retries=2)
def retries() -> None:
    raise OSError


WRONG = "SELECT 1 FROM no_such_table"


@pytest.mark.usefixtures("alias")
class TestABackgroundWorker:
    def test_results_come_while_the_test_goes_on(self) -> None:
        with worker(background=True):
            results = [add.delay(number, 1) for number in range(20)]

            assert [result.get(timeout=10) for result in results] == list(range(1, 21))

    def test_test_and_worker_write_at_the_same_time(self) -> None:
        with worker(background=True) as w:
            for number in range(50):
                with transaction.atomic(using=Message.objects.db):
                    add.delay(number, 1)
            w.wait(timeout=20)

        assert TaskMeta.objects.count() == 50

    def test_retries_come_to_their_end(self) -> None:
        with worker(background=True) as w:
            result = retries.delay()
            with pytest.raises(OSError):  # noqa: PT011
                result.get(timeout=10)
            w.wait()

        assert not Message.objects.exists()

    def test_it_leaves_no_thread_no_connection_and_no_row(self, alias: str) -> None:
        with worker(background=True):
            add.delay(1, 2).get(timeout=10)
            inside = _sessions(alias)

        assert eventually(lambda: _sessions(alias) < inside or connections[alias].vendor == "sqlite")
        assert "celery.testing.worker" not in [thread.name for thread in threading.enumerate()]
        assert not Worker.objects.exists()


def _sessions(alias: str) -> int:
    """Return how many connections the database has; 0 on SQLite, which does not say."""
    questions = {
        "postgresql": "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()",
        "mysql": "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()",
    }
    with connections[alias].cursor() as cursor:
        cursor.execute(questions.get(connections[alias].vendor, "SELECT 0"))
        return int(cursor.fetchone()[0])


class TestInsideATransaction:
    def test_a_worker_runs_what_is_not_committed(self, alias: str) -> None:
        with transaction.atomic(using=alias), worker() as w:
            results: list[Any] = [add.delay(1, 2), fail.delay("no"), retries.delay()]
            w.run_scheduled()

            assert [result.status for result in results] == ["DONE", "FAILURE", "FAILURE"]
            transaction.set_rollback(True, using=alias)

        assert not TaskMeta.objects.exists()

    @pytest.mark.parametrize("how", [run_inline, worker])
    def test_a_failed_statement_of_a_task_leaves_the_transaction_usable(self, alias: str, how: Any) -> None:
        with how() as w:
            with transaction.atomic(using=alias):
                result = statement.delay(alias, WRONG)
                _ = w.run() if w else None

                assert result.status == states.FAILURE
                echo.delay(1)
            _ = w.run() if w else None

        assert TaskMeta.objects.count() == 2

    def test_a_failed_statement_that_the_task_has_answered_leaves_it_usable_too(self, alias: str) -> None:
        with run_inline(), transaction.atomic(using=alias):
            result = statement_quietly.delay(alias, WRONG)

            assert result.get() in {"ProgrammingError", "OperationalError"}

    def test_a_result_that_the_database_refuses_is_a_failure(self, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celery.worker.child._encoded", lambda _call, _value: "\0")

        with run_inline(), transaction.atomic(using=alias):
            result = add.delay(1, 2)
            if connections[alias].vendor == "postgresql":
                assert isinstance(result.result, UnencodableResult)
            assert Message.objects.count() == 0
