"""The tasks. They are asynchronous: taskiq hands others to threads, which costs more."""

import asyncio

from configuration import broker

from benchmarks.contenders import bodies


@broker.task
async def noop(number):
    return number


@broker.task
async def mark(number):
    bodies.mark(number)


@broker.task
async def pause(milliseconds):
    await asyncio.sleep(milliseconds / 1000)


@broker.task
async def size(text):
    return len(text)
