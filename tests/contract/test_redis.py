"""What is Redis's own: its neighbours by way of kombu, lost workers, and a server in trouble."""

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kombu
import pytest
import redis

from celery import message as wire
from celery.broker import redis as driver
from celery.broker.redis import RedisBroker, RedisConsumer
from celery.broker.redis.scripts import HELD, REGISTRY
from celery.exceptions import BrokerUnreachable
from celery.message import Delivery, Message
from tests.contract.of_brokers import in_fork, message, messages
from tests.helpers import eventually
from tests.proxy import Proxy
from tests.servers import redis as servers

pytestmark = pytest.mark.redis

Making = Callable[..., RedisConsumer]

#: The database of these tests: what they leave in it is deleted, and no other test restores what they lose.
DATABASE = 2


# -- helpers


@pytest.fixture
def url(redis_url: str) -> str:
    return f"{redis_url}/{DATABASE}"


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with redis.Redis.from_url(url) as made:
        yield made


@pytest.fixture
def broker(url: str) -> Iterator[RedisBroker]:
    made = RedisBroker(url)
    yield made
    made._publisher.drop()


@pytest.fixture
def queue(client: Any) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    for key in client.scan_iter(f"{name}*"):
        client.delete(key)


@pytest.fixture
def consuming(url: str) -> Iterator[Making]:
    """Make connected consumers."""
    made: list[RedisConsumer] = []

    def make(*queues: str, at: str = url) -> RedisConsumer:
        consumer = RedisBroker(at).consumer("a" * 32, queues)
        made.append(consumer)
        consumer.connect()
        return consumer

    yield make
    for consumer in made:
        consumer.close()


@pytest.fixture
def private(redis_url: str) -> Iterator[servers.Redis]:
    """A server of this test alone, to be harmed."""
    with servers.running() as server:
        yield server


def take(consumer: RedisConsumer, number: int, *, within: float = 5.0) -> list[Delivery]:
    found: list[Delivery] = []

    def all_came() -> bool:
        found.extend(consumer.take(1000))
        return len(found) >= number

    assert eventually(all_came, within)
    return found


# -- neighbours


def test_a_message_of_celery_by_way_of_kombu_is_taken(url: str, consuming: Making, queue: str) -> None:
    body = {"task": "shop.add", "id": "an-id", "args": [1], "kwargs": {}}
    exchange = kombu.Exchange(queue, "direct")
    with kombu.Connection(url) as connection:
        kombu.Producer(connection).publish(
            body,
            exchange=exchange,
            routing_key=queue,
            declare=[kombu.Queue(queue, exchange, routing_key=queue)],
            serializer="json",
            correlation_id="an-id",
            headers={"traceparent": "00-ab"},
            priority=3,
        )

    (found,) = take(consuming(queue), 1)

    assert (found.task_id, found.rank, found.suspect) == ("an-id", -6, False)
    assert json.loads(found.body) == body
    assert wire.unpack_headers(found.headers) == (wire.JSON, "utf-8", {"traceparent": "00-ab"})


def test_our_message_is_taken_by_way_of_kombu(url: str, broker: RedisBroker, queue: str) -> None:
    sent = message(queue, attempt=2, headers={"traceparent": "00-ab"}, priority=9)
    broker.publish([sent])

    with kombu.Connection(url) as connection, connection.SimpleQueue(queue) as waiting:
        found = waiting.get(timeout=5)
        found.ack()

    assert (found.payload, found.properties["correlation_id"]) == (json.loads(sent.body), sent.task_id)
    assert found.headers == {"traceparent": "00-ab", "attempt": 2}
    assert found.properties["priority"] == 0


def test_what_kombu_has_restored_is_a_suspect(url: str, broker: RedisBroker, consuming: Making, queue: str) -> None:
    broker.publish([message(queue)])
    with kombu.Connection(url) as connection, connection.SimpleQueue(queue) as waiting:
        waiting.get(timeout=5).requeue()

    (found,) = take(consuming(queue), 1)

    assert found.suspect
    assert found.headers == ""


def test_each_step_of_priorities_has_a_list(broker: RedisBroker, client: Any, queue: str) -> None:
    broker.publish([message(queue, priority=priority) for priority in range(10)])

    lists = {key.decode().removeprefix(queue): client.llen(key) for key in client.scan_iter(f"{queue}*")}
    assert lists == {"\x06\x169": 1, "\x06\x166": 3, "\x06\x163": 3, "": 3}


# -- forks


def test_a_forked_child_does_not_hold_the_connection_of_its_parent(broker: RedisBroker, queue: str) -> None:
    """Else it would keep it open after its parent is gone."""
    before = sockets()
    broker.publish([message(queue)])
    ours = sockets() - before
    assert ours

    in_fork(lambda: expect(not sockets() & ours))

    broker.publish([message(queue)])
    assert sockets() >= ours


def sockets() -> set[str]:
    """Return the sockets that this process has open."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            found.add(str(path.readlink()))
    return {one for one in found if one.startswith("socket:")}


def expect(fact: bool) -> None:
    assert fact


# -- lost workers


def test_a_worker_without_a_sign_of_life_loses_its_messages(
    url: str, broker: RedisBroker, consuming: Making, queue: str
) -> None:
    sent = messages(queue, 250)
    broker.publish(sent)
    lost = consuming(queue, at=f"{url}?visibility_timeout=1")
    found = take(lost, 250)
    other = consuming(queue, at=f"{url}?visibility_timeout=1")

    again = take(other, 250, within=10)

    assert sorted(one.task_id for one in again) == sorted(one.task_id for one in sent)
    assert all(one.suspect for one in again)
    assert lost.settle_for_certain(found) == []
    with pytest.raises(lost.errors, match="given this worker up"):
        lost.take(1)
    other.settle(again)


def test_a_worker_whose_time_is_over_begins_anew_even_if_nobody_noticed(
    broker: RedisBroker, client: Any, consuming: Making, queue: str
) -> None:
    broker.publish(messages(queue, 2))
    consumer = consuming(queue)
    (held,) = consumer.take(1)
    client.zadd(REGISTRY, {consumer._name: 1}, xx=True)

    with pytest.raises(consumer.errors, match="given this worker up"):
        consumer.take(1)

    consumer.connect()
    again, other = take(consumer, 2)
    assert (again.task_id, again.suspect, other.suspect) == (held.task_id, True, False)


def test_a_worker_that_lives_keeps_what_it_holds(url: str, broker: RedisBroker, consuming: Making, queue: str) -> None:
    broker.publish([message(queue)])
    holder = consuming(queue, at=f"{url}?visibility_timeout=1")
    found = take(holder, 1)
    other = consuming(queue, at=f"{url}?visibility_timeout=1")

    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        assert holder.take(0) == other.take(10) == []
        time.sleep(min(holder.next_poll(), other.next_poll()))

    assert holder.settle_for_certain(found) == found


def test_nothing_is_left_on_the_server_when_all_is_settled(
    broker: RedisBroker, client: Any, consuming: Making, queue: str
) -> None:
    broker.publish(messages(queue, 5))
    consumer = consuming(queue)
    name = consumer._name
    consumer.settle(take(consumer, 5))
    assert client.zscore(REGISTRY, name)

    consumer.close()

    assert client.zscore(REGISTRY, name) is None
    assert not client.exists(HELD + name)
    assert broker.depth(queue) == 0


def test_acknowledgements_wait_for_each_other_but_not_for_long(
    broker: RedisBroker, client: Any, consuming: Making, queue: str
) -> None:
    broker.publish(messages(queue, 3))
    consumer = consuming(queue)
    consumer.settle(take(consumer, 3))
    assert client.hlen(HELD + consumer._name) == 3
    assert consumer.next_poll() <= driver.HOLD_BACK

    time.sleep(driver.HOLD_BACK)
    consumer.take(0)

    assert not client.exists(HELD + consumer._name)


def test_many_acknowledgements_do_not_wait(broker: RedisBroker, client: Any, consuming: Making, queue: str) -> None:
    broker.publish(messages(queue, driver.MOST_HELD_BACK))
    consumer = consuming(queue)

    consumer.settle(take(consumer, driver.MOST_HELD_BACK))

    assert not client.exists(HELD + consumer._name)


# -- a server in trouble


def test_a_full_server_refuses_senders_and_lets_workers_empty_it(
    private: servers.Redis, consuming: Making, queue: str
) -> None:
    broker = RedisBroker(private.url)
    broker.publish([message(queue, body=bytes(10_000)) for _ in range(300)])
    with redis.Redis.from_url(private.url) as client:
        client.config_set("maxmemory", 1_000_000)

        with pytest.raises(BrokerUnreachable, match=r"refused: .*maxmemory.*its memory") as caught:
            broker.publish([message(queue)])
        assert "LPUSH" not in str(caught.value)
        assert client.info()["used_memory"] > 1_000_000

        consumer = consuming(queue, at=private.url)
        found = take(consumer, 300)
        consumer.give_back(found[:1])
        found = found[1:] + take(consumer, 1)
        assert consumer.settle_for_certain(found) == found
        client.config_set("maxmemory", 0)
    broker.publish([message(queue)])
    broker._publisher.drop()
    consumer.close()


def test_a_restarted_server_has_kept_everything(private: servers.Redis, consuming: Making, queue: str) -> None:
    broker = RedisBroker(private.url)
    sent = messages(queue, 4)
    broker.publish(sent)
    consumer = consuming(queue, at=private.url)
    held = consumer.take(2)
    private.kill()
    with pytest.raises(consumer.errors):
        consumer.take(1)
    consumer.close()
    with pytest.raises(BrokerUnreachable, match="Is it running"):
        consumer.connect()
    with pytest.raises(BrokerUnreachable, match="Is it running"):
        broker.publish(sent)

    private.start()
    consumer.connect()

    found = take(consumer, 4)
    assert [one.task_id for one in found] == [one.task_id for one in sent]
    assert [one.suspect for one in found] == [True, True, False, False]
    assert len(held) == 2
    consumer.close()
    broker._publisher.drop()


def test_a_server_that_forgot_everything_counts_as_lost(private: servers.Redis, consuming: Making, queue: str) -> None:
    consumer = consuming(queue, at=private.url)
    with redis.Redis.from_url(private.url) as client:
        client.flushall()

    with pytest.raises(consumer.errors):
        consumer.take(1)

    consumer.connect()
    assert consumer.take(1) == []
    consumer.close()


def test_a_key_of_another_kind_is_told_and_harms_no_other_queue(
    broker: RedisBroker, client: Any, consuming: Making, queue: str
) -> None:
    client.set(queue, "no list")

    with pytest.raises(BrokerUnreachable, match="refused: WRONGTYPE"):
        broker.publish([message(queue, priority=9)])
    with pytest.raises(driver.RedisConsumer.errors, match="WRONGTYPE"):
        consuming(queue).take(1)


def test_a_wrong_password_is_told(private: servers.Redis) -> None:
    with redis.Redis.from_url(private.url) as client:
        client.config_set("requirepass", "right")
        server = private.url.removeprefix("redis://")

        with pytest.raises(BrokerUnreachable, match=r"refused.*Check user, password"):
            RedisBroker(f"redis://:wrong@{server}").publish([message("any")])

        broker = RedisBroker(f"redis://:right@{server}")
        broker.publish([message("any")])
        broker._publisher.drop()


def test_a_user_who_may_not_hear_hints_works_without(private: servers.Redis, consuming: Making, queue: str) -> None:
    with redis.Redis.from_url(private.url) as client:
        client.execute_command("ACL", "SETUSER", "shop", "on", ">word", "~*", "+@all", "resetchannels")
    url = private.url.replace("redis://", "redis://shop:word@")
    broker = RedisBroker(url)
    consumer = consuming(queue, at=url)

    broker.publish(messages(queue, 2))

    assert consumer.fileno() == -1
    found = take(consumer, 2)
    consumer.give_back(found)
    assert len(take(consumer, 2)) == 2
    broker._publisher.drop()
    consumer.close()


def test_a_server_that_may_lose_messages_is_named_once(
    private: servers.Redis, consuming: Making, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(private.url) as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory", 100_000_000)
        client.config_set("maxmemory-policy", "allkeys-lru")

    with caplog.at_level(logging.WARNING, "celery.broker"):
        consumer = consuming(queue, at=private.url)
        consumer.connect()

    assert [record.getMessage().partition(": ")[2].split()[0] for record in caplog.records] == ["its", "a"]
    consumer.close()


def test_a_durable_server_is_not_complained_of(consuming: Making, queue: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        consuming(queue)

    assert caplog.records == []


# -- TLS


@pytest.fixture
def tls_port(redis_url: str, certificate: Path) -> Iterator[int]:
    parts = urlsplit(redis_url)
    with Proxy(parts.hostname or "", parts.port or 0, certificate=certificate) as made:
        yield made.port


def test_messages_travel_under_tls(tls_port: int, certificate: Path, consuming: Making, queue: str) -> None:
    url = f"rediss://127.0.0.1:{tls_port}/{DATABASE}?ssl_ca_certs={certificate}"
    broker = RedisBroker(url)
    sent: list[Message] = [*messages(queue, 200), message(queue, body=bytes(1_000_000))]

    broker.publish(sent)

    consumer = consuming(queue, at=url)
    assert [one.body for one in take(consumer, 201)] == [one.body for one in sent]
    broker._publisher.drop()
    consumer.close()


def test_a_server_with_an_unknown_certificate_is_refused(tls_port: int) -> None:
    with pytest.raises(BrokerUnreachable, match="certificate"):
        RedisBroker(f"rediss://127.0.0.1:{tls_port}/{DATABASE}").publish([message("any")])
