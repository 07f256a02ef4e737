"""Where the peers of the benchmarks keep messages and results, on real servers."""

import os
from collections.abc import Iterator

import kombu
import pytest
from amqp.exceptions import NotFound

from benchmarks.places_redis import NoResults, OrdinaryRedis, RedisDatabase, RedisHash, RedisKeys, RedisList
from benchmarks.products import AmqpFamily

#: No other test uses it.
NUMBER = 15


@pytest.fixture
def database(redis_url: str) -> Iterator[RedisDatabase]:
    made = RedisDatabase(redis_url, NUMBER)
    yield made
    made.remove()


@pytest.mark.redis
def test_a_list_counts_the_messages_that_wait(database: RedisDatabase) -> None:
    queue = RedisList(database, name="bench", key="waiting")
    database.client.rpush("waiting", b"\x80one", b"\x80two")

    assert (queue.broker, queue.name, queue.depth()) == (database.url, "bench", 2)
    assert queue.facts() == {"message": "an element of a list"}
    assert queue.depth() == 1
    queue.clear()
    assert queue.depth() == 0


@pytest.mark.redis
def test_results_are_counted_as_keys_or_as_fields_of_a_hash(database: RedisDatabase) -> None:
    database.client.hset("results", mapping={"a": 1, "b": 2, "c": 3})
    database.client.set("other", 1)
    keys, fields = RedisKeys(database), RedisHash(database, key="results")

    assert (keys.stored(), keys.good()) == (2, 2)
    assert (fields.stored(), fields.good()) == (3, 3)
    fields.clear()
    assert (keys.stored(), fields.stored()) == (0, 0)


@pytest.mark.redis
def test_what_a_killed_run_has_left_in_a_database_is_gone(database: RedisDatabase) -> None:
    database.client.set("left", 1)

    RedisDatabase(database.url.rpartition("/")[0], NUMBER)

    assert RedisKeys(database).stored() == 0


@pytest.mark.redis
def test_the_redis_of_the_peers_has_its_own_defaults() -> None:
    with OrdinaryRedis.running() as server:
        database = RedisDatabase(server.url, NUMBER)
        found = {name: database.client.config_get(name)[name] for name in ("appendonly", "save")}
        database.remove()

    assert found == {"appendonly": "no", "save": "3600 1 300 100 60 10000"}


def test_who_stores_no_results_has_none() -> None:
    results = NoResults()
    results.clear()

    assert (results.url, results.stored(), results.good()) == ("", 0, 0)


@pytest.mark.rabbitmq
def test_a_queue_is_forgotten_with_those_beside_it_and_its_exchange(amqp_url: str) -> None:
    name = f"bench-{os.getpid()}"
    queue = AmqpFamily(amqp_url, name, (".DQ",))
    with kombu.Connection(amqp_url) as connection:
        channel = connection.channel()
        channel.exchange_declare(name, "direct")
        for one in (name, f"{name}.DQ"):
            channel.queue_declare(one, durable=True, auto_delete=False, arguments={"x-max-length": 7})
        connection.Producer().publish("", routing_key=name, delivery_mode="persistent")

    assert queue.facts() == {"message": "persistent", "queue": "durable"}
    queue.remove()

    assert not exists("queue", name, amqp_url)
    assert not exists("queue", f"{name}.DQ", amqp_url)
    assert not exists("exchange", name, amqp_url)


def exists(kind: str, name: str, url: str) -> bool:
    with kombu.Connection(url) as connection:
        channel = connection.channel()
        try:
            if kind == "queue":
                channel.queue_declare(name, passive=True)
            else:
                channel.exchange_declare(name, "direct", passive=True)
        except NotFound:
            return False
    return True
