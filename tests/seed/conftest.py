"""What the rows share: a registry of their own, a worker in this process, RabbitMQ, and places for a real worker."""

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import kombu
import pytest
from django.dispatch import Signal
from pytest_django import DjangoDbBlocker, Settings

from celery import signals
from celery.backends import periodic
from celery.registry import tasks
from celery.testing import Worker, worker
from tests.integration import places
from tests.integration.places import Place, opened


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    """Forget the tasks that a test registers."""
    before = dict(tasks)
    yield
    tasks.clear()
    tasks.update(before)


@pytest.fixture(autouse=True)
def _listeners_as_before() -> Iterator[None]:
    """Forget who began to listen: logs and e-mails."""
    known = [one for one in vars(signals).values() if isinstance(one, Signal)]
    before = [list(one.receivers) for one in known]
    yield
    for one, receivers in zip(known, before, strict=True):
        one.receivers = receivers
        one.sender_receivers_cache.clear()


@pytest.fixture(autouse=True)
def _periodic_tasks_as_new() -> None:
    """Forget what this process has seen of the clock."""
    periodic.of.cache_clear()


@pytest.fixture
def bench(db: None) -> Iterator[Worker]:
    """A worker: what is sent waits in the database until `bench.run()`, which runs it as a child does."""
    with worker() as made:
        yield made


# -- RabbitMQ


@dataclass(frozen=True, kw_only=True)
class Rabbit:
    """RabbitMQ with a default queue and an exchange that are this test's own."""

    queue: str
    exchange: str
    server: Any

    def get(self) -> Any:
        """Take the next message of the queue, as the server has it, or None."""
        return self.server.basic_get(self.queue, no_ack=True)


@pytest.fixture
def rabbit(amqp_url: str, settings: Settings) -> Iterator[Rabbit]:
    """RabbitMQ as the settings of 2009 name it."""
    address = urlsplit(amqp_url)
    settings.CELERY_BROKER_URL = None
    settings.AMQP_HOST = address.hostname
    settings.AMQP_PORT = address.port
    settings.AMQP_USER = unquote(address.username or "guest")
    settings.AMQP_PASSWORD = unquote(address.password or "guest")
    settings.AMQP_VHOST = unquote(address.path.removeprefix("/")) or "/"
    name = f"seed-{uuid.uuid4().hex}"
    settings.CELERY_AMQP_CONSUMER_QUEUE = name
    settings.CELERY_AMQP_EXCHANGE = f"{name}-exchange"
    with kombu.Connection(amqp_url) as connection:
        found = Rabbit(queue=name, exchange=f"{name}-exchange", server=connection.default_channel)
        yield found
        found.server.queue_delete(found.queue)
        found.server.exchange_delete(found.exchange)


# -- a real worker


@pytest.fixture(scope="session")
def seed_template(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Path:
    with django_db_blocker.unblock():
        return places.sqlite_template(tmp_path_factory.mktemp("seed"))


@pytest.fixture
def place(seed_template: Path, tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Place]:
    """A database in a file, which this process and a real worker share."""
    database = places.copy_of_sqlite(seed_template, tmp_path)
    made = Place(kind="sqlite", database=database, broker_url="django://", folder=tmp_path)
    with django_db_blocker.unblock(), opened(made) as found:
        yield found


# -- the log


@pytest.fixture
def clean_log() -> Iterator[None]:
    """The logger `celery` as no worker has seen it; after the test it is as it was."""
    logger = logging.getLogger("celery")
    handlers, level, propagates = list(logger.handlers), logger.level, logger.propagate
    logger.handlers, logger.propagate = [], True
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = handlers, propagates
    logger.setLevel(level)
