"""celery.task: the functions that send, classes of tasks, and what comes of their options."""

import logging
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail as django_mail
from pytest_django import Settings

import celery.task
from celery import mail, registry
from celery.exceptions import MeaninglessOption, NotRegistered, RetryTask, UnroutableMessage
from celery.messaging import TaskConsumer, TaskPublisher
from celery.models import Message, TaskMeta
from celery.task import Task, apply_async, delay_task, discard_all, is_done, tasks
from celery.testing import Worker
from tests.mails import ADMINS
from tests.seed.conftest import Rabbit
from tests.seed.table import rows_of

pytestmark = pytest.mark.django_db

row = rows_of("celery.task")


class Add(Task):
    name = "seed.add"

    def run(self, x: int, y: int = 0) -> int:
        return x + y


class Urgent(Add):
    name = "seed.urgent"
    priority = 9
    routing_key = "express"


class Derived(Task):
    def run(self) -> str:
        return "found"


@pytest.fixture(autouse=True)
def _tasks() -> None:
    for task in (Add, Urgent, Derived):
        tasks.register(task)


def register(**attributes: Any) -> Any:
    """Define a task with these attributes, and return its class."""
    made = type("Made", (Task,), {"name": "seed.made", **attributes})
    tasks.register(made)
    return made


# -- the functions


@row("tasks", "Task")
def test_the_package_has_the_registry_and_the_classes() -> None:
    assert celery.task.tasks is registry.tasks
    assert isinstance(celery.task.tasks["seed.add"], Task)


@row("apply_async", "Task.apply_async")
def test_a_task_is_sent_with_its_arguments(bench: Worker) -> None:
    results = [
        apply_async(Add, [2, 2]),
        apply_async(Add, args=[2], kwargs={"y": 3}),
        apply_async(tasks["seed.add"], kwargs={"x": 6}),
        Add.apply_async([3], {"y": 4}),
        Add.apply_async(args=[8], priority=3),
    ]
    bench.run()

    assert [result.get() for result in results] == [4, 5, 6, 7, 8]


@row("apply_async routing_key")
def test_the_routing_key_of_a_call_is_its_queue(bench: Worker) -> None:
    apply_async(Add, [1], routing_key="slow")

    assert Message.objects.get().queue == "slow"


@row("apply_async immediate", "apply_async mandatory", "Task.immediate", "Task.mandatory")
def test_immediate_and_mandatory_are_accepted_and_change_nothing(bench: Worker) -> None:
    # given
    made = register(immediate=True, mandatory=False, run=lambda self: "ran")

    # when
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [apply_async(Add, [1], immediate=True, mandatory=False), made.delay()]
    bench.run()

    # then
    assert [result.get() for result in results] == [1, "ran"]


@row("apply_async mandatory", "apply_async immediate", "Task.mandatory", "Task.immediate")
@pytest.mark.rabbitmq
@pytest.mark.django_db(transaction=True)
def test_a_message_that_fits_no_queue_is_an_error_whatever_was_asked(rabbit: Rabbit, settings: Settings) -> None:
    # given
    settings.CELERY_AMQP_CONSUMER_ROUTING_KEY = "here"
    settings.CELERY_AMQP_PUBLISHER_ROUTING_KEY = "elsewhere"
    made = register(immediate=True, mandatory=False, run=lambda self: None)

    # then
    options: list[dict[str, Any]] = [{"immediate": True}, {"mandatory": False}]
    for option in options:
        with pytest.raises(UnroutableMessage):
            apply_async(Add, [1], **option)
    with pytest.raises(UnroutableMessage):
        made.delay()


@row("apply_async connect_timeout")
def test_a_connect_timeout_warns_once_that_it_means_nothing(bench: Worker) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        results = [apply_async(Add, [number], connect_timeout=4) for number in range(3)]
    bench.run()

    assert [warning.category for warning in caught] == [MeaninglessOption]
    assert "CELERY_PUBLISH_TIMEOUT" in str(caught[0].message)
    assert [result.get() for result in results] == [0, 1, 2]


@row("apply_async priority", "Task.priority")
def test_the_larger_priority_runs_first(bench: Worker) -> None:
    sent = {
        "none": apply_async(Add, [1]),
        "low": apply_async(Add, [1], priority=1),
        "task": Urgent.apply_async([1], routing_key="celery"),
        "high": apply_async(Add, [1], priority=10),
    }

    order = [run.task_id for run in bench.run()]

    assert order == [sent[name].task_id for name in ("high", "task", "low", "none")]


@row("apply_async countdown", "apply_async eta")
def test_a_task_may_be_sent_for_later(bench: Worker) -> None:
    later = [
        apply_async(Add, [1], countdown=60),
        apply_async(Add, [2], eta=datetime.now(UTC) + timedelta(seconds=60)),
        Add.apply_async([3], countdown=60),
        Add.apply_async([4], eta=datetime.now(UTC) + timedelta(seconds=60)),
    ]

    assert bench.run(now=50) == []
    assert len(bench.run(now=70)) == len(later)
    assert [result.get() for result in later] == [1, 2, 3, 4]


@row("delay_task")
def test_a_task_can_be_sent_by_its_name(bench: Worker) -> None:
    result = delay_task("seed.add", 2, y=3)
    bench.run()

    assert result.get() == 5
    with pytest.raises(NotRegistered, match=r"seed\.unknown"):
        delay_task("seed.unknown", 2)


@row("discard_all")
def test_what_waits_can_be_discarded(bench: Worker) -> None:
    for number in range(3):
        Add.delay(number)
    Urgent.delay(1)

    assert discard_all() == 3
    assert discard_all() == 0
    assert [run.task for run in bench.run()] == ["seed.urgent"]


@row("is_done")
def test_a_task_is_done_when_it_has_succeeded(bench: Worker) -> None:
    good, bad = Add.delay(1), Add.delay("x", 1)
    assert not is_done(good.task_id)

    bench.run()

    assert is_done(good.task_id)
    assert not is_done(bad.task_id)


# -- Task


@row("Task.name", "Task.delay", "Task.type")
def test_a_class_with_a_name_is_run_under_it(bench: Worker) -> None:
    result = Add.delay(2, y=2)

    (run,) = bench.run()

    assert (run.task, result.get()) == ("seed.add", 4)
    assert Add.name == "seed.add"
    assert Add.type == "regular"
    assert "seed.add" in tasks.get_all_regular()


@row("fix: a name was required")
def test_a_class_without_a_name_has_that_of_its_definition(bench: Worker) -> None:
    result = Derived.delay()

    (run,) = bench.run()

    assert (run.task, result.get()) == (f"{__name__}.Derived", "found")


@row("Task.run", "Task.__call__")
def test_calling_a_task_runs_it_here() -> None:
    assert Add()(2, y=3) == Add().run(2, 3) == Add().__call__(5) == 5
    assert not Message.objects.exists()
    with pytest.raises(NotImplementedError):
        Task().run(1, x=2)
    with pytest.raises(NotImplementedError):
        Task()()


@row("Task.routing_key")
def test_a_task_has_a_queue(bench: Worker) -> None:
    Urgent.delay(1)

    assert Message.objects.get().queue == Urgent.routing_key == "express"


@row("fix: class attributes won over options of the call")
def test_the_call_wins_over_the_class(bench: Worker) -> None:
    Urgent.apply_async([1], priority=2, routing_key="slow")
    Urgent.apply_async([1], priority=0)

    rows = Message.objects.order_by("id")
    assert [(row.queue, -row.rank) for row in rows] == [("slow", 2), ("express", 0)]


@row("Task.ignore_result")
def test_the_value_of_a_task_may_be_ignored_but_not_its_failure(bench: Worker) -> None:
    made = register(ignore_result=True, run=lambda self, number: 1 / number)
    good, bad = made.delay(1), made.delay(0)

    bench.run()

    assert list(TaskMeta.objects.values_list("task_id", "status")) == [(bad.task_id, "FAILURE")]
    assert good.status == "PENDING"


@row("Task.disable_error_emails")
def test_a_task_may_keep_its_failures_from_the_admins(bench: Worker, settings: Settings) -> None:
    # given
    settings.ADMINS = ADMINS
    settings.SEND_CELERY_TASK_ERROR_EMAILS = True
    quiet = register(disable_error_emails=True, run=lambda self: 1 / 0)
    mail.connect()

    # when
    loud = Add.delay("x", 1)
    quiet.delay()
    bench.run()
    mail.flush()

    # then
    (email,) = django_mail.outbox
    assert loud.task_id in email.subject


# -- trying again


def fail(self: Task, *args: Any) -> None:
    raise ConnectionError("nobody answers")


def attempts(bench: Worker, made: Any, *args: Any) -> list[str]:
    """Send the task, run it to its end, and return the state of each attempt."""
    made.delay(*args)
    return [run.state for run in bench.run_scheduled()]


@row("Task.auto_retry", "Task.max_retries")
def test_a_task_may_be_tried_again_without_asking(bench: Worker) -> None:
    assert attempts(bench, register(run=fail)) == ["FAILURE"]
    tasks.unregister("seed.made")

    assert attempts(bench, register(run=fail, auto_retry=True, max_retries=2)) == ["RETRY", "RETRY", "FAILURE"]


@row("Task.max_retries")
def test_without_a_limit_of_its_own_a_task_has_three_retries() -> None:
    assert Task.max_retries == 3
    assert Task.auto_retry is False


@row("Task.retry", "Task.max_retries")
def test_a_task_may_ask_to_be_tried_again(bench: Worker) -> None:
    def run(self: Task, times: int, **kwargs: Any) -> str:
        if times:
            self.retry([times - 1], kwargs, exc=ConnectionError("nobody answers"))
        return "there"

    made = register(run=run, max_retries=2)

    assert attempts(bench, made, 2) == ["RETRY", "RETRY", "DONE"]
    assert attempts(bench, made, 3) == ["RETRY", "RETRY", "FAILURE"]


@row("Task.retry")
def test_asking_ends_the_attempt_and_takes_its_own_delay(bench: Worker) -> None:
    # given
    raised: list[BaseException] = []

    def run(self: Task) -> None:
        try:
            self.retry(exc=ConnectionError("nobody answers"), countdown=600)
        except RetryTask as request:
            raised.append(request)
            raise

    # when
    result = register(run=run, max_retries=1).delay()
    bench.run(now=590)

    # then
    assert len(raised) == 1
    assert result.status == "RETRY"
    assert [one.attempt for one in bench.run(now=610)] == [2]


@row("Task.retry_interval")
@pytest.mark.parametrize("interval", [100, timedelta(seconds=100)])
def test_the_first_pause_is_the_interval_give_or_take_a_quarter(bench: Worker, interval: Any) -> None:
    made = register(run=fail, auto_retry=True, retry_interval=interval)
    made.delay()

    assert [run.attempt for run in bench.run(now=74)] == [1]
    assert [run.attempt for run in bench.run(now=126)] == [2]


@row("Task.requeue")
def test_a_task_can_be_sent_again_under_its_id(bench: Worker) -> None:
    # given
    result = Add.delay("x", 1)
    bench.run()
    assert result.status == "FAILURE"

    # when
    again = Add.requeue(result.task_id, [2, 2], {})
    bench.run()

    # then
    assert again.task_id == result.task_id
    assert result.get() == 4


# -- what a task can get hold of


@row("Task.get_logger")
def test_a_task_has_a_logger_and_may_pass_on_its_keywords(bench: Worker, caplog: pytest.LogCaptureFixture) -> None:
    def run(self: Task, text: str, **kwargs: Any) -> None:
        self.get_logger(**kwargs).info("reading %s", text)

    register(run=run).delay("news")
    with caplog.at_level(logging.INFO, logger="celery"):
        bench.run()

    (line,) = [record for record in caplog.records if record.getMessage() == "reading news"]
    assert line.name.startswith("celery.task")
    assert Add().get_logger(loglevel=logging.INFO, logfile="any").name.startswith("celery.task")


@row("Task.get_publisher")
def test_a_task_has_a_publisher(bench: Worker) -> None:
    with Urgent.get_publisher() as publisher:
        assert isinstance(publisher, TaskPublisher)
        task_id = publisher.delay_task("seed.add", [1, 2], {})
    bench.run()

    assert is_done(task_id)


@row("Task.get_consumer")
def test_a_task_has_a_consumer_of_its_queue(bench: Worker) -> None:
    Add.delay(1)
    sent = Urgent.delay(5)

    with Urgent.get_consumer() as consumer:
        assert isinstance(consumer, TaskConsumer)
        (message,) = list(consumer)
        assert message.payload["id"] == sent.task_id
        message.ack()
    with Add.get_consumer() as consumer:
        assert consumer.discard_all() == 1


# -- default keyword arguments


@row("default argument task_id", "default argument task_name", "default argument logfile", "default argument loglevel")
def test_a_task_with_keywords_is_passed_the_default_arguments(bench: Worker) -> None:
    result = register(run=lambda self, **kwargs: kwargs).delay()
    bench.run()

    given = result.get()
    assert set(given) == {"task_id", "task_name", "logfile", "loglevel"}
    assert (given["task_id"], given["task_name"]) == (result.task_id, "seed.made")
    assert given["loglevel"] == logging.getLogger("celery").getEffectiveLevel()
    assert given["logfile"] is None


@row("default arguments only where accepted")
def test_a_task_is_passed_what_it_names_and_no_more(bench: Worker) -> None:
    # given
    def plain(x: int) -> int:
        return x

    tasks.register(plain, "seed.plain")
    made = register(run=lambda self, x, task_name: [x, task_name])

    # when
    results = [delay_task("seed.plain", 1), made.delay(2), made.delay(3, "mine"), made.delay(4, task_name="mine")]
    bench.run()

    # then
    assert [result.get() for result in results] == [1, [2, "seed.made"], [3, "mine"], [4, "mine"]]
