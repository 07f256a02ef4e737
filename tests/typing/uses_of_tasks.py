"""Right and wrong uses of tasks. mypy reads this file, nobody runs it.

Each wrong line is marked with the error that mypy must find in it; `test_typing` holds the marks against mypy.
"""

from typing import Any, assert_type

from celery.result import AsyncResult, SentResults, TaskSetResult
from celery.task import FunctionTask, Task, TaskSet, dmap, dmap_async, execute_remote, task


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@task(name="typing.ship", queue="mail", priority=5)
def ship(order: str, *, fast: bool = False) -> list[str]:
    return [order] if fast else []


class Multiply(Task):
    """The class-based form: its arguments are anything."""

    def run(self, x: int, y: int) -> int:
        return x * y


def divide(x: float, y: float) -> float:
    return x / y


def right() -> None:
    assert_type(add(1, y=2), int)
    assert_type(add.delay(1), AsyncResult[int])
    assert_type(add.delay(1, y=2).get(), int)
    assert_type(add.delay(1).wait(timeout=2.5), int)
    assert_type(add.apply_async([1], countdown=5).get(), int)
    assert_type(add.delay_many([(1, 2), (3,)]), SentResults[int])
    assert_type(add.delay_many([(1, 2), (3,)])[0].get(), int)
    assert_type(ship("7", fast=True), list[str])
    assert_type(ship.delay("7", fast=True).get(), list[str])
    assert_type(ship.delay(order="7").status, str)
    assert_type(add.name, str)
    assert_type(Multiply.delay(2, 3), AsyncResult[Any])
    assert_type(Multiply()(2, 3), Any)
    assert_type(TaskSet(add, [[[1], {"y": 2}]]).run(), TaskSetResult[int])
    assert_type(TaskSet(ship, [[["7"]]]).join(timeout=5), list[list[str]])
    assert_type(TaskSet("typing.ship", [[["7"]]]).join(), list[Any])
    assert_type(TaskSet(Multiply, []).run().subtasks, list[AsyncResult[Any]])
    assert_type(next(TaskSet(add, [[[1]]]).iterate()), int)
    assert_type(dmap(divide, [[4, 2], (1, 3)], timeout=5), list[float])
    assert_type(dmap_async(divide, [[4, 2]]).get(), list[float])
    assert_type(execute_remote(divide, 4, y=2).get(), float)


def wrong() -> None:
    add("1")  # type: ignore[arg-type]
    add.delay("1")  # type: ignore[arg-type]
    add.delay(1, y="2")  # type: ignore[arg-type]
    add.delay()  # type: ignore[call-arg]
    add.delay(1, 2, 3)  # type: ignore[call-arg]
    add.delay(1, z=2)  # type: ignore[call-arg]
    ship.delay("7", True)  # type: ignore[call-arg]
    ship.delay(7)  # type: ignore[arg-type]
    add.delayed(1)  # type: ignore[attr-defined]
    add.delay(1).get("soon")  # type: ignore[arg-type]
    add.delay_many([1, 2])  # type: ignore[list-item]
    task(42)  # type: ignore[call-overload]
    execute_remote(divide, 4)  # type: ignore[call-arg]
    execute_remote(divide, "4", 2)  # type: ignore[arg-type]
    dmap(divide, [4, 2])  # type: ignore[list-item]
    TaskSet(add)  # type: ignore[call-overload]


def wrong_types_of_results() -> tuple[str, str, FunctionTask[[str], int]]:
    text: str = add.delay(1).get()  # type: ignore[assignment]
    words: str = ship("7")  # type: ignore[assignment]
    other: FunctionTask[[str], int] = add  # type: ignore[assignment]
    return text, words, other
