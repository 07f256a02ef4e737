"""dramatiq's producer. It has no call that publishes many: a group sends one message after the other."""

from configuration import broker, results
from work import tasks

from benchmarks.contenders.producing import (
    SECONDS_FOR_A_TRIP,
    Found,
    Order,
    obey,
    redis_facts,
    timed_calls,
    timed_trips,
    versions,
)


def fill(order: Order) -> Found:
    return enqueue_one_by_one(order)


def enqueue_one_by_one(order: Order) -> Found:
    """A message is in the socket when the call returns; the server confirms nothing."""
    found = timed_calls(getattr(tasks, order.task).send, order)
    broker.close()
    return found


def round_trip(order: Order) -> Found:
    """Wait as dramatiq does by default: Redis tells when the result is there."""

    def trip(argument):
        message = getattr(tasks, order.task).send(argument)
        return message.get_result(block=True, timeout=int(SECONDS_FOR_A_TRIP * 1000))

    return timed_trips(trip, order)


def facts(_order: Order) -> Found:
    return {
        "versions": versions("dramatiq", "pika", "redis"),
        "broker": {"confirms": "waited for" if broker.confirm_delivery else "not asked for"},
        "results": redis_facts(results.client),
    }


obey({action.__name__: action for action in (fill, enqueue_one_by_one, round_trip, facts)})
