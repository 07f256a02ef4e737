"""RabbitMQ by py-amqp: messages with body and properties as ours, persistent, mandatory, in a durable queue."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp

from benchmarks.raw.command import TURN, Call, Order, call, calls, pages, rate, rates_in_turns, run

NAME = "bench_raw"
ACK_EVERY = 256


def publish_one_by_one(order: Order) -> dict[str, Any]:
    """Wait for the confirm of each before the next: messages that are ready, and such as are to be made."""
    with channel(order) as found:
        publish = partial(found.basic_publish_confirm, exchange=NAME, routing_key=NAME, mandatory=True)
        publish(message(call(0)))
        ones = iter([message(one) for one in calls(order["count"] + TURN)])
        rates = rates_in_turns(
            order["count"], ready=lambda: publish(next(ones)), made=lambda: publish(message(call(1)))
        )
        return {"rate": rates["ready"], "made": rates["made"]}


def publish_in_batches(order: Order) -> dict[str, Any]:
    """Publish a batch, then wait for the confirms of all of it."""
    with channel(order) as found:
        confirms = Confirms(found)
        batches = pages([message(one) for one in calls(order["count"])], order["batch"])
        return rate(order["count"], lambda: confirms.publish_all(batches))


def consume(order: Order) -> dict[str, Any]:
    """Take what waits, and acknowledge many with one frame."""
    with channel(order) as found:
        Confirms(found).publish([message(one) for one in calls(order["count"])])
        taken: list[int] = []

        def take(delivered: Any) -> None:
            taken.append(delivered.delivery_tag)
            if not len(taken) % ACK_EVERY or len(taken) == order["count"]:
                found.basic_ack(delivered.delivery_tag, multiple=True)

        def work_off() -> None:
            found.basic_consume(NAME, NAME, callback=take)
            while len(taken) < order["count"]:
                found.connection.drain_events()

        found.basic_qos(0, order["prefetch"], a_global=False)
        measured = rate(order["count"], work_off)
        found.basic_cancel(NAME)
    return measured


def hop(order: Order) -> dict[str, Any]:
    """From publishing to being delivered to a consumer that waits, not confirmed; the median."""
    with channel(order) as found, connected(order) as consumer:
        arrived: list[Any] = []
        consumer.basic_consume(NAME, callback=arrived.append)
        return {"p50": statistics.median(_hop(found, consumer, arrived, number) for number in range(order["count"]))}


def _hop(publisher: Any, consumer: Any, arrived: list[Any], number: int) -> float:
    one = message(call(number))
    began = time.perf_counter()
    publisher.basic_publish(one, NAME, NAME, mandatory=True)
    while not arrived:
        consumer.connection.drain_events()
    took = time.perf_counter() - began
    consumer.basic_ack(arrived.pop().delivery_tag)
    return took


class Confirms:
    """Publishes batches on a channel, and waits for their confirms."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._sent = 0
        self._confirmed = 0
        channel.confirm_select()
        channel.events["basic_ack"].add(self._note)

    def publish_all(self, batches: Sequence[Sequence[Any]]) -> None:
        for batch in batches:
            self.publish(batch)

    def publish(self, batch: Sequence[Any]) -> None:
        for one in batch:
            self._channel.basic_publish(one, NAME, NAME, mandatory=True)
        self._sent += len(batch)
        while self._confirmed < self._sent:
            self._channel.connection.drain_events()

    def _note(self, number: int, multiple: bool) -> None:  # noqa: FBT001 - amqp calls it so
        """Count: confirms come in the order of the numbers, or for one number each."""
        self._confirmed = number if multiple else self._confirmed + 1


def message(one: Call) -> Any:
    return amqp.Message(
        one.body.decode(),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        correlation_id=one.task_id,
    )


@contextmanager
def channel(order: Order) -> Iterator[Any]:
    """A channel with our queue, which goes at the end."""
    with connected(order) as found:
        found.exchange_declare(NAME, "direct", durable=True, auto_delete=False)
        found.queue_declare(NAME, durable=True, auto_delete=False)
        found.queue_bind(NAME, NAME, NAME)
        yield found
        found.queue_delete(NAME)
        found.exchange_delete(NAME)


@contextmanager
def connected(order: Order) -> Iterator[Any]:
    """A channel of a connection of its own."""
    parts = urlsplit(order["url"])
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port or 5672}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        confirm_publish=False,
    )
    with connection:
        connection.connect()
        yield connection.channel()


if __name__ == "__main__":
    run((publish_one_by_one, publish_in_batches, consume, hop))
