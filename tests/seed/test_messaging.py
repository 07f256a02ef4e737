"""celery.messaging: publishing and taking by hand."""

import json
from typing import Any

import pytest
from pytest_django import Settings

from celery.exceptions import MeaninglessOption
from celery.messaging import TaskConsumer, TaskPublisher
from celery.models import Message
from celery.result import AsyncResult
from celery.task import Task, TaskSet, tasks
from celery.testing import Worker
from tests.seed.table import rows_of

pytestmark = pytest.mark.django_db

row = rows_of("celery.messaging")


class Add(Task):
    name = "seed.add"

    def run(self, x: int, y: int = 0) -> int:
        return x + y


@pytest.fixture(autouse=True)
def _tasks() -> None:
    tasks.register(Add)


def value_of(task_id: str) -> Any:
    return AsyncResult[Any](task_id).get()


def body_of(task_id: str) -> dict[str, Any]:
    """Return the body of a message as it is on its way."""
    found: dict[str, Any] = json.loads(bytes(Message.objects.get(task_id=task_id).body))
    return found


@row("TaskPublisher", "TaskPublisher.delay_task", "a publisher is a context manager")
def test_a_publisher_sends_tasks(bench: Worker) -> None:
    with TaskPublisher() as publisher:
        ids = [
            publisher.delay_task("seed.add", [2, 2], {}),
            publisher.delay_task(task_name="seed.add", task_args=[2], task_kwargs={"y": 3}, priority=5),
            publisher.delay_task("seed.add", [6], None, immediate=True, mandatory=True, routing_key="slow"),
        ]
    assert Message.objects.get(task_id=ids[2]).queue == "slow"
    bench.run()

    assert [value_of(task_id) for task_id in ids] == [4, 5, 6]


@row("TaskPublisher", "TaskConsumer")
@pytest.mark.parametrize("face", [TaskPublisher, TaskConsumer])
def test_a_connection_is_accepted_and_means_nothing(face: type) -> None:
    with pytest.warns(MeaninglessOption, match="CELERY_BROKER_URL"):
        face(connection=object()).close()


@row("TaskPublisher.delay_task_in_set")
def test_a_task_may_be_sent_as_a_part_of_a_set(bench: Worker) -> None:
    task_id = TaskPublisher().delay_task_in_set("seed.add", "set-1", [2, 2], {})
    assert body_of(task_id)["taskset"] == "set-1"
    bench.run()

    assert value_of(task_id) == 4


@row("TaskPublisher.requeue_task")
def test_a_task_can_be_sent_again_under_its_id(bench: Worker) -> None:
    # given
    publisher = TaskPublisher()
    task_id = publisher.delay_task("seed.add", ["x", 1], {})
    bench.run()

    # when
    again = publisher.requeue_task("seed.add", task_id, [2, 2], {})
    bench.run()

    # then
    assert again == task_id
    assert value_of(task_id) == 4


@row("TaskConsumer", "TaskConsumer.fetch", "a consumer is a context manager")
@pytest.mark.parametrize("url", ["django://", "memory://seed"])
@pytest.mark.django_db(transaction=True)
def test_a_consumer_takes_messages_until_there_is_none(settings: Settings, url: str) -> None:
    settings.CELERY_BROKER_URL = url
    sent = [Add.delay(number).task_id for number in range(3)]

    with TaskConsumer() as consumer:
        taken = [consumer.fetch() for _ in range(4)]
        assert [message and message.payload["id"] for message in taken] == [*sent, None]
        for message in taken[:2]:
            assert message is not None
            message.ack()

    with TaskConsumer() as consumer:
        (left,) = list(consumer)
        assert left.payload["id"] == sent[2]
        left.reject()
    assert TaskConsumer().discard_all() == 0


@row("TaskConsumer.__iter__")
def test_iterating_ends_when_the_queue_is_empty(bench: Worker) -> None:
    sent = [Add.delay(number).task_id for number in range(3)]

    with TaskConsumer() as consumer:
        assert [message.payload["id"] for message in consumer.__iter__()] == sent
        assert list(consumer) == []


@row("TaskConsumer.discard_all")
def test_what_waits_can_be_discarded(bench: Worker) -> None:
    for number in range(3):
        Add.delay(number)

    assert TaskConsumer().discard_all() == 3
    assert not Message.objects.exists()


@row("the body of a message")
def test_the_body_has_the_classic_fields(bench: Worker) -> None:
    sent = Add.delay(2, y=3)
    alone = body_of(sent.task_id)
    result = TaskSet(Add, [[[2, 2], {}]]).run()
    together = body_of(result.subtask_ids[0])

    known = {name: alone[name] for name in ("id", "task", "args", "kwargs")}
    assert known == {"id": sent.task_id, "task": "seed.add", "args": [2], "kwargs": {"y": 3}}
    assert not alone.get("taskset")
    assert together["taskset"] == result.taskset_id
