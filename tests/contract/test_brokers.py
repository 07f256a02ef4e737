"""What every broker promises to those who send, and its consumer to the dispatcher."""

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
from django.db import transaction
from pytest_django import Settings

from celery import message as wire
from celery.broker import store
from celery.broker.base import OUTBOX_GRACE, Broker, Consumer, Passed
from celery.exceptions import BrokerUnreachable, UndecodableMessage
from celery.message import Delivery, Message
from celery.models import Message as Row
from celery.worker import channel, job
from celery.worker.dispatcher import CHILD, DRAIN, Dispatcher
from celery.worker.slots import Slots
from tests.contract.of_brokers import Rig, combinations, free_port, in_fork, message, messages, owner_of, proxied, take
from tests.helpers import eventually
from tests.proxy import Proxy

# -- helpers


@pytest.fixture(params=combinations())
def rig(request: pytest.FixtureRequest, on_database: Callable[[str], str]) -> Iterator[Rig]:
    """The driver in turn, beside the database in turn."""
    kind, database = request.param
    made: Rig = kind(request, store.of(on_database(database)))
    yield made
    made.close()


@pytest.fixture
def broker(rig: Rig) -> Broker:
    return rig.broker


@pytest.fixture
def queue(rig: Rig) -> str:
    return rig.queue


@pytest.fixture
def alias(rig: Rig) -> str:
    """The database that keeps schedule and outbox."""
    return rig.kept.alias


@pytest.fixture
def proxy(rig: Rig) -> Iterator[Proxy]:
    """What passes between the driver and its server."""
    if not rig.has_server:
        pytest.skip("this broker has no server of its own")
    with proxied(rig) as made:
        yield made


@pytest.fixture
def impatient(settings: Settings) -> None:
    settings.CELERY_PUBLISH_TIMEOUT = 0.5


def take_nothing(consumer: Consumer, seconds: float = 0.2) -> None:
    """See that nothing comes for a while."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        wait_for(consumer, min(left, consumer.next_poll()))
        assert consumer.take(1000) == []


def wait_for(consumer: Consumer, seconds: float) -> bool:
    """Wait as the dispatcher does; True if the descriptor had something to tell."""
    ends = [consumer.fileno()] if consumer.fileno() >= 0 else []
    return bool(select.select(ends, [], [], seconds)[0])


def bodies(found: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in found]


def sent_bodies(sent: list[Message]) -> list[bytes]:
    return [one.body for one in sent]


def ids(found: list[Delivery]) -> list[str]:
    return [delivery.task_id for delivery in found]


def sent_ids(sent: list[Message]) -> list[str]:
    return [one.task_id for one in sent]


def ready(rig: Rig) -> list[str]:
    """Return the ids of what is ready, in their order, and leave nothing."""
    consumer = rig.consuming()
    found = take(consumer, rig.broker.depth(rig.queue))
    rig.settle(consumer, found)
    consumer.close()
    return ids(found)


# -- what arrives


def test_what_is_published_arrives_as_it_was_sent(rig: Rig, broker: Broker, queue: str) -> None:
    sent = message(queue)
    consumer = rig.consuming()
    broker.publish([sent])

    (found,) = take(consumer, 1)

    assert found._replace(attempt=0, tag=None, row_id=0) == Delivery(sent.task_id, 0, queue, 0, "", sent.body)
    assert found.attempt in {0, 1}  # a first attempt may go unmentioned
    assert (found.tag is not None) == rig.has_tags == (not found.row_id)


def test_counters_marks_headers_and_type_travel_beside_the_body(rig: Rig, broker: Broker, queue: str) -> None:
    headers = {wire.STARTS: 1, "traceparent": "00-ab", "deep": {"list": [1, "ä", None]}}
    broker.publish([message(queue, attempt=3, crashes=2, headers=headers, content_type="application/x-yaml")])

    (found,) = take(rig.consuming(), 1)

    assert (found.attempt, found.crashes, found.starts) == (3, 2, 1)
    content_type, encoding, kept = wire.unpack_headers(found.headers)
    assert (content_type, encoding) == ("application/x-yaml", "utf-8")
    assert {name: kept[name] for name in kept if name not in wire.COUNTERS} == {
        "traceparent": "00-ab",
        "deep": {"list": [1, "ä", None]},
    }


def test_a_relayed_copy_says_so_and_a_start_without_an_end_is_suspect(rig: Rig, broker: Broker, queue: str) -> None:
    if not broker.relays:
        pytest.skip("nothing is relayed to this broker")
    broker.publish([message(queue, headers={wire.RELAYED: 1}), message(queue, headers={wire.STARTS: 1})])

    relayed, started = take(rig.consuming(), 2)

    assert (relayed.relayed, relayed.suspect) == (True, False)
    assert (started.relayed, started.suspect) == (False, True)


def test_a_header_that_cannot_be_carried_stays_behind(rig: Rig, broker: Broker, queue: str) -> None:
    if not rig.has_server:
        pytest.skip("headers are text in the database, and objects in memory")
    broker.publish([message(queue, headers={"good": 1, "odd": object()})])

    (found,) = take(rig.consuming(), 1)

    assert wire.unpack_headers(found.headers)[2] == {"good": 1}


def test_messages_of_one_priority_keep_their_order(rig: Rig, broker: Broker, queue: str) -> None:
    sent = messages(queue, 1200)
    broker.publish(sent)

    consumer = rig.consuming()
    found = take(consumer, 600, limit=600)
    rig.settle(consumer, found)
    found += take(consumer, 1200 - len(found))
    assert ids(found) == sent_ids(sent)


def test_urgent_messages_overtake_others(rig: Rig, broker: Broker, queue: str, settings: Settings) -> None:
    rig.prepare_priorities(settings)
    sent = [message(queue, priority=priority) for priority in (None, 0, 9, 5)]
    broker.publish(sent)

    found = take(rig.consuming(), 4)

    assert [delivery.rank for delivery in found] == [-9, -5, 0, 0]
    assert ids(found) == [sent[place].task_id for place in (2, 3, 0, 1)]


def test_bodies_of_any_size_arrive_whole(rig: Rig, broker: Broker, queue: str) -> None:
    sent = [message(queue, body=bytes([number]) * size) for number, size in enumerate((0, 1, 131072, 6_000_000, 5))]
    broker.publish(sent)

    assert bodies(take(rig.consuming(), 5)) == sent_bodies(sent)


def test_an_id_of_many_bytes_arrives_whole(rig: Rig, broker: Broker, queue: str) -> None:
    broker.publish([message(queue, task_id="ä" * 200)])

    assert ids(take(rig.consuming(), 1)) == ["ä" * 200]


def test_what_strangers_send_harms_nobody(rig: Rig, broker: Broker, queue: str) -> None:
    if not rig.has_strangers:
        pytest.skip("nobody else can send to this broker")
    consumer = rig.consuming()
    number = rig.send_odd_messages()
    broker.publish([message(queue)])

    found = take(consumer, number + 1)

    assert sorted(bodies(found)) != []
    for delivery in found:
        assert wire.is_name(delivery.task_id)
        assert delivery.queue == queue
        assert (delivery.crashes, delivery.starts, delivery.suspect) == (0, 0, False)
    assert sum(is_readable(delivery) for delivery in found) == 1
    rig.settle(consumer, found)
    consumer.close()
    assert broker.depth(queue) == 0


def is_readable(delivery: Delivery) -> bool:
    """Tell whether a child can decode it; any other exception than this one would be a dead child."""
    content_type, encoding, headers = wire.unpack_headers(delivery.headers)
    try:
        wire.decode(delivery.body, content_type=content_type, content_encoding=encoding, headers=headers)
    except UndecodableMessage:
        return False
    return True


# -- the queue from outside


def test_depth_counts_what_is_ready_and_not_what_is_in_hand(rig: Rig, broker: Broker, queue: str) -> None:
    assert broker.depth(queue) == 0
    broker.publish(messages(queue, 3))
    assert broker.depth(queue) == 3

    consumer = rig.consuming()
    take(consumer, 3)

    assert broker.depth(queue) == 0


def test_discarding_deletes_what_is_ready_and_nothing_else(rig: Rig, broker: Broker, queue: str, alias: str) -> None:
    consumer = rig.consuming()
    broker.publish([message(queue)])
    held = take(consumer, 1)
    consumer.set_window(0)
    consumer.take(0)
    later = message(queue, visible_at=datetime.now(UTC) + timedelta(hours=1))
    broker.send([later])
    elsewhere = message(rig.other_queue)
    broker.publish([*messages(queue, 1500), elsewhere])

    assert broker.discard_all(queue) == 1500
    assert broker.discard_all(queue) == 0

    assert broker.depth(queue) == 0
    assert broker.depth(rig.other_queue) == 1
    assert Row.objects.using(alias).filter(task_id=later.task_id).exists()
    rig.settle(consumer, held)


def test_what_is_taken_in_the_midst_of_discarding_is_kept(
    rig: Rig, broker: Broker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rig.has_tags:
        pytest.skip("its server discards a queue in one step")
    broker.publish(messages(queue, 3))
    consumer = rig.consuming()
    plain, held = rig.kept.rows, []

    def taken_after(statement: str, values: Any) -> Any:
        monkeypatch.setattr(rig.kept, "rows", plain)
        found = plain(statement, values)
        held.extend(consumer.take(1))
        return found

    monkeypatch.setattr(rig.kept, "rows", taken_after)

    assert broker.discard_all(queue) == 2

    (taken,) = held
    monkeypatch.setattr(rig.kept, "rows", lambda statement, values: [(taken.row_id,)])  # a snapshot that is old
    assert broker.discard_all(queue) == 0
    monkeypatch.setattr(rig.kept, "rows", plain)
    assert rig.kept.finish(owner_of(consumer), [taken.row_id]) == {taken.row_id}


def test_a_queue_that_does_not_exist_is_empty(broker: Broker, queue: str) -> None:
    assert broker.depth(queue) == 0
    assert broker.discard_all(queue) == 0


def test_nothing_to_publish_is_no_work(rig: Rig) -> None:
    rig.make(port=1).publish([])


def test_threads_publish_side_by_side(rig: Rig, broker: Broker, queue: str) -> None:
    if not rig.has_server and rig.has_strangers:
        pytest.skip("each thread has a connection of Django's own to its database")
    threads = [threading.Thread(target=broker.publish, args=[messages(queue, 50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert broker.depth(queue) == 200


def test_a_forked_child_leaves_the_connection_of_its_parent_alone(rig: Rig, queue: str, proxy: Proxy) -> None:
    broker = rig.make(port=proxy.port)
    broker.publish([message(queue)])
    before = proxy.accepted

    in_fork(lambda: broker.publish([message(queue)]))
    broker.publish([message(queue)])

    assert proxy.accepted == 2 * before
    assert broker.depth(queue) == 3


def test_a_connection_is_kept(rig: Rig, queue: str, proxy: Proxy) -> None:
    broker = rig.make(port=proxy.port)
    for _ in range(3):
        broker.publish([message(queue)])

    assert proxy.accepted == 1


def test_a_connection_that_was_lost_while_idle_is_replaced_unnoticed(rig: Rig, queue: str, proxy: Proxy) -> None:
    broker = rig.make(port=proxy.port)
    broker.publish([message(queue)])
    proxy.cut()

    broker.publish([message(queue)])

    assert [delivery.relayed for delivery in take(rig.consuming(), 2)] == [False, False]  # nothing was sent twice


def test_what_was_not_answered_on_a_lost_connection_is_sent_again_and_marked(
    rig: Rig, queue: str, proxy: Proxy
) -> None:
    broker = rig.make(port=proxy.port)
    broker.publish([message(queue)])
    sent = message(queue)
    proxy.is_deaf = True

    def cut_when_it_arrived() -> None:
        assert eventually(lambda: rig.broker.depth(queue) == 2)
        proxy.is_deaf = False
        proxy.cut()

    thread = threading.Thread(target=cut_when_it_arrived)
    thread.start()
    broker.publish([sent])
    thread.join()

    _, first, second = take(rig.consuming(), 3)
    assert ids([first, second]) == [sent.task_id, sent.task_id]
    assert (first.relayed, second.relayed) == (False, True)


# -- taking


def test_taking_never_waits_and_never_exceeds_its_limit(rig: Rig, broker: Broker, queue: str) -> None:
    consumer = rig.consuming()
    assert consumer.take(10) == []
    sent = messages(queue, 20)
    broker.publish(sent)

    found = take(consumer, 1, limit=7)
    while len(found) < 20:
        more = take(consumer, 1, limit=7)
        assert len(more) <= 7
        found += more

    assert ids(found) == sent_ids(sent)


def test_two_consumers_never_get_the_same_message(rig: Rig, broker: Broker, queue: str) -> None:
    consumers = [rig.consuming(), rig.consuming()]
    for consumer in consumers:
        consumer.set_window(4)
        consumer.take(0)
    sent = messages(queue, 60)
    broker.publish(sent)
    found: list[list[Delivery]] = [[], []]

    def all_came() -> bool:
        for consumer, mine in zip(consumers, found, strict=True):
            taken = consumer.take(4)
            mine.extend(taken)
            rig.settle(consumer, taken)
        return len(found[0]) + len(found[1]) >= 60

    assert eventually(all_came)
    for consumer in consumers:
        take_nothing(consumer)
    assert all(found)
    assert sorted(ids(found[0] + found[1])) == sorted(sent_ids(sent))


def test_several_queues_are_consumed_side_by_side(rig: Rig, broker: Broker, queue: str) -> None:
    consumer = rig.consuming(queue, rig.other_queue)
    broker.publish([*messages(queue, 3), *messages(rig.other_queue, 3)])

    found = take(consumer, 6)

    assert sorted(delivery.queue for delivery in found) == [queue] * 3 + [rig.other_queue] * 3


def test_a_full_queue_does_not_starve_another(rig: Rig, broker: Broker, queue: str) -> None:
    consumer = rig.consuming(queue, rig.other_queue)
    broker.publish([*messages(queue, 1500), message(rig.other_queue)])
    seen: list[str] = []

    while rig.other_queue not in seen:
        found = take(consumer, 1, limit=100)
        seen += [delivery.queue for delivery in found]
        rig.settle(consumer, found)

    assert len(seen) < 1400


def test_a_worker_that_wants_nothing_gets_nothing(rig: Rig, broker: Broker, queue: str) -> None:
    consumer = rig.consuming()
    consumer.set_window(0)
    consumer.take(0)
    broker.publish(messages(queue, 3))

    assert consumer.take(0) == []
    wait_for(consumer, 0.1)
    assert consumer.take(0) == []

    assert broker.depth(queue) == 3
    consumer.set_window(10)
    assert len(take(consumer, 3)) == 3


def test_an_idle_consumer_is_left_in_peace(rig: Rig) -> None:
    consumer = rig.consuming()

    for _ in range(20):
        consumer.take(10)

    assert 0.05 <= consumer.next_poll() <= 1.0


def test_the_descriptor_tells_when_there_is_something(rig: Rig, broker: Broker, queue: str) -> None:
    if not rig.has_hints:
        pytest.skip("hints come when the worker has said that it is idle: see the contract of the store")
    consumer = rig.consuming()
    eventually(lambda: consumer.take(10) == [] and not wait_for(consumer, 0.05))  # its own answers may be on their way

    broker.publish([message(queue)])

    assert wait_for(consumer, 5)
    assert len(take(consumer, 1)) == 1
    eventually(lambda: consumer.take(0) == [] and not wait_for(consumer, 0.05))


# -- settling


def test_what_is_settled_never_comes_again(rig: Rig, broker: Broker, queue: str) -> None:
    sent = messages(queue, 10)
    broker.publish(sent)
    consumer = rig.consuming()
    found = take(consumer, 10)

    for chosen in (found[3:5], [found[9]], found[0:2], [found[2], found[6]]):
        rig.settle(consumer, chosen)
    rig.settle(consumer, found[:2])  # a second time: nothing happens
    consumer.connect()

    again = take(consumer, 3)
    assert sorted(ids(again)) == sorted(sent_ids([sent[5], sent[7], sent[8]]))
    take_nothing(consumer)


def test_what_is_given_back_comes_again_first_and_uncounted(rig: Rig, broker: Broker, queue: str) -> None:
    sent = messages(queue, 6)
    broker.publish(sent)
    consumer = rig.consuming()
    found = take(consumer, 5, limit=5)

    rig.settle(consumer, found[:2])
    rig.give_back(consumer, found[2:])

    again = take(consumer, 4)
    assert sorted(ids(again)) == sorted(sent_ids(sent[2:]))
    assert rig.is_pushed_to or ids(again) == sent_ids(sent[2:])
    assert {(one.starts, one.crashes) for one in again} == {(0, 0)}


def test_what_a_lost_connection_held_comes_again_as_suspects(rig: Rig, broker: Broker, queue: str) -> None:
    sent = messages(queue, 250)
    broker.publish(sent)
    consumer = rig.consuming()
    found = take(consumer, 250)
    assert not any(one.suspect for one in found)
    rig.settle(consumer, found[:50])

    consumer.connect()

    again = take(consumer, 200)
    assert ids(again) == sent_ids(sent[50:])
    assert all(one.suspect for one in again)


def test_what_a_consumer_leaves_behind_is_there_for_the_next(rig: Rig, broker: Broker, queue: str) -> None:
    if not rig.has_tags:
        pytest.skip("rows are rescued by their owner's lease: see the contract of the store")
    broker.publish(messages(queue, 3))
    consumer = rig.consuming()
    (settled, *_) = take(consumer, 3)
    consumer.settle([settled])

    consumer.close()

    again = take(rig.consuming(), 2)
    assert len(again) == 2
    assert all(one.suspect for one in again)


def test_settling_for_certain_answers_each_message_once(rig: Rig, broker: Broker, queue: str) -> None:
    if not rig.has_tags:
        pytest.skip("rows are settled by deleting them")
    broker.publish(messages(queue, 4))
    consumer = rig.consuming()
    found = take(consumer, 4)

    assert consumer.settle_for_certain(found[:3]) == found[:3]
    assert consumer.settle_for_certain(found[:3]) == []
    assert consumer.settle_for_certain([]) == []

    consumer.connect()
    assert len(take(consumer, 1)) == 1


def test_answers_of_an_older_connection_are_ignored(rig: Rig, broker: Broker, queue: str) -> None:
    if not rig.has_tags:
        pytest.skip("rows have no connection")
    sent = messages(queue, 2)
    broker.publish(sent)
    consumer = rig.consuming()
    old = take(consumer, 2)
    consumer.connect()
    assert ids(take(consumer, 2)) == sent_ids(sent)

    consumer.settle(old)
    consumer.give_back(old)
    assert consumer.settle_for_certain(old) == []
    consumer.settle([old[0]._replace(tag=None)])
    take_nothing(consumer)

    consumer.connect()
    again = take(consumer, 2)
    assert ids(again) == sent_ids(sent)
    consumer.settle(again)
    take_nothing(consumer)


# -- with the dispatcher


class Dispatching:
    """A real dispatcher on a thread, with one child that the test plays."""

    def __init__(self, consumer: Consumer) -> None:
        self._word, control = channel.pair()
        self._ends = [self._word, control]
        self._dispatcher = Dispatcher(consumer, control, Slots(1), 1)
        self._thread = threading.Thread(target=self._dispatcher.run)

    def __enter__(self) -> Self:
        self._thread.start()
        theirs, self._child = channel.pair()
        recall = self._child.dup()
        self._ends += [self._child]
        channel.tell(self._word, CHILD, 0, 1, descriptors=[theirs.fileno(), recall.fileno()])
        for end in (theirs, recall):
            end.close()
        return self

    def work(self, number: int) -> list[str]:
        """Receive and settle `number` jobs, and return their ids."""
        found: list[str] = []
        while len(found) < number:
            assert select.select([self._child], [], [], 10)[0], f"only {len(found)} jobs came"
            received = channel.receive(self._child, wait=True)
            assert received
            taken = job.unpack(received[0])
            found.append(taken.delivery.task_id)
            channel.send(self._child, [job.pack_answers([(taken.number, job.SETTLE)])])
        return found

    def __exit__(self, *_: object) -> None:
        channel.tell(self._word, DRAIN)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._dispatcher._selector.close()
        for member in self._dispatcher._crew.members.values():
            member.close()
        for end in self._ends:
            end.close()


def test_a_dispatcher_hands_every_message_on_and_settles_it(rig: Rig, broker: Broker, queue: str) -> None:
    if not rig.has_tags:
        pytest.skip("its children settle, in the database: see the contract of the worker's parts")
    sent = messages(queue, 300)
    broker.publish(sent[:150])

    with Dispatching(broker.consumer("a" * 32, [queue])) as dispatching:
        found = dispatching.work(150)
        broker.publish(sent[150:])
        found += dispatching.work(150)

    assert sorted(found) == sorted(sent_ids(sent))
    take_nothing(rig.consuming())
    assert broker.depth(queue) == 0


# -- losing the connection


def test_a_lost_connection_raises_and_another_begins_anew(rig: Rig, broker: Broker, queue: str, proxy: Proxy) -> None:
    broker.publish(messages(queue, 2))
    consumer = rig.consuming(broker=rig.make(port=proxy.port))
    (old, _) = take(consumer, 2)
    descriptor = consumer.fileno()
    proxy.cut()

    with pytest.raises(consumer.errors):
        take_nothing(consumer, 5)
    assert consumer.fileno() == descriptor  # to be unregistered by it
    consumer.close()
    assert consumer.fileno() == -1

    consumer.connect()
    consumer.settle([old])
    assert all(delivery.suspect for delivery in take(consumer, 2))


def test_a_server_that_is_away_is_named_without_its_password(rig: Rig, impatient: None) -> None:
    if not rig.has_server:
        pytest.skip("this broker has no server of its own")
    port = free_port()
    away = type(rig.broker)(f"{rig.url.partition(':')[0]}://me:secret@127.0.0.1:{port}/")
    consumer = away.consumer("a" * 32, [rig.queue])

    with failing_within(5, f"127.0.0.1:{port} cannot be reached.*CELERY_BROKER_URL") as publishing:
        away.publish([message(rig.queue)])
    with failing_within(5, f"127.0.0.1:{port} cannot be reached") as consuming:
        consumer.connect()

    assert isinstance(consuming.value, consumer.errors)
    assert "secret" not in f"{publishing.value}{consuming.value}"
    consumer.close()


def test_a_server_that_says_nothing_is_not_waited_for(rig: Rig, impatient: None) -> None:
    if not rig.has_server:
        pytest.skip("this broker has no server of its own")
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        failing_within(5, "did not answer within 0.5 s"),
    ):
        rig.make(port=listener.getsockname()[1]).publish([message(rig.queue)])


def test_a_server_that_stops_answering_is_not_waited_for(rig: Rig, queue: str, proxy: Proxy, impatient: None) -> None:
    broker = rig.make(port=proxy.port)
    broker.publish([message(queue)])
    proxy.stall()

    with failing_within(5, "may arrive later"):
        broker.publish([message(queue)])


def test_a_server_that_stops_reading_is_not_waited_for(rig: Rig, queue: str, proxy: Proxy, impatient: None) -> None:
    broker = rig.make(port=proxy.port)
    broker.publish([message(queue)])
    proxy.stall()

    with failing_within(10, "may arrive later"):
        broker.publish([message(queue, body=bytes(1_000_000)) for _ in range(30)])


@contextmanager
def failing_within(seconds: float, match: str) -> Iterator[pytest.ExceptionInfo[BrokerUnreachable]]:
    """Expect BrokerUnreachable; the limit is generous, it tells waiting from hanging."""
    begin = time.monotonic()
    with pytest.raises(BrokerUnreachable, match=match) as caught:
        yield caught
    assert time.monotonic() - begin < seconds


def test_closing_twice_or_before_connecting_is_harmless(rig: Rig, broker: Broker) -> None:
    broker.consumer("a" * 32, [rig.queue]).close()
    consumer = rig.consuming()

    consumer.close()
    consumer.close()

    assert consumer.fileno() == -1
    if rig.has_tags:
        with pytest.raises(consumer.errors):
            consumer.take(1)


# -- inside transactions


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    """A transaction, or a savepoint in one, that fails at its end."""
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):  # noqa: PT012 - the caller's block
        yield
        raise ZeroDivisionError


def rows(alias: str) -> int:
    return Row.objects.using(alias).count()


@pytest.fixture
def publishes(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each call of pass_on had."""
    counts: list[int] = []
    plain = broker.pass_on

    def counting(messages: Any, deadline: float) -> Passed:
        counts.append(len(messages))
        return plain(messages, deadline)

    monkeypatch.setattr(broker, "pass_on", counting)
    return counts


def test_messages_of_a_transaction_leave_in_their_order_after_its_commit(
    rig: Rig, broker: Broker, queue: str, alias: str
) -> None:
    sent = messages(queue, 3)

    with transaction.atomic(using=alias):
        for one in sent:
            assert broker.send([one]) == alias
        if broker.relays:
            assert broker.depth(queue) == 0
            assert rows(alias) == (3 if rig.has_outbox else 0)

    assert not broker.relays or rows(alias) == 0
    found = take(rig.consuming(), 3)
    assert ids(found) == sent_ids(sent)
    assert not any(one.relayed or one.suspect for one in found)  # first copies: nothing to look up


def test_the_outbox_of_a_transaction_is_published_together(
    rig: Rig, broker: Broker, queue: str, alias: str, publishes: list[int]
) -> None:
    if not rig.has_outbox:
        pytest.skip("this broker needs no outbox")
    with rolled_back(alias):
        broker.send(messages(queue, 5))
    with transaction.atomic(using=alias):
        for one in messages(queue, 3):
            broker.send([one])

    assert publishes == [3]
    assert rows(alias) == 0


def test_what_has_arrived_after_a_commit_is_deleted_and_only_the_rest_waits(
    rig: Rig, broker: Broker, alias: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that stays is sent again: a second copy, if the first has arrived."""
    if not rig.has_outbox:
        pytest.skip("this broker needs no outbox")
    refused = Passed(arrived=[0, 2], error=BrokerUnreachable("the queue is full"), is_refused=True)
    monkeypatch.setattr(broker, "pass_on", lambda messages, deadline: refused)
    sent = messages(rig.queue, 3)

    with transaction.atomic(using=alias):
        broker.send(sent)

    assert list(Row.objects.using(alias).values_list("task_id", flat=True)) == [sent[1].task_id]
    assert "the queue is full" in caplog.text


def test_what_is_passed_on_arrives_and_is_told(rig: Rig, broker: Broker, queue: str) -> None:
    passed = broker.pass_on(messages(queue, 3), time.monotonic() + 30)

    assert list(passed.arrived) == [0, 1, 2]
    assert passed.error is None
    assert broker.depth(queue) == 3


def test_what_cannot_be_passed_on_is_told_and_not_raised(rig: Rig) -> None:
    if not rig.has_server:
        pytest.skip("this broker has no server of its own")

    passed = rig.make(port=free_port()).pass_on(messages(rig.queue, 3), time.monotonic() + 30)

    assert list(passed.arrived) == []
    assert isinstance(passed.error, BrokerUnreachable)
    assert not passed.is_refused
    assert not passed.is_silent


def test_a_delivery_may_be_settled_once_and_on_its_own_connection(rig: Rig, broker: Broker, queue: str) -> None:
    if not rig.has_tags:
        pytest.skip("rows are settled by deleting them")
    broker.publish(messages(queue, 2))
    consumer = rig.consuming()
    first, second = take(consumer, 2)
    assert [consumer.may_settle(first), consumer.may_settle(second)] == [True, True]

    consumer.settle([first])
    assert [consumer.may_settle(first), consumer.may_settle(second)] == [False, True]

    consumer.connect()
    assert not consumer.may_settle(second)
    consumer.close()


def test_a_row_with_no_tag_is_not_the_brokers_to_settle(rig: Rig, broker: Broker, queue: str) -> None:
    consumer = rig.consuming()

    assert not consumer.may_settle(Delivery("an id", 1, queue, 0, "", b"{}", row_id=7))


def test_a_suspect_that_is_relayed_arrives_as_a_suspect(rig: Rig, broker: Broker, queue: str) -> None:
    """Its worker was lost while its row was parked: nothing else tells that from a message of the schedule."""
    if not broker.relays:
        pytest.skip("nothing is relayed to this broker")
    broker.publish([message(queue, headers={wire.RELAYED: wire.SUSPECT}), message(queue, headers={wire.RELAYED: 1})])

    found = take(rig.consuming(), 2)

    assert [(one.relayed, one.suspect) for one in found] == [(True, True), (True, False)]


def test_outside_a_transaction_a_message_leaves_at_once(rig: Rig, broker: Broker, queue: str, alias: str) -> None:
    assert broker.send([message(queue)]) is None

    assert broker.depth(queue) == 1
    assert not broker.relays or rows(alias) == 0


def test_messages_of_a_rolled_back_transaction_do_not_leave(rig: Rig, broker: Broker, queue: str, alias: str) -> None:
    with rolled_back(alias):
        broker.send(messages(queue, 5))

    assert broker.depth(queue) == 0
    assert rows(alias) == 0


def test_messages_of_a_rolled_back_savepoint_do_not_leave(rig: Rig, broker: Broker, queue: str, alias: str) -> None:
    before, within, after = messages(queue, 3)

    with transaction.atomic(using=alias):
        broker.send([before])
        with rolled_back(alias):
            broker.send([within])
        broker.send([after])

    assert ready(rig) == sent_ids([before, after])


def test_messages_after_a_savepoint_that_sent_first_leave_too(rig: Rig, broker: Broker, queue: str, alias: str) -> None:
    with transaction.atomic(using=alias):
        with rolled_back(alias):
            broker.send([message(queue)])
        broker.send([message(queue)])

    assert len(ready(rig)) == 1


def test_a_hook_may_send_in_a_transaction_of_its_own(rig: Rig, broker: Broker, queue: str, alias: str) -> None:
    def send_more() -> None:
        with transaction.atomic(using=alias):
            broker.send([message(queue)])

    with transaction.atomic(using=alias):
        broker.send([message(queue)])
        transaction.on_commit(send_more, using=alias)
        broker.send([message(queue)])

    assert len(ready(rig)) == 3
    assert rows(alias) == 0


def test_delayed_messages_stay_in_the_database(rig: Rig, broker: Broker, queue: str, alias: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)

    with transaction.atomic(using=alias):
        broker.send([message(queue, visible_at=later), message(queue)])
    broker.send([message(queue, visible_at=later), message(queue)])

    assert broker.depth(queue) == 2
    assert Row.objects.using(alias).filter(visible_at__isnull=False).count() == 2


def test_a_broker_that_is_away_is_logged_and_the_rows_wait_for_the_relay(
    rig: Rig, alias: str, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    if not rig.has_outbox:
        pytest.skip("this broker needs no outbox")
    away = rig.make(port=free_port())
    ran: list[bool] = []

    with caplog.at_level(logging.WARNING, "celery.broker"), transaction.atomic(using=alias):
        away.send(messages(rig.queue, 2))
        away.send(messages(rig.queue, 1))
        transaction.on_commit(lambda: ran.append(True), using=alias)

    assert ran == [True]
    (record,) = caplog.records
    assert f"a worker sends them in {OUTBOX_GRACE:.0f} s" in record.getMessage()
    assert Row.objects.using(alias).filter(visible_at__isnull=False, owner__isnull=True).count() == 3


def test_rows_that_a_relay_has_taken_are_left_to_it(rig: Rig, broker: Broker, queue: str, alias: str) -> None:
    if not rig.has_outbox:
        pytest.skip("this broker needs no outbox")
    free, taken = rig.kept.insert([message(queue)]), rig.kept.insert([message(queue)], owner="a" * 32)

    broker.forward([*free, *taken, 999_999])

    assert [row.pk for row in Row.objects.using(alias).all()] == taken
    assert broker.depth(queue) == 1
