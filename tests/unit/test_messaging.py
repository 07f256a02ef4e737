import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation
from django.utils import timezone
from pytest_django import Settings

from celery import backends, broker, messaging, states
from celery.backends.base import BaseBackend, Result
from celery.broker import taking
from celery.broker.memory import MemoryBroker
from celery.exceptions import LeaseLost, MeaninglessOption, UndecodableMessage
from celery.message import Message
from celery.messaging import TaskConsumer, TaskPublisher
from celery.task import Task, tasks
from tests.unit.conftest import Recorder


class Pay(Task):
    name = "shop.pay_by_hand"
    queue = "mail"
    priority = 3


def body(sent: Recorder) -> Any:
    return json.loads(sent.message.body)


class TestPublishing:
    def test_a_task_is_sent_by_its_name_and_the_id_comes_back(self, sent: Recorder) -> None:
        task_id = TaskPublisher().delay_task("shop.elsewhere", [1, 2], {"x": 3})

        assert str(uuid.UUID(task_id)) == task_id
        wanted = {"id": task_id, "task": "shop.elsewhere", "args": [1, 2], "kwargs": {"x": 3}, "taskset": None}
        assert wanted.items() <= body(sent).items()

    def test_arguments_may_be_left_out(self, sent: Recorder) -> None:
        TaskPublisher().delay_task("shop.elsewhere")

        assert (body(sent)["args"], body(sent)["kwargs"]) == ([], {})

    def test_a_part_of_a_set_says_so(self, sent: Recorder) -> None:
        task_id = TaskPublisher().delay_task_in_set("shop.elsewhere", "set-1", [1], {})

        assert (body(sent)["taskset"], body(sent)["id"]) == ("set-1", task_id)

    def test_the_options_of_a_task_that_is_known_here_count(self, sent: Recorder) -> None:
        tasks.register(Pay)

        TaskPublisher().delay_task("shop.pay_by_hand")

        assert (sent.message.queue, sent.message.priority) == ("mail", 3)

    def test_options_of_the_call_win(self, sent: Recorder) -> None:
        tasks.register(Pay)
        eta = timezone.now() + timedelta(hours=1)

        TaskPublisher().delay_task(
            "shop.pay_by_hand", routing_key="fast", priority=0, eta=eta, immediate=True, mandatory=True
        )

        assert (sent.message.queue, sent.message.priority, sent.message.visible_at) == ("fast", 0, eta)

    def test_an_option_that_is_none_is_refused_with_those_that_are(self, sent: Recorder) -> None:
        with pytest.raises(TypeError, match="there is no option 'colour'; there are: countdown, eta"):
            TaskPublisher().delay_task("shop.pay_by_hand", colour="red")

    def test_a_requeued_task_keeps_its_id(self, sent: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backends, "default", Known)

        assert TaskPublisher().requeue_task("shop.elsewhere", "new", [1], {}) == "new"

        assert (body(sent)["id"], sent.message.attempt) == ("new", 1)

    @pytest.mark.parametrize(
        ("state", "attempt"), [(states.DONE, 3), (states.FAILURE, 3), (states.RETRY, 3), (states.PENDING, 2)]
    )
    def test_a_task_whose_attempt_is_over_is_requeued_as_the_next_one(
        self, sent: Recorder, monkeypatch: pytest.MonkeyPatch, state: str, attempt: int
    ) -> None:
        monkeypatch.setattr(backends, "default", lambda: Known(Result(task_id="x", state=state, attempt=2)))

        TaskPublisher().requeue_task("shop.elsewhere", "x")

        assert sent.message.attempt == attempt

    def test_is_a_context_and_can_be_closed_and_used_again(self, sent: Recorder) -> None:
        with TaskPublisher() as publisher:
            publisher.delay_task("shop.elsewhere")
        publisher.close()

        publisher.delay_task("shop.elsewhere")

        assert len(sent.messages) == 2

    def test_is_refused_in_an_event_loop(self, sent: Recorder) -> None:
        async def send() -> None:
            TaskPublisher().delay_task("shop.elsewhere")

        with pytest.raises(SynchronousOnlyOperation, match="sync_to_async"):
            async_to_sync(send)()


class Known(BaseBackend):
    """A backend that knows these results."""

    def __init__(self, *results: Result) -> None:
        self._results = {result.task_id: result for result in results}

    def store(self, results: Any) -> set[str]:
        raise NotImplementedError

    def fetch(self, task_ids: Any) -> dict[str, Result]:
        return {task_id: self._results[task_id] for task_id in task_ids if task_id in self._results}


@pytest.mark.parametrize("face", [TaskPublisher, TaskConsumer])
def test_a_connection_is_accepted_and_means_nothing(face: type, sent: Recorder) -> None:
    with pytest.warns(MeaninglessOption, match="CELERY_BROKER_URL says where the broker is"):
        face(object())
    with pytest.warns(MeaninglessOption):
        face(connection=object())
    face(connection=None)


# -- consuming; contract/test_taking.py has what every broker promises


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBroker]:
    made = MemoryBroker("memory://messaging")
    monkeypatch.setattr(broker, "current", lambda: made)
    monkeypatch.setattr(taking, "PATIENCE", 0.0)
    yield made
    made.clear()


def publish(memory: MemoryBroker, *bodies: bytes) -> None:
    memory.publish(
        [Message(task_id=f"id-{n}", task="shop.pay", body=body, queue="celery") for n, body in enumerate(bodies)]
    )


def call(number: int) -> bytes:
    return json.dumps({"task": "shop.pay", "id": f"id-{number}", "args": [number], "kwargs": {"x": 1}}).encode()


class TestConsuming:
    def test_a_message_has_the_classic_body(self, memory: MemoryBroker) -> None:
        publish(memory, call(7))

        with TaskConsumer() as consumer:
            message = consumer.fetch()

            assert message is not None
            wanted = {"task": "shop.pay", "id": "id-7", "args": [7], "kwargs": {"x": 1}, "taskset": None}
            assert wanted.items() <= message.payload.items()
            assert message.decode() == message.payload
            assert (message.content_type, message.body) == ("application/json", call(7))
            assert repr(message) == "<TaskMessage: id-0>"

    def test_an_empty_queue_has_none(self, memory: MemoryBroker) -> None:
        with TaskConsumer() as consumer:
            assert consumer.fetch() is None

    def test_iterating_ends_with_the_queue(self, memory: MemoryBroker) -> None:
        publish(memory, *map(call, range(5)))

        with TaskConsumer() as consumer:
            numbers = []
            for message in consumer:
                numbers += message.payload["args"]
                message.ack()

        assert numbers == [0, 1, 2, 3, 4]
        assert memory.depth("celery") == 0

    def test_a_message_that_cannot_be_read_can_be_rejected(self, memory: MemoryBroker) -> None:
        publish(memory, b"{not JSON", call(1))

        with TaskConsumer() as consumer:
            message = consumer.fetch()
            assert message is not None
            with pytest.raises(UndecodableMessage):
                message.decode()
            message.reject()
            assert [other.payload["args"] for other in consumer] == [[1]]

    @pytest.mark.parametrize("first", ["ack", "reject", "requeue"])
    @pytest.mark.parametrize("second", ["ack", "reject", "requeue"])
    def test_a_message_is_settled_once(self, memory: MemoryBroker, first: str, second: str) -> None:
        publish(memory, call(0))
        with TaskConsumer() as consumer:
            message = consumer.fetch()
            assert message is not None
            states_of_it = [message.is_settled]
            getattr(message, first)()
            assert [*states_of_it, message.is_settled] == [False, True]

            with pytest.raises(RuntimeError, match="was acknowledged, rejected or requeued before"):
                getattr(message, second)()

    def test_takes_from_the_default_queue_unless_told_otherwise(self, settings: Settings) -> None:
        settings.CELERY_AMQP_CONSUMER_QUEUE = "shop"

        assert TaskConsumer().queue == "shop"
        assert TaskConsumer(queue="mail").queue == "mail"

    def test_closing_it_gives_back_what_is_not_settled_and_can_be_repeated(self, memory: MemoryBroker) -> None:
        publish(memory, call(0), call(1))
        consumer = TaskConsumer()
        first, second = consumer.fetch(), consumer.fetch()
        assert first is not None
        assert second is not None
        first.ack()

        consumer.close()
        consumer.close()

        with TaskConsumer() as other:
            assert [message.payload["args"] for message in other] == [[1]]

    def test_what_was_given_back_by_a_close_cannot_be_settled(self, memory: MemoryBroker) -> None:
        publish(memory, call(0))
        consumer = TaskConsumer()
        message = consumer.fetch()
        assert message is not None

        consumer.close()

        with pytest.raises(LeaseLost, match="is not ours any more"):
            message.ack()

    def test_discarding_empties_the_queue_and_counts(self, memory: MemoryBroker) -> None:
        publish(memory, *map(call, range(3)))

        assert TaskConsumer().discard_all() == 3
        assert messaging.discard_all() == 0
