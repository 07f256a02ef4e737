"""The exchange and the queues on RabbitMQ: how they are declared, and by which keys messages reach them."""

from typing import Any

from amqp.exceptions import PreconditionFailed

from celery import conf
from celery.broker.amqp.properties import SHORT
from celery.exceptions import UnroutableMessage


def declare(channel: Any, queue: str) -> None:
    """Declare exchange, queue and binding, as Celery declares its default queue. Raises UnroutableMessage.

    One round trip: what fails of the first two is told in place of the last one's answer.
    """
    if len(queue.encode()) > SHORT:
        raise UnroutableMessage(f"the name of a queue takes at most {SHORT} bytes in AMQP: {queue!r:.80}")
    try:
        channel.exchange_declare(
            conf.AMQP_EXCHANGE, conf.AMQP_EXCHANGE_TYPE, durable=True, auto_delete=False, nowait=True
        )
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=queue_arguments(), nowait=True)
        channel.queue_bind(queue, conf.AMQP_EXCHANGE, routing_key=binding_key(queue))
    except PreconditionFailed as error:
        raise UnroutableMessage(
            f"the queue {queue!r} or the exchange {conf.AMQP_EXCHANGE!r} exists on RabbitMQ with other arguments"
            f" ({error.reply_text}). Delete it there, or set CELERY_QUEUE_TYPE, CELERY_QUEUE_MAX_PRIORITY or"
            " CELERY_AMQP_EXCHANGE_TYPE to what it was declared with."
        ) from error


def binding_key(queue: str) -> str:
    """Return the key by which `queue` is bound: its name, unless the settings say another for the default queue."""
    return str(conf.AMQP_CONSUMER_ROUTING_KEY) if queue == conf.AMQP_CONSUMER_QUEUE else queue


def routing_key(queue: str) -> str:
    """Return the key with which messages for `queue` are published: its name, but for the default queue likewise."""
    return str(conf.AMQP_PUBLISHER_ROUTING_KEY) if queue == conf.AMQP_CONSUMER_QUEUE else queue


def queue_arguments() -> dict[str, Any]:
    """Return the arguments of a queue: none in the usual case, which is what Celery declares."""
    arguments: dict[str, Any] = {}
    if conf.QUEUE_TYPE == "quorum":
        arguments["x-queue-type"] = "quorum"
    if conf.QUEUE_MAX_PRIORITY:
        arguments["x-max-priority"] = conf.QUEUE_MAX_PRIORITY
    return arguments
