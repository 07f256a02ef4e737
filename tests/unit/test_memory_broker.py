"""The broker in this process, as a unit test uses it: without a database where that is possible."""

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from pytest_django import DjangoCaptureOnCommitCallbacks

from celery import broker as brokers
from celery.broker.memory import MemoryBroker
from celery.message import Message
from celery.models import Message as Row


def message(task_id: str = "", **fields: Any) -> Message:
    return Message(
        **{"task_id": task_id or str(uuid.uuid4()), "task": "shop.add", "body": b"{}", "queue": "celery"} | fields
    )


def ids(sent: list[Message]) -> list[str]:
    return [one.task_id for one in sent]


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    made = MemoryBroker("memory://")
    yield made
    made.clear()


class TestWithoutADatabase:
    def test_what_is_sent_is_remembered_and_in_its_queue(self, broker: MemoryBroker) -> None:
        assert broker.send([message("a"), message("b")]) is None
        broker.send([message("c", queue="other")])

        assert ids(broker.sent) == ["a", "b", "c"]
        assert (broker.depth("celery"), broker.depth("other")) == (2, 1)

    def test_clearing_forgets_everything(self, broker: MemoryBroker) -> None:
        broker.send([message()])

        broker.clear()

        assert broker.sent == []
        assert broker.depth("celery") == 0

    def test_what_is_taken_is_still_remembered(self, broker: MemoryBroker) -> None:
        broker.send([message("a")])
        consumer = broker.consumer("me", ["celery"])
        consumer.connect()

        consumer.settle(consumer.take(1))
        consumer.close()

        assert ids(broker.sent) == ["a"]

    def test_what_a_relay_publishes_was_not_sent_again(self, broker: MemoryBroker) -> None:
        broker.publish([message("a")])

        assert broker.sent == []
        assert broker.depth("celery") == 1

    def test_another_thread_wakes_the_consumer(self, broker: MemoryBroker) -> None:
        consumer = broker.consumer("me", ["celery"])
        consumer.connect()

        thread = threading.Thread(target=broker.send, args=[[message("a")]])
        thread.start()
        thread.join()

        assert os.read(consumer.fileno(), 10)
        assert [delivery.task_id for delivery in consumer.take(1)] == ["a"]
        consumer.close()

    def test_a_thousand_hints_that_nobody_reads_block_nobody(self, broker: MemoryBroker) -> None:
        consumer = broker.consumer("me", ["celery"])
        consumer.connect()

        for _ in range(5000):
            broker.send([message()])

        assert len(consumer.take(10_000)) == 5000
        consumer.close()

    def test_the_url_is_known(self) -> None:
        assert isinstance(brokers.by_url(f"memory://{uuid.uuid4().hex}"), MemoryBroker)


@pytest.mark.django_db
class TestInsideATestCase:
    """pytest-django's transaction is that of Django's TestCase: it is never committed."""

    def test_what_is_sent_counts_at_once_and_leaves_at_the_commit(
        self, broker: MemoryBroker, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            broker.send([message("a")])
            assert ids(broker.sent) == ["a"]
            assert broker.depth("celery") == 0

        assert broker.depth("celery") == 1
        assert ids(broker.sent) == ["a"]

    def test_what_is_rolled_back_was_never_sent(self, broker: MemoryBroker) -> None:
        broker.send([message("kept")])
        with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012 - the block that fails
            broker.send([message("lost")])
            assert ids(broker.sent) == ["kept", "lost"]
            raise ZeroDivisionError

        assert ids(broker.sent) == ["kept"]

    def test_only_a_message_for_later_needs_a_row(self, broker: MemoryBroker) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)

        broker.send([message("now"), message("later", visible_at=later)])

        assert [row.task_id for row in Row.objects.all()] == ["later"]
        assert ids(broker.sent) == ["now", "later"]


@pytest.mark.django_db(transaction=True)
def test_a_commit_publishes_once(broker: MemoryBroker) -> None:
    with transaction.atomic():
        broker.send([message("a")])
        broker.send([message("b")])

    assert broker.depth("celery") == 2
    assert ids(broker.sent) == ["a", "b"]


@pytest.mark.django_db(transaction=True)
def test_a_hook_that_a_test_runs_before_the_commit_publishes_once(
    broker: MemoryBroker, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with transaction.atomic(), django_capture_on_commit_callbacks(execute=True):
        broker.send([message("a")])

    assert broker.depth("celery") == 1


def test_no_server_and_no_package_of_one_is_needed() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from celery.broker.memory import MemoryBroker\n"
        "MemoryBroker('memory://').publish([])"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
