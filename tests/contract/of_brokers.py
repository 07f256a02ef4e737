"""The brokers that the contract is tried on, each with what a test has to know of its driver.

One joins by a subclass of `Rig`, and by a line in `RIGS`. What it cannot do is a flag, and a visible skip.
"""

import json
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import urlsplit

import amqp
import pytest
import redis
from django.db import connections
from pytest_django import Settings

from celery.broker.amqp import AmqpBroker
from celery.broker.base import Broker, Consumer
from celery.broker.database import DatabaseBroker
from celery.broker.memory import MemoryBroker
from celery.broker.redis import RedisBroker
from celery.broker.store.base import Store
from celery.message import Delivery, Message
from tests.contract.of_databases import DATABASES
from tests.helpers import eventually
from tests.proxy import Proxy


def message(queue: str, **fields: Any) -> Message:
    """Return a message with a call of a task of the shop."""
    task_id = str(uuid.uuid4())
    body = json.dumps({"task": "shop.add", "id": task_id, "args": [1, 2], "kwargs": {}}).encode()
    return Message(**{"task_id": task_id, "task": "shop.add", "body": body, "queue": queue} | fields)


def messages(queue: str, number: int) -> list[Message]:
    return [message(queue) for _ in range(number)]


class Rig:
    """A driver, its broker, and queues of this test's own."""

    #: It is reached by a connection that can be lost.
    has_server: ClassVar[bool] = True
    #: Others than we may send to it.
    has_strangers: ClassVar[bool] = True
    #: What is in hand has a tag, and its consumer settles it; else a row, which is deleted.
    has_tags: ClassVar[bool] = True
    #: What is sent in a transaction waits in a row for the commit.
    has_outbox: ClassVar[bool] = True
    #: The server sends messages before they are taken, so that what is given back comes after them.
    is_pushed_to: ClassVar[bool] = False
    #: The descriptor of an idle consumer tells of each message.
    has_hints: ClassVar[bool] = True

    def __init__(self, request: pytest.FixtureRequest, kept: Store) -> None:
        self.request = request
        self.kept = kept
        self.queue = f"test-{uuid.uuid4().hex}"
        self.other_queue = f"{self.queue}-other"
        self.broker = self.make()
        self._consumers: list[Consumer] = []

    @property
    def url(self) -> str:
        """The address of the server, where there is one."""
        raise NotImplementedError

    def make(self, port: int = 0) -> Broker:
        """Return a broker; one with a server finds it on `port`, where that is given."""
        raise NotImplementedError

    def prepare_priorities(self, settings: Settings) -> None:
        """Do what the driver needs for messages to overtake each other."""

    def consuming(self, *queues: str, broker: Broker | None = None) -> Consumer:
        """Return a connected consumer of this test's queue, or of `queues`."""
        consumer = (broker or self.broker).consumer(uuid.uuid4().hex, queues or [self.queue])
        self._consumers.append(consumer)
        consumer.set_window(1000)
        consumer.connect()
        return consumer

    def settle(self, consumer: Consumer, found: Sequence[Delivery]) -> None:
        """Be done with these, as the worker is."""
        consumer.settle(found)

    def give_back(self, consumer: Consumer, found: Sequence[Delivery]) -> None:
        """Return these, as the worker does."""
        consumer.give_back(found)

    def send_odd_messages(self) -> int:
        """Put messages into the queue that we would never send, and return their number."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing behind."""
        for consumer in self._consumers:
            consumer.close()


class DatabaseRig(Rig):
    has_server = False
    has_tags = False
    has_outbox = False
    has_hints = False  # only once a worker has said that it is idle: see the contract of the store

    def make(self, port: int = 0) -> Broker:
        return DatabaseBroker(f"django://{self.kept.alias}")

    def consuming(self, *queues: str, broker: Broker | None = None) -> Consumer:
        consumer = super().consuming(*queues, broker=broker)
        self.kept.enlist(owner_of(consumer), name="w@host", pid=1, queues=[self.queue], concurrency=2, lease=30.0)
        return consumer

    def settle(self, consumer: Consumer, found: Sequence[Delivery]) -> None:
        self.kept.finish(owner_of(consumer), [delivery.row_id for delivery in found])

    def give_back(self, consumer: Consumer, found: Sequence[Delivery]) -> None:
        self.kept.release(owner_of(consumer), [delivery.row_id for delivery in found])

    def send_odd_messages(self) -> int:
        odd = [b"", b"\xff\xfe\0", b"[]", b"[" * 5000]
        self.broker.publish([message(self.queue, body=body) for body in odd])
        with connections[self.kept.alias].cursor() as cursor:
            cursor.execute("UPDATE celery_message SET headers = '{\"attempt\":' WHERE queue = %s", [self.queue])
        return len(odd)


def owner_of(consumer: Any) -> str:
    """Return in whose name a consumer of the database claims."""
    return str(consumer._owner)


class AmqpRig(Rig):
    is_pushed_to = True

    @property
    def url(self) -> str:
        found: str = self.request.getfixturevalue("amqp_url")
        return found

    def make(self, port: int = 0) -> Broker:
        return AmqpBroker(f"amqp://guest:guest@127.0.0.1:{port}//" if port else self.url)

    def prepare_priorities(self, settings: Settings) -> None:
        settings.CELERY_QUEUE_MAX_PRIORITY = 9

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        parts = urlsplit(self.url)
        with amqp.Connection(f"{parts.hostname}:{parts.port}", virtual_host="/") as connection:
            yield connection.channel()

    def send_odd_messages(self) -> int:
        odd: list[dict[str, Any]] = [
            {},
            {"correlation_id": "nul\0", "application_headers": {"id": ["no", "text"]}},
            {"application_headers": {"attempt": "many", "crashes": -1, "starts": 2**40, "content-type": "x"}},
        ]
        with self._channel() as channel:
            for properties in odd:
                channel.basic_publish(amqp.Message("{}", **properties), "celery", self.queue)
        return len(odd)

    def close(self) -> None:
        super().close()
        with self._channel() as channel:
            for queue in (self.queue, self.other_queue):
                channel.queue_delete(queue)


class RedisRig(Rig):
    @property
    def url(self) -> str:
        found: str = self.request.getfixturevalue("redis_url")
        return found

    def make(self, port: int = 0) -> Broker:
        return RedisBroker(f"redis://127.0.0.1:{port}/1" if port else f"{self.url}/1")

    @contextmanager
    def _client(self) -> Iterator[Any]:
        with redis.Redis.from_url(f"{self.url}/1") as client:
            yield client

    def send_odd_messages(self) -> int:
        with self._client() as client:
            return int(client.lpush(self.queue, *ODD_ITEMS))

    def close(self) -> None:
        super().close()
        with self._client() as client:
            for key in client.scan_iter(f"{self.queue}*"):
                client.delete(key)


#: What may lie in a list of Redis.
ODD_ITEMS = (
    b"",
    b"\xff\xfe",
    b"{}",
    b"[]",
    b"7",
    b'"text"',
    b"[" * 5000,
    b'{"properties": 1}',
    b'{"properties": {}, "headers": [1], "body": {}}',
    b'{"properties": {"body_encoding": "base64"}, "body": "\xc3\xa4"}',
    b'{"properties": {"priority": "high", "correlation_id": 7}, "headers": {"crashes": -1}, "body": "{"}',
    b'{"properties": {"delivery_info": 7}, "content-type": 7, "content-encoding": [], "body": "{}"}',
    b'{"properties": {"priority": 1e999}, "headers": {"__type__": "datetime", "__value__": "never"}, "body": "{}"}',
)


class MemoryRig(Rig):
    has_server = False
    has_strangers = False
    has_outbox = False

    def make(self, port: int = 0) -> Broker:
        return MemoryBroker("memory://")


#: Name, class and marks of each, and the databases beside which it is tried.
RIGS: list[tuple[str, type[Rig], list[pytest.MarkDecorator], list[Any]]] = [
    ("database", DatabaseRig, [], DATABASES),
    ("amqp", AmqpRig, [pytest.mark.rabbitmq], DATABASES),
    ("redis", RedisRig, [pytest.mark.redis], DATABASES),
    ("memory", MemoryRig, [], DATABASES[:1]),
]


def combinations() -> Iterator[Any]:
    """Yield each driver beside each database, as a parameter."""
    for name, rig, marks, databases in RIGS:
        for database in databases:
            values, others = (database, []) if isinstance(database, str) else (database.values[0], database.marks)
            yield pytest.param((rig, values), id=f"{name}-{values}", marks=[*marks, *others])


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def in_fork(act: Any) -> None:
    """Run `act` in a forked child, and fail if it fails there."""
    pid = os.fork()
    if not pid:
        try:
            act()
        except BaseException:  # noqa: BLE001 - whatever it is, the child must end here
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@contextmanager
def proxied(rig: Rig) -> Iterator[Proxy]:
    """Put a proxy before the server."""
    parts = urlsplit(rig.url)
    with Proxy(parts.hostname or "", parts.port or 0) as made:
        yield made


def take(consumer: Consumer, number: int, *, limit: int = 1000) -> list[Delivery]:
    """Take until `number` deliveries came."""
    found: list[Delivery] = []

    def all_came() -> bool:
        found.extend(consumer.take(limit))
        return len(found) >= number

    assert eventually(all_came)
    return found
