"""The routing keys of the default queue, and of no other one."""

import uuid
from collections.abc import Iterator
from typing import Any

import amqp
import pytest
from pytest_django import Settings

from celery import conf
from celery.broker.amqp import AmqpBroker
from celery.exceptions import UnroutableMessage
from tests.contract.of_brokers import message

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def default_queue(queue: str, settings: Settings, server: Any) -> Iterator[str]:
    """The default queue is this test's own, with an exchange of its own."""
    settings.CELERY_AMQP_CONSUMER_QUEUE = queue
    settings.CELERY_AMQP_EXCHANGE = f"exchange-{uuid.uuid4().hex}"
    yield queue
    server.exchange_delete(conf.AMQP_EXCHANGE)


def bodies(server: Any, queue: str) -> int:
    return len(list(iter(lambda: server.basic_get(queue, no_ack=True), None)))


def test_without_the_settings_the_key_is_the_name_of_the_queue(
    broker: AmqpBroker, server: Any, default_queue: str
) -> None:
    broker.publish([message(default_queue)])

    found = server.basic_get(default_queue, no_ack=True)

    assert found.delivery_info["routing_key"] == default_queue


def test_the_default_queue_is_bound_and_published_to_by_the_keys_of_the_settings(
    broker: AmqpBroker, server: Any, default_queue: str, settings: Settings
) -> None:
    settings.CELERY_AMQP_CONSUMER_ROUTING_KEY = settings.CELERY_AMQP_PUBLISHER_ROUTING_KEY = "tasks.of.the.shop"

    broker.publish([message(default_queue)])

    assert server.basic_get(default_queue, no_ack=True).delivery_info["routing_key"] == "tasks.of.the.shop"


def test_a_topic_exchange_may_have_a_pattern(
    broker: AmqpBroker, server: Any, default_queue: str, settings: Settings
) -> None:
    settings.CELERY_AMQP_EXCHANGE_TYPE = "topic"
    settings.CELERY_AMQP_CONSUMER_ROUTING_KEY = "shop.#"
    settings.CELERY_AMQP_PUBLISHER_ROUTING_KEY = "shop.orders"

    broker.publish([message(default_queue)])
    server.basic_publish(amqp.Message(""), conf.AMQP_EXCHANGE, "shop.elsewhere")

    assert bodies(server, default_queue) == 2


def test_other_queues_keep_their_own_names_as_keys(
    broker: AmqpBroker, server: Any, default_queue: str, settings: Settings
) -> None:
    settings.CELERY_AMQP_CONSUMER_ROUTING_KEY = settings.CELERY_AMQP_PUBLISHER_ROUTING_KEY = "tasks"
    other = f"{default_queue}-other"

    broker.publish([message(other), message(default_queue), message(other)])

    assert (bodies(server, other), bodies(server, default_queue)) == (2, 1)
    server.queue_delete(other)


def test_a_queue_that_was_deleted_is_made_anew_under_its_key(
    broker: AmqpBroker, server: Any, default_queue: str, settings: Settings
) -> None:
    settings.CELERY_AMQP_CONSUMER_ROUTING_KEY = settings.CELERY_AMQP_PUBLISHER_ROUTING_KEY = "tasks"
    broker.publish([message(default_queue)])
    server.queue_delete(default_queue)

    broker.publish([message(default_queue), message(default_queue)])

    assert bodies(server, default_queue) == 2


def test_keys_that_do_not_meet_are_told_when_something_is_sent(
    broker: AmqpBroker, default_queue: str, settings: Settings
) -> None:
    settings.CELERY_AMQP_PUBLISHER_ROUTING_KEY = "elsewhere"

    with pytest.raises(UnroutableMessage, match="has no queue"):
        broker.publish([message(default_queue)])
