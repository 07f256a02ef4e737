"""What every broker promises to those who take messages by hand: `TaskConsumer`, over `celery.broker.taking`."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from django.db import OperationalError

from celery import broker
from celery.broker import store, taking
from celery.exceptions import BrokerUnreachable, LeaseLost
from celery.message import Delivery
from celery.messaging import TaskConsumer, TaskMessage
from celery.models import Worker
from tests.contract.of_brokers import DatabaseRig, Rig, combinations, message, messages, proxied
from tests.proxy import Proxy


@pytest.fixture(params=combinations())
def rig(
    request: pytest.FixtureRequest, on_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    """The driver in turn, beside the database in turn."""
    kind, database = request.param
    made: Rig = kind(request, store.of(on_database(database)))
    monkeypatch.setattr(broker, "current", lambda: made.broker)
    yield made
    made.close()


@pytest.fixture
def consumer(rig: Rig) -> Iterator[TaskConsumer]:
    with TaskConsumer(queue=rig.queue) as made:
        yield made


def fetched(consumer: TaskConsumer) -> TaskMessage:
    """Return the next message, which is there."""
    found = consumer.fetch(timeout=10)
    assert found is not None
    return found


def test_what_was_sent_is_fetched(rig: Rig, consumer: TaskConsumer) -> None:
    sent = message(rig.queue)
    rig.broker.publish([sent])

    payload = fetched(consumer).payload

    assert (payload["id"], payload["task"], payload["args"], payload["kwargs"]) == (
        sent.task_id,
        "shop.add",
        [1, 2],
        {},
    )


def test_an_empty_queue_has_none(rig: Rig, consumer: TaskConsumer) -> None:
    assert consumer.fetch() is None


def test_what_is_acknowledged_is_gone(rig: Rig, consumer: TaskConsumer) -> None:
    rig.broker.publish([message(rig.queue)])

    fetched(consumer).ack()

    consumer.close()
    assert rig.broker.depth(rig.queue) == 0
    assert consumer.fetch() is None


def test_what_is_requeued_comes_again(rig: Rig, consumer: TaskConsumer) -> None:
    sent = message(rig.queue)
    rig.broker.publish([sent])

    fetched(consumer).requeue()

    assert fetched(consumer).payload["id"] == sent.task_id


def test_what_was_not_settled_comes_again_after_a_close(rig: Rig, consumer: TaskConsumer) -> None:
    sent = messages(rig.queue, 3)
    rig.broker.publish(sent)
    fetched(consumer).ack()
    fetched(consumer)

    consumer.close()

    again = {fetched(consumer).payload["id"] for _ in range(2)}
    assert again < {one.task_id for one in sent}
    assert consumer.fetch() is None


def test_any_number_can_be_in_hand_at_once(rig: Rig, consumer: TaskConsumer) -> None:
    sent = messages(rig.queue, 20)
    rig.broker.publish(sent)

    found = [fetched(consumer) for _ in sent]

    assert {one.payload["id"] for one in found} == {one.task_id for one in sent}
    for one in reversed(found):
        one.ack()
    consumer.close()
    assert rig.broker.depth(rig.queue) == 0


def test_iterating_takes_all_that_is_there(rig: Rig, consumer: TaskConsumer) -> None:
    sent = messages(rig.queue, 7)
    rig.broker.publish(sent)

    found = []
    for one in consumer:
        found.append(one.payload["id"])
        one.ack()

    assert sorted(found) == sorted(one.task_id for one in sent)


def test_two_consumers_never_get_the_same(rig: Rig, consumer: TaskConsumer) -> None:
    rig.broker.publish(messages(rig.queue, 6))

    with TaskConsumer(queue=rig.queue) as other:
        found = [fetched(one).payload["id"] for one in (consumer, other) * 3]

    assert len(set(found)) == 6


def test_discarding_takes_what_waits(rig: Rig, consumer: TaskConsumer) -> None:
    rig.broker.publish(messages(rig.queue, 4))

    assert consumer.discard_all() == 4

    assert consumer.fetch() is None


def test_what_was_settled_by_the_close_is_not_settled_again(rig: Rig, consumer: TaskConsumer) -> None:
    rig.broker.publish([message(rig.queue)])
    found = fetched(consumer)
    consumer.close()

    with pytest.raises(LeaseLost, match="not ours any more"):
        found.ack()

    assert fetched(consumer).payload["id"] == found.payload["id"]


class TestALostConnection:
    @pytest.fixture
    def proxy(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
        """Between the consumer and the server."""
        if not rig.has_server:
            pytest.skip("this broker has no server of its own")
        with proxied(rig) as made:
            through = rig.make(port=made.port)
            monkeypatch.setattr(broker, "current", lambda: through)
            yield made

    def test_with_nothing_in_hand_is_not_noticed(self, rig: Rig, proxy: Proxy) -> None:
        with TaskConsumer(queue=rig.queue) as consumer:
            rig.broker.publish([message(rig.queue)])
            fetched(consumer).ack()

            proxy.cut()

            rig.broker.publish([message(rig.queue)])
            fetched(consumer).ack()

    def test_with_something_in_hand_is_told_where_that_is_lost(self, rig: Rig, proxy: Proxy) -> None:
        with TaskConsumer(queue=rig.queue) as consumer:
            rig.broker.publish([message(rig.queue)])
            lost = fetched(consumer)
            if not rig.broker.consumer("w", [rig.queue]).forgets:
                pytest.skip("this broker keeps what is in hand for a consumer that lost its connection")

            proxy.cut()

            with pytest.raises(BrokerUnreachable, match="and with it 1 unsettled messages"):
                consumer.fetch(timeout=5)
            assert fetched(consumer).payload["id"] == lost.payload["id"]
            with pytest.raises(LeaseLost):
                lost.ack()

    def test_an_answer_is_certain_or_the_message_comes_again(self, rig: Rig, proxy: Proxy) -> None:
        rig.broker.publish([message(rig.queue)])
        with TaskConsumer(queue=rig.queue) as consumer:
            found = fetched(consumer)

            proxy.cut()
            was_acknowledged = succeeds(found.ack)

            again = consumer.fetch(timeout=0 if was_acknowledged else 10)
            assert (again is None) == was_acknowledged

    def test_what_was_being_requeued_comes_again(self, rig: Rig, proxy: Proxy) -> None:
        rig.broker.publish([message(rig.queue)])
        with TaskConsumer(queue=rig.queue) as consumer:
            found = fetched(consumer)

            proxy.cut()
            succeeds(found.requeue)

            assert fetched(consumer).payload["id"] == found.payload["id"]


def succeeds(answer: Callable[[], None]) -> bool:
    try:
        answer()
    except LeaseLost:
        return False
    return True


class TestOnTheDatabase:
    @pytest.fixture(autouse=True)
    def _is_database(self, rig: Rig) -> None:
        if not isinstance(rig, DatabaseRig):
            pytest.skip("messages of this broker are no rows")

    def test_a_consumer_is_a_worker_without_children_until_it_is_closed(self, rig: Rig, consumer: TaskConsumer) -> None:
        consumer.fetch()
        (row,) = Worker.objects.all()
        assert (row.concurrency, row.queues, row.lease) == (0, rig.queue, taking.LEASE)

        consumer.close()

        assert not Worker.objects.exists()

    def test_each_fetch_proves_its_life(self, rig: Rig, consumer: TaskConsumer) -> None:
        for _ in range(3):
            consumer.fetch()

        assert Worker.objects.get().counter == 2

    def test_one_that_others_took_for_dead_has_lost_what_it_held_and_goes_on(
        self, rig: Rig, consumer: TaskConsumer
    ) -> None:
        rig.broker.publish(messages(rig.queue, 2))
        lost = fetched(consumer)
        rig.kept.retire(Worker.objects.get().owner)

        found = [fetched(consumer).payload["id"] for _ in range(2)]

        assert lost.payload["id"] in found
        with pytest.raises(LeaseLost):
            lost.ack()

    def test_a_message_whose_claim_was_not_answered_is_fetched_again(
        self, rig: Rig, consumer: TaskConsumer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is claimed, and nobody knows: without another look it would wait for as long as the consumer lives."""
        rig.broker.publish(messages(rig.queue, 2))
        held, claim = fetched(consumer), rig.kept.claim

        def claim_in_vain(owner: str, queue: str, limit: int) -> list[Delivery]:
            claim(owner, queue, limit)
            raise OperationalError("server closed the connection unexpectedly")

        with monkeypatch.context() as patched:
            patched.setattr(rig.kept, "claim", claim_in_vain)
            with pytest.raises(OperationalError):
                consumer.fetch()

        assert fetched(consumer).payload["id"] != held.payload["id"]
        held.ack()

    @pytest.mark.parametrize(("answer", "statement"), [(TaskMessage.ack, "finish"), (TaskMessage.requeue, "release")])
    def test_a_message_that_could_not_be_answered_is_fetched_again(
        self,
        rig: Rig,
        consumer: TaskConsumer,
        monkeypatch: pytest.MonkeyPatch,
        answer: Callable[[TaskMessage], None],
        statement: str,
    ) -> None:
        rig.broker.publish([message(rig.queue)])
        found = fetched(consumer)

        def fail(*_: object) -> set[int]:
            raise OperationalError("away")

        with monkeypatch.context() as patched:
            patched.setattr(rig.kept, statement, fail)
            with pytest.raises(OperationalError):
                answer(found)

        assert fetched(consumer).payload == found.payload

    def test_one_that_waits_for_long_proves_its_life_meanwhile(
        self, rig: Rig, consumer: TaskConsumer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [1000.0]

        def pause(_: float) -> None:
            now[0] += taking.RENEWAL

        monkeypatch.setattr(taking, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=pause))

        assert consumer.fetch(timeout=5 * taking.RENEWAL) is None
        assert Worker.objects.get().counter == 5

    @pytest.mark.parametrize("answer", [TaskMessage.ack, TaskMessage.requeue])
    def test_what_others_took_over_cannot_be_answered(
        self, rig: Rig, consumer: TaskConsumer, answer: Callable[[TaskMessage], None]
    ) -> None:
        rig.broker.publish([message(rig.queue)])
        lost = fetched(consumer)
        rig.kept.retire(Worker.objects.get().owner)

        with pytest.raises(LeaseLost, match="is not ours any more"):
            answer(lost)

        assert fetched(consumer).payload == lost.payload

    def test_what_is_sent_while_it_waits_is_fetched(
        self, rig: Rig, consumer: TaskConsumer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent = message(rig.queue)
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            rig.broker.publish([sent])

        monkeypatch.setattr(taking, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))

        assert fetched(consumer).payload["id"] == sent.task_id
        assert pauses == [taking.POLL]

    def test_what_it_gives_back_is_no_suspect(self, rig: Rig, consumer: TaskConsumer) -> None:
        rig.broker.publish(messages(rig.queue, 2))
        fetched(consumer).requeue()
        fetched(consumer)
        consumer.close()

        with TaskConsumer(queue=rig.queue) as other:
            other.fetch()
            assert rig.kept.rows("SELECT COUNT(*) FROM celery_message WHERE suspect = TRUE", []) == [(0,)]
