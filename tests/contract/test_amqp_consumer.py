"""What the consumer of RabbitMQ promises to the dispatcher."""

import json
import select
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from struct import pack
from typing import Any

import amqp
import pytest
from pytest_django import Settings

from celery import message as wire
from celery.broker import amqp as driver
from celery.broker.amqp import AmqpBroker, AmqpConsumer, queues
from celery.broker.amqp.publisher import Publisher
from celery.exceptions import BrokerUnreachable, UnroutableMessage
from celery.message import Delivery, Message
from tests.contract.of_brokers import take
from tests.helpers import eventually
from tests.proxy import Proxy

pytestmark = pytest.mark.rabbitmq

Making = Callable[..., AmqpConsumer]


# -- helpers


@pytest.fixture
def consuming(amqp_url: str) -> Iterator[Making]:
    """Make connected consumers."""
    made: list[AmqpConsumer] = []

    def make(*queues: str, window: int = 100, port: int = 0) -> AmqpConsumer:
        url = f"amqp://guest:guest@127.0.0.1:{port}//" if port else amqp_url
        consumer = AmqpConsumer(url, "a" * 32, queues)
        made.append(consumer)
        consumer.set_window(window)
        consumer.connect()
        return consumer

    yield make
    for consumer in made:
        consumer.close()


def message(queue: str, **fields: Any) -> Message:
    task_id = str(uuid.uuid4())
    body = json.dumps({"task": "shop.add", "id": task_id, "args": [1, 2], "kwargs": {}}).encode()
    return Message(**{"task_id": task_id, "task": "shop.add", "body": body, "queue": queue} | fields)


def messages(queue: str, number: int) -> list[Message]:
    return [message(queue) for _ in range(number)]


def take_nothing(consumer: AmqpConsumer, seconds: float = 0.2) -> None:
    """See that nothing comes for a while."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        select.select([consumer.fileno()], [], [], min(left, consumer.next_poll()))
        assert consumer.take(1000) == []


def bodies(found: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in found]


def sent_bodies(sent: list[Message]) -> list[bytes]:
    return [one.body for one in sent]


# -- what a delivery holds


def test_a_delivery_holds_what_was_sent(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    sent = message(queue)
    consumer = consuming(queue)
    broker.publish([sent])

    (found,) = take(consumer, 1)

    assert found == Delivery(sent.task_id, 0, queue, 0, "", sent.body, tag=found.tag)


def test_a_message_of_protocol_2_keeps_the_headers_that_hold_its_call(
    server: Any, consuming: Making, queue: str
) -> None:
    consumer = consuming(queue)
    headers = {"lang": "py", "task": "shop.add", "id": "an-id", "retries": 2, "eta": None, "group": None}
    body = json.dumps([[1, 2], {"z": 3}, {"callbacks": None}])
    content = amqp.Message(
        body, content_type="application/json", content_encoding="utf-8", application_headers=headers, priority=0
    )
    server.basic_publish(content, "celery", queue)

    (found,) = take(consumer, 1)

    content_type, encoding, kept = wire.unpack_headers(found.headers)
    call = wire.decode(found.body, content_type=content_type, content_encoding=encoding, headers=kept)
    assert found.task_id == "an-id"
    assert (call.task, call.task_id, call.args, call.kwargs, call.retries) == ("shop.add", "an-id", [1, 2], {"z": 3}, 2)


# -- strangers


def test_odd_properties_harm_nobody(server: Any, broker: AmqpBroker, consuming: Making, queue: str) -> None:
    consumer = consuming(queue)
    odd: list[dict[str, Any]] = [
        {},
        {"content_type": "text/plain", "content_encoding": "latin-1"},
        {"correlation_id": "nul\0", "application_headers": {"id": ["no", "text"]}},
        {"application_headers": {"attempt": "many", "crashes": -1, "starts": 2**40, "relayed": None}},
        {"application_headers": {"attempt": True, "when": datetime(2026, 1, 1, tzinfo=UTC), "content-type": "x"}},
        {"application_headers": {"deep": nested(50), "bytes": b"\xff\xfe"}},
    ]
    for properties in odd:
        server.basic_publish(amqp.Message("{}", **properties), "celery", queue)
    broker.publish([message(queue)])

    found = take(consumer, len(odd) + 1)

    assert all(1 <= len(delivery.task_id) <= 255 for delivery in found)
    assert {(delivery.attempt, delivery.crashes, delivery.starts) for delivery in found} == {(0, 0, 0)}
    for delivery in found[:-1]:
        content_type, _, headers = wire.unpack_headers(delivery.headers)
        assert content_type == properties_type(odd[found.index(delivery)])
        assert "content-type" not in headers


def properties_type(properties: dict[str, Any]) -> str:
    return str(properties.get("content_type", "application/data"))


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def test_properties_that_nobody_can_read_harm_nobody(
    server: Any, broker: AmqpBroker, consuming: Making, queue: str
) -> None:
    """RabbitMQ passes these on; amqp raises for each of them."""
    consumer = consuming(queue)
    far_future = b"\x04when" + b"T" + pack(">Q", 2**63)
    not_utf8 = b"\x03\xff\xfe\xfd"
    for raw in (
        pack(">H", 0x2000) + table_of(far_future),
        pack(">H", 0x2000) + table_of(b"\x01d" + nested_table(2000)),
        pack(">H", 0x8000) + not_utf8,
        pack(">H", 0x0400) + not_utf8,
    ):
        publish_raw(server, queue, raw, b"{}")
    broker.publish([message(queue)])

    found = take(consumer, 5)

    types = [wire.unpack_headers(delivery.headers)[0] for delivery in found]
    assert types == ["application/data"] * 4 + ["application/json"]


def table_of(items: bytes) -> bytes:
    return pack(">I", len(items)) + items


def nested_table(depth: int) -> bytes:
    made = b""
    for _ in range(depth):
        made = b"A" + table_of(made)
    return made


def publish_raw(server: Any, queue: str, properties: bytes, body: bytes) -> None:
    """Publish with properties that amqp would not write."""

    class Raw(amqp.Message):  # type: ignore[misc]
        def _serialize_properties(self) -> bytes:
            return properties

    server.basic_publish(Raw(body), "celery", queue)


def test_a_routing_key_of_a_stranger_does_not_rename_the_queue(server: Any, consuming: Making, queue: str) -> None:
    consumer = consuming(queue)
    server.queue_bind(queue, "amq.topic", "shop.#")
    server.basic_publish(amqp.Message("{}"), "amq.topic", "shop.orders")

    (found,) = take(consumer, 1)

    assert found.queue == queue


# -- taking


def test_what_was_read_but_not_taken_asks_for_a_look_soon(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    consumer = consuming(queue)
    broker.publish(messages(queue, 5))

    assert eventually(lambda: consumer.take(0) == [] and consumer.next_poll() < 0.1)

    assert len(consumer.take(10)) == 5
    assert consumer.next_poll() <= 1.0


# -- settling


def test_what_is_settled_never_comes_again(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    sent = messages(queue, 10)
    broker.publish(sent)
    consumer = consuming(queue)
    found = take(consumer, 10)

    for chosen in (found[3:5], [found[9]], found[0:2], [found[2], found[6]]):
        consumer.settle(chosen)
    consumer.settle(found[:2])  # a second time: nothing happens
    assert broker.depth(queue) == 0
    consumer.close()

    again = take(consuming(queue), 3)
    assert bodies(again) == [sent[5].body, sent[7].body, sent[8].body]
    assert all(delivery.suspect for delivery in again)


def test_a_message_in_hand_holds_no_other_back(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    consumer = consuming(queue, window=2)
    broker.publish(messages(queue, 50))
    (slow,) = take(consumer, 1, limit=1)

    for _ in range(49):
        consumer.settle(take(consumer, 1, limit=1))

    consumer.settle([slow])
    consumer.close()
    assert broker.depth(queue) == 0


def test_settling_for_certain_waits_for_the_server(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    broker.publish(messages(queue, 4))
    consumer = consuming(queue)
    found = take(consumer, 4)

    assert consumer.settle_for_certain(found[:3]) == found[:3]
    assert consumer.settle_for_certain(found[:3]) == []

    consumer.close()
    assert len(take(consuming(queue), 1)) == 1


def test_messages_that_come_during_the_round_trip_are_kept(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    broker.publish(messages(queue, 30))
    consumer = consuming(queue)
    found = take(consumer, 1, limit=1)
    broker.publish(messages(queue, 5))

    assert consumer.settle_for_certain(found) == found

    assert len(take(consumer, 34)) == 34


def test_what_is_given_back_comes_again(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    sent = messages(queue, 6)
    broker.publish(sent)
    consumer = consuming(queue)
    found = take(consumer, 6)

    consumer.settle(found[:2])
    consumer.give_back(found[2:4])
    consumer.give_back(found[5:])

    again = take(consumer, 3)
    assert bodies(again) == [sent[2].body, sent[3].body, sent[5].body]


# -- the window


def test_the_window_bounds_what_is_unsettled(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    broker.publish(messages(queue, 20))
    consumer = consuming(queue, window=2)
    found = take(consumer, 2)
    take_nothing(consumer)

    consumer.settle(found)

    assert len(take(consumer, 2)) == 2
    take_nothing(consumer)


def test_a_wider_window_reaches_a_consumer_that_runs(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    sent = messages(queue, 20)
    broker.publish(sent)
    consumer = consuming(queue, window=2)
    found = take(consumer, 2)

    consumer.set_window(8)
    found += take(consumer, 8)
    take_nothing(consumer)
    consumer.set_window(1000)
    found += take(consumer, 10)

    assert bodies(found) == sent_bodies(sent)
    assert {delivery.headers for delivery in found} == {""}
    assert consumer.settle_for_certain(found) == found
    consumer.close()
    assert broker.depth(queue) == 0


def test_small_changes_of_the_window_change_nothing(consuming: Making, queue: str) -> None:
    consumer = consuming(queue, window=100)
    before = consumer._subscription

    for count in (100, 51, 199, 60):
        consumer.set_window(count)

    assert consumer._subscription == before


def test_a_closed_window_stops_the_flow_until_it_opens(broker: AmqpBroker, consuming: Making, queue: str) -> None:
    consumer = consuming(queue, window=1)
    broker.publish(messages(queue, 3))
    (held,) = take(consumer, 1)

    consumer.set_window(0)
    consumer.settle_for_certain([held])
    take_nothing(consumer)

    consumer.set_window(4)
    assert len(take(consumer, 2)) == 2


def test_what_a_closed_window_had_let_in_is_there_for_others_at_once(
    broker: AmqpBroker, consuming: Making, queue: str
) -> None:
    """It is on its way, or read and not taken. Kept, it would wait until this worker has stopped."""
    # given
    closing = consuming(queue, window=10)
    broker.publish(messages(queue, 5))
    (held,) = take(closing, 1, limit=1)

    # when
    closing.set_window(0)
    take_nothing(closing)

    # then
    assert len(take(consuming(queue, window=10), 4)) == 4
    assert closing.settle_for_certain([held]) == [held]


def test_what_nobody_here_has_room_for_is_there_for_others_after_a_while(
    broker: AmqpBroker, consuming: Making, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks that take hours are parked and acknowledged, and RabbitMQ sends more: until consumer_timeout ends it."""
    # given
    busy = consuming(queue, window=10)
    broker.publish(messages(queue, 5))
    (held,) = take(busy, 1, limit=1)
    assert eventually(lambda: busy.take(0) == [] and len(busy._inbox.arrived) == 4)

    # when
    monkeypatch.setattr(driver, "CROWDED", 0.0)
    assert busy.take(0) == []

    # then
    other = consuming(queue, window=10)
    found = take(other, 4)
    assert other.settle_for_certain(found) == found
    assert busy.settle_for_certain([held]) == [held]

    # when
    broker.publish(messages(queue, 2))
    assert len(take(other, 2)) == 2
    other.close()

    # then
    assert len(take(busy, 2)) == 2


def test_a_window_that_changes_meanwhile_does_not_start_the_flow_again(
    broker: AmqpBroker, consuming: Making, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(driver, "CROWDED", 0.0)
    busy = consuming(queue, window=10)
    broker.publish(messages(queue, 5))
    (held,) = take(busy, 1, limit=1)
    assert eventually(lambda: busy.take(0) == [] and broker.depth(queue) == 4)

    # when
    for count in (100, 2, 40):
        busy.set_window(count)
        assert busy.take(0) == []

    # then
    assert busy.settle_for_certain([held]) == [held]
    assert busy.take(0) == []
    assert broker.depth(queue) == 4
    assert len(take(busy, 4)) == 4


def test_queues_share_the_window(broker: AmqpBroker, server: Any, consuming: Making, queue: str) -> None:
    other = f"{queue}-other"
    broker.publish([*messages(queue, 10), *messages(other, 10)])
    consumer = consuming(queue, other, window=6)

    found = take(consumer, 6)
    take_nothing(consumer)

    assert len(found) == 6
    server.queue_delete(other)


# -- losing the connection


def test_a_deleted_queue_raises_and_is_declared_again(
    broker: AmqpBroker, server: Any, consuming: Making, queue: str
) -> None:
    consumer = consuming(queue)
    server.queue_delete(queue)

    with pytest.raises(consumer.errors):
        take_nothing(consumer, 5)

    consumer.connect()
    broker.publish([message(queue)])
    assert len(take(consumer, 1)) == 1


def test_a_server_without_a_sign_of_life_counts_as_lost(
    consuming: Making, proxy: Proxy, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "HEARTBEAT", 1.0)
    monkeypatch.setattr(driver, "TICK", 0.1)
    consumer = consuming(queue, port=proxy.port)
    take_nothing(consumer, 3)  # heartbeats keep it
    proxy.stall()

    with pytest.raises(consumer.errors):
        take_nothing(consumer, 10)


def test_a_round_trip_that_is_not_answered_raises(
    broker: AmqpBroker, consuming: Making, proxy: Proxy, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "ROUND_TRIP_TIMEOUT", 0.3)
    broker.publish([message(queue)])
    consumer = consuming(queue, port=proxy.port)
    found = take(consumer, 1)
    proxy.stall()

    with pytest.raises(consumer.errors):
        consumer.settle_for_certain(found)


def test_half_a_frame_is_not_waited_for(broker: AmqpBroker, consuming: Making, proxy: Proxy, queue: str) -> None:
    consumer = consuming(queue, port=proxy.port)
    proxy.chunk = 11
    broker.publish([message(queue)])

    assert len(take(consumer, 1)) == 1


def test_a_queue_with_other_arguments_is_told(
    broker: AmqpBroker, queue: str, amqp_url: str, settings: Settings
) -> None:
    broker.publish([message(queue)])
    settings.CELERY_QUEUE_TYPE = "quorum"
    consumer = AmqpConsumer(amqp_url, "a" * 32, [queue])

    with pytest.raises(UnroutableMessage, match="CELERY_QUEUE_TYPE") as caught:
        consumer.connect()

    assert isinstance(caught.value, consumer.errors)
    assert consumer.fileno() == -1


def test_quorum_queues_are_consumed_alike(
    broker: AmqpBroker, consuming: Making, queue: str, settings: Settings
) -> None:
    settings.CELERY_QUEUE_TYPE = "quorum"
    sent = messages(queue, 20)
    broker.publish(sent)
    consumer = consuming(queue, window=4)
    found = take(consumer, 4)
    consumer.set_window(40)
    found += take(consumer, 16)

    assert bodies(found) == sent_bodies(sent)
    assert {delivery.headers for delivery in found} == {""}
    assert consumer.settle_for_certain(found) == found


def test_a_message_that_comes_back_again_and_again_outlives_the_limit_of_its_quorum_queue(
    broker: AmqpBroker, consuming: Making, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ 4 drops, in silence, what has come back 20 times: each lost connection and each clean stop counts."""
    # given
    monkeypatch.setattr(queues, "queue_arguments", lambda: {"x-queue-type": "quorum", "x-delivery-limit": 12})
    sent = message(queue, attempt=3, crashes=1, headers={"traceparent": "00-ab"}, priority=None)
    broker.publish([sent])

    # when
    for _ in range(30):
        consumer = consuming(queue)
        (found,) = take(consumer, 1)
        if found.suspect:
            consumer.close()
        else:
            consumer.give_back([found])
            consumer.close()

    # then
    (found,) = take(consuming(queue), 1)
    assert (found.task_id, found.body, found.attempt, found.crashes) == (sent.task_id, sent.body, 3, 1)
    assert wire.unpack_headers(found.headers)[2] == {"traceparent": "00-ab"}
    assert (found.suspect, found.relayed) == (True, True)
    assert "1 messages came back from RabbitMQ 10 times: published anew." in caplog.text


def test_a_message_that_cannot_be_published_anew_is_handed_on(
    broker: AmqpBroker, consuming: Making, queue: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    settings.CELERY_QUEUE_TYPE = "quorum"
    broker.publish([message(queue)])
    for _ in range(driver.MOST_RETURNS):
        consumer = consuming(queue)
        take(consumer, 1)
        consumer.close()

    def refuse(*_: object) -> None:
        raise BrokerUnreachable("away")

    monkeypatch.setattr(Publisher, "publish", refuse)

    # when
    consumer = consuming(queue)
    (found,) = take(consumer, 1)

    # then
    assert found.suspect
    assert consumer.settle_for_certain([found]) == [found]
