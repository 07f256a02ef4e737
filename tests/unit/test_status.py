"""The state of everything, as values. What the command makes of it is in test_celery_status.py."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from celery import broker, status
from celery.broker.base import Broker
from celery.exceptions import BrokerUnreachable
from celery.models import Message, Worker
from celery.status import Queue, Status, WorkerStatus

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


class Rabbit(Broker):
    """A broker outside the database, which knows one queue."""

    relays = True

    def depth(self, queue: str) -> int:
        if queue != "celery":
            raise BrokerUnreachable("connection refused")
        return 5


def message(number: int = 1, **fields: Any) -> None:
    row = {"task": "shop.pay", "queue": "celery", "body": b""}
    first = Message.objects.count()
    Message.objects.bulk_create(Message(task_id=f"id {first + index}", **{**row, **fields}) for index in range(number))


def work(**fields: Any) -> Worker:
    row = {"owner": "a" * 32, "name": "w@host", "pid": 42, "queues": "celery,mail", "concurrency": 4, "lease": 30}
    made: Worker = Worker.objects.create(**row | fields)
    return made


def settled(found: Status) -> Status:
    """Return it without what the clock has moved between two looks."""
    queues = tuple(replace(queue, oldest=queue.oldest and round(queue.oldest, -1)) for queue in found.queues)
    workers = tuple(replace(worker, seen=0.0) for worker in found.workers)
    return replace(found, queues=queues, workers=workers, limit=None)


@pytest.fixture
def busy() -> None:
    """Some of everything."""
    now = timezone.now()
    work()
    message(3, created_at=now - 3 * MINUTE)
    message(2, queue="fast", rank=-3, created_at=now - MINUTE)
    message(1, queue="fast", created_at=now - 5 * MINUTE)
    message(4, visible_at=now + MINUTE)
    message(5, visible_at=now - MINUTE)
    message(6, dead_at=now)
    message(7, owner="a" * 32)
    message(8, owner="a" * 32, visible_at=now)


@pytest.mark.usefixtures("busy")
class TestLimits:
    @pytest.mark.parametrize("current", [broker.current, lambda: Rabbit("rabbit://")], ids=["database", "rabbit"])
    def test_one_that_is_not_reached_changes_nothing(self, current: Any) -> None:
        exact, bounded = status.collect(current()), status.collect(current(), limit=1000)

        assert settled(bounded) == settled(exact)
        assert (exact.limit, bounded.limit) == (None, 1000)

    def test_nothing_is_counted_beyond_it(self) -> None:
        found = status.collect(limit=2)

        assert [(queue.name, queue.depth) for queue in found.queues] == [("celery", 2), ("fast", 2), ("mail", 0)]
        assert (found.scheduled, found.dead) == (2, 2)

    def test_the_outbox_is_not_counted_beyond_it(self) -> None:
        assert status.collect(Rabbit("rabbit://")).outbox == 3 + 3 + 5 + 8
        assert status.collect(Rabbit("rabbit://"), limit=7).outbox == 7

    def test_the_age_of_the_oldest_is_found_beyond_it(self) -> None:
        fast = status.collect(limit=1).queues[1]

        assert fast.oldest == pytest.approx(300, abs=30)

    def test_no_statement_reads_all_rows(self) -> None:
        with CaptureQueriesContext(connection) as queries:
            status.collect(limit=10)

        for query in queries:
            if "celery_message" in query["sql"]:
                assert " LIMIT " in query["sql"]

    def test_queues_are_looked_for_only_so_far(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(status, "MOST_QUEUES", 1)
        message(queue="zz")

        assert [queue.name for queue in status.collect(limit=10).queues] == ["celery", "mail"]


def test_everything_is_typed() -> None:
    # given
    row = work(seen_at=timezone.now() - timedelta(seconds=40))
    due = timezone.now() + MINUTE
    message(visible_at=due)

    # when
    found = status.collect()

    # then
    (worker,) = found.workers
    assert replace(worker, seen=0.0) == WorkerStatus(
        owner="a" * 32,
        name="w@host",
        pid=42,
        queues=("celery", "mail"),
        children=4,
        started=row.started_at,
        seen=0.0,
        is_silent=True,
    )
    assert worker.seen == pytest.approx(40, abs=30)
    assert replace(found, workers=()) == Status(
        queues=(Queue(name="celery", depth=0, oldest=None), Queue(name="mail", depth=0, oldest=None)),
        workers=(),
        scheduled=1,
        next_due=due,
        outbox=0,
        dead=0,
        error=None,
        limit=None,
    )


def test_a_broker_that_does_not_answer_is_told_and_the_rest_too() -> None:
    work()

    found = status.collect(Rabbit("rabbit://"))

    assert found.queues == (Queue(name="celery", depth=5, oldest=None), Queue(name="mail", depth=None, oldest=None))
    assert found.error == "the broker does not answer: connection refused"
    assert len(found.workers) == 1
