"""celery.worker: the worker, a call in it, and the e-mails about what failed. A real worker is in test_celeryd."""

import logging
import os
import platform
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from django.core import mail as django_mail
from pytest_django import Settings

from celery import backends, log, mail
from celery.datastructures import ExceptionInfo
from celery.exceptions import MeaninglessOption
from celery.messaging import TaskConsumer, TaskPublisher
from celery.registry import tasks
from celery.worker import EmptyQueue, TaskWrapper, UnknownTask, WorkController, jail
from tests.helpers import close_connections
from tests.mails import ADMINS
from tests.seed.table import rows_of

pytestmark = pytest.mark.django_db

row = rows_of("celery.worker")


def divide(x: float, y: float = 2) -> float:
    return x / y


def tell(word: str, **kwargs: Any) -> Any:
    return {"word": word, **kwargs}


@pytest.fixture(autouse=True)
def _tasks() -> None:
    tasks.register(divide, "seed.divide")
    tasks.register(tell, "seed.tell")


class Listening(TaskWrapper):
    """Writes down what it is told."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.told: list[Any] = []

    def on_success(self, ret_value: Any, meta: Any = None) -> None:
        self.told.append(("success", ret_value, meta["task_id"], meta["task_name"], status()))

    def on_failure(self, exc_info: Any, meta: Any = None) -> None:
        self.told.append(("failure", str(exc_info.exception), meta["task_id"], meta["task_name"], status()))


def status(task_id: str = "id-1") -> str:
    return backends.default().get_status(task_id)


# -- jail


@row("jail")
def test_a_value_is_returned_and_stored() -> None:
    assert jail("id-1", divide, [6], {"y": 3}) == 2

    assert (status(), backends.default().get_result("id-1")) == ("DONE", 2)


@row("jail")
def test_an_exception_is_returned_with_its_traceback_and_stored() -> None:
    info = jail("id-1", divide, [6, 0], {})

    assert isinstance(info, ExceptionInfo)
    assert isinstance(info.exception, ZeroDivisionError)
    assert "return x / y" in info.traceback
    assert status() == "FAILURE"


# -- TaskWrapper


@row("TaskWrapper", "TaskWrapper.execute")
def test_a_call_is_run_and_stored() -> None:
    good = TaskWrapper("seed.divide", "id-1", divide, [6], {"y": 3})
    bad = TaskWrapper(task_name="seed.divide", task_id="id-2", task_func=divide, args=[6, 0], kwargs={})

    assert (good.task_name, good.task_id, good.task_func, good.args, good.kwargs) == (
        *("seed.divide", "id-1", divide, [6], {"y": 3}),
    )
    assert good.execute() == 2
    assert isinstance(bad.execute(), ExceptionInfo)
    assert (status("id-1"), status("id-2")) == ("DONE", "FAILURE")


@row("TaskWrapper.extend_with_default_kwargs", "TaskWrapper.execute")
def test_a_call_is_passed_the_log_level_and_file_that_it_is_run_with() -> None:
    call = TaskWrapper("seed.tell", "id-1", tell, ["x"], {})
    wanted = {"task_id": "id-1", "task_name": "seed.tell", "loglevel": logging.DEBUG, "logfile": "a.log"}

    assert call.extend_with_default_kwargs(logging.DEBUG, "a.log") == wanted
    assert call.execute(loglevel=logging.DEBUG, logfile="a.log") == {"word": "x", **wanted}
    assert TaskWrapper("seed.divide", "id-2", divide, [1], {"y": 2}).extend_with_default_kwargs(10, "a") == {"y": 2}


@row("TaskWrapper.on_success", "TaskWrapper.on_failure")
def test_a_call_is_told_how_it_ended_when_that_is_stored() -> None:
    good = Listening("seed.divide", "id-1", divide, [6, 3], {})
    good.execute()
    bad = Listening("seed.divide", "id-1", divide, [6, 0], {})
    bad.execute()

    assert good.told == [("success", 2, "id-1", "seed.divide", "DONE")]
    assert bad.told == [("failure", "division by zero", "id-1", "seed.divide", "DONE")]
    assert [callable(one) for one in (TaskWrapper.on_success, TaskWrapper.on_failure)] == [True, True]


@row("TaskWrapper.on_success", "TaskWrapper.on_failure")
def test_the_end_of_a_call_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    # given
    from_now_on = logging.getLogger("celery")
    call = TaskWrapper("seed.divide", "id-1", divide, [6, 3], {})
    log.connect()

    # when
    with caplog.at_level(logging.INFO, logger=from_now_on.name):
        call.on_success(2, {})
        call.on_failure(ExceptionInfo(ZeroDivisionError("by zero")), {})

    # then
    done, failed = [record.getMessage() for record in caplog.records]
    assert done.startswith("Task seed.divide[id-1] done")
    assert failed == "Task seed.divide[id-1] ended as FAILURE: ZeroDivisionError: by zero"


@row("TaskWrapper.execute_using_pool")
@pytest.mark.django_db(transaction=True)
def test_a_call_may_be_run_in_a_pool() -> None:
    # given
    good = Listening("seed.divide", "id-1", divide, [6, 3], {})
    pool = ThreadPool(1)

    # when
    good.execute_using_pool(pool, loglevel=logging.INFO, logfile=None).wait(10)
    pool.apply_async(close_connections, callback=lambda _: close_connections())  # of the call, and of its answer
    pool.close()
    pool.join()

    # then
    assert good.told[0][:2] == ("success", 2)
    assert status() == "DONE"


@row("TaskWrapper.from_message")
def test_a_call_can_be_made_of_a_message() -> None:
    # given
    task_id = TaskPublisher().delay_task("seed.divide", [6], {"y": 3})
    logger = logging.getLogger("celery.task.seed")

    # when
    with TaskConsumer() as consumer:
        (message,) = list(consumer)
        call = TaskWrapper.from_message(message, logger)
        value = call.execute()
        message.ack()

    # then
    assert (call.task_name, call.task_id, call.args, call.kwargs) == ("seed.divide", task_id, [6], {"y": 3})
    assert call.logger is logger
    assert (value, status(task_id)) == (2, "DONE")


@row("UnknownTask", "TaskWrapper.from_message")
def test_a_message_for_an_unknown_task_is_told() -> None:
    TaskPublisher().delay_task("seed.unknown", [], {})

    with TaskConsumer() as consumer:
        (message,) = list(consumer)
        with pytest.raises(UnknownTask, match=r"seed\.unknown"):
            TaskWrapper.from_message(message, logging.getLogger())
        message.reject()


@row("EmptyQueue")
def test_code_that_catches_an_empty_queue_goes_on() -> None:
    """Nothing raises it today: a queue that is empty has no message, and workers wait."""
    with TaskConsumer() as consumer:
        try:
            found = consumer.fetch()
        except EmptyQueue:
            found = None

    assert found is None
    assert issubclass(EmptyQueue, Exception)


# -- the worker


@row("options without a meaning today", "WorkController")
@pytest.mark.parametrize("option", [{"queue_wakeup_after": 0.3}, {"is_detached": True}])
def test_options_without_a_meaning_warn(option: Any) -> None:
    with pytest.warns(MeaninglessOption, match="mean nothing any more"):
        WorkController(concurrency=1, **option)


@row("WorkController")
def test_a_worker_has_the_number_of_processes_of_its_option_or_the_settings(settings: Settings) -> None:
    settings.CELERYD_CONCURRENCY = 7

    assert WorkController().concurrency == 7
    assert WorkController(3, "a.log", "DEBUG").concurrency == 3


# -- e-mails


@pytest.fixture
def admins(settings: Settings) -> None:
    settings.ADMINS = ADMINS
    settings.DEBUG = False
    mail.connect()


def sent() -> list[Any]:
    """Run a task that fails, and return the e-mails."""
    TaskWrapper("seed.divide", "id-1", divide, [6, 0], {}).execute()
    mail.flush()
    return django_mail.outbox


@row("error e-mail")
def test_a_failure_is_mailed_to_the_admins(admins: None) -> None:
    (email,) = sent()

    assert email.to == ["ada@example.com"]
    for word in (platform.node(), "seed.divide", "id-1", "ZeroDivisionError: division by zero"):
        assert word in email.subject
    assert "Traceback (most recent call last):" in email.body
    assert "return x / y" in email.body
    assert str(os.getpid()) in email.body


@row("no error e-mail while DEBUG")
@pytest.mark.parametrize(
    ("debug", "setting", "number"), [(False, None, 1), (True, None, 0), (True, True, 1), (False, False, 0)]
)
def test_failures_are_mailed_where_nobody_debugs(
    admins: None, settings: Settings, debug: bool, setting: bool | None, number: int
) -> None:
    settings.DEBUG = debug
    settings.SEND_CELERY_TASK_ERROR_EMAILS = setting

    assert len(sent()) == number
