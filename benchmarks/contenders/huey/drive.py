"""huey's producer. It has no call that publishes many."""

from configuration import huey
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
    """A call returns when Redis has the message."""
    return timed_calls(getattr(tasks, order.task), order)


def round_trip(order: Order) -> Found:
    """Wait as huey does by default: it looks again and again, ever more seldom. With ``notify_result`` Redis tells."""
    task = getattr(tasks, order.task)
    return timed_trips(lambda argument: task(argument).get(blocking=True, timeout=SECONDS_FOR_A_TRIP), order)


def facts(_order: Order) -> Found:
    return {"versions": versions("huey", "redis"), "broker": redis_facts(huey.storage.conn)}


obey({action.__name__: action for action in (fill, enqueue_one_by_one, round_trip, facts)})
