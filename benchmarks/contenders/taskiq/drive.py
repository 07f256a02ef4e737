"""taskiq's producer. It has no call that publishes many; to fill a queue, calls are made side by side."""

import asyncio
import time

import redis
from configuration import IS_CLASSIC, RESULTS, broker
from work import tasks

from benchmarks.contenders.producing import (
    SECONDS_FOR_A_TRIP,
    WARM_UP,
    Found,
    Order,
    Stopwatch,
    expect,
    obey,
    redis_facts,
    versions,
)

AT_ONCE = 100


def fill(order: Order) -> Found:
    return asyncio.run(started(filled(order)))


def enqueue_one_by_one(order: Order) -> Found:
    """A call returns when the server has confirmed the message."""
    return asyncio.run(started(enqueued(order)))


def round_trip(order: Order) -> Found:
    """Wait as taskiq does by default: a look every 0.2 s."""
    return asyncio.run(started(trips(order, {})))


def round_trip_polling(order: Order) -> Found:
    """Wait with a look every 5 ms."""
    return asyncio.run(started(trips(order, {"check_interval": 0.005})))


def facts(_order: Order) -> Found:
    return {
        "versions": versions("taskiq", "taskiq-aio-pika", "taskiq-redis", "aio-pika", "redis"),
        "broker": {
            "asked for": "a classic queue" if IS_CLASSIC else "a quorum queue",
            "confirms": asyncio.run(started(confirms())),
        },
        "results": redis_facts(redis.Redis.from_url(RESULTS, decode_responses=True)) if RESULTS else "none",
    }


async def started(action) -> Found:
    """Do something beside a connected broker."""
    await broker.startup()
    try:
        return await action
    finally:
        await broker.shutdown()


async def filled(order: Order) -> Found:
    task, arguments = getattr(tasks, order.task), list(order.arguments())
    for start in range(0, len(arguments), AT_ONCE):
        await asyncio.gather(*(task.kiq(argument) for argument in arguments[start : start + AT_ONCE]))
    return {}


async def enqueued(order: Order) -> Found:
    task, (first, *others) = getattr(tasks, order.task), order.arguments()
    await task.kiq(first)
    with Stopwatch() as watch:
        for argument in others:
            await task.kiq(argument)
    return watch.found | {"measured": len(others)}


async def trips(order: Order, options: dict[str, float]) -> Found:
    for number in range(WARM_UP):
        expect(await trip(order, number, options), number)
    times = []
    for argument in order.arguments():
        began = time.perf_counter()
        value = await trip(order, argument, options)
        times.append(time.perf_counter() - began)
        expect(value, argument)
    return {"times": times}


async def trip(order: Order, argument: object, options: dict[str, float]) -> object:
    sent = await getattr(tasks, order.task).kiq(argument)
    found = await sent.wait_result(timeout=SECONDS_FOR_A_TRIP, **options)
    found.raise_for_error()
    return found.return_value


async def confirms() -> str:
    channel = broker.write_channel
    return "waited for" if channel is not None and channel.publisher_confirms else "not asked for"


obey({action.__name__: action for action in (fill, enqueue_one_by_one, round_trip, round_trip_polling, facts)})
