"""What is SQLite's own: how many different statements there are, for each stays prepared in a connection."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DataError, connections

from celery import states
from celery.backends.base import Result
from celery.backends.database import Backend
from celery.broker import store
from celery.broker.store.base import Store
from celery.message import Message

ME = "a" * 32


@pytest.fixture
def kept(on_database: Callable[[str], str]) -> Store:
    return store.of(on_database("sqlite"))


def messages(number: int) -> list[Message]:
    return [Message(task_id=f"id {n}", task="shop.add", body=b"{}", queue="celery") for n in range(number)]


def results(number: int) -> list[Result]:
    return [Result(task_id=f"id {n}", state=states.DONE) for n in range(number)]


def statements(kept: Store, act: Callable[[], object]) -> set[str]:
    """Return the different statements that `act` executes."""
    said: set[str] = set()

    def note(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        said.add(sql)
        return execute(sql, params, many, context)

    with connections[kept.alias].execute_wrapper(note):
        act()
    return {sql for sql in said if "SAVEPOINT" not in sql}


def test_groups_of_any_size_are_few_statements(kept: Store) -> None:
    def work() -> None:
        for size in range(1, 257):
            ids = kept.insert(messages(size), owner=ME)
            Backend().store(results(size))
            Backend().fetch([f"id {n}" for n in range(size)])
            kept.finish(ME, ids)

    assert len(statements(kept, work)) <= 4 * 9 + 4


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 499, 500, 501, 1203])
def test_each_row_is_written_and_found_once_whatever_the_size_of_the_group(kept: Store, size: int) -> None:
    ids = kept.insert(messages(size), owner=ME)

    assert len(set(ids)) == size
    assert kept.insert(messages(size)) == []
    assert kept.finish(ME, ids) == set(ids)
    assert Backend().store(results(size)) == {f"id {n}" for n in range(size)}
    assert len(Backend().fetch([f"id {n}" for n in range(size)])) == size


def test_a_group_is_stored_as_a_whole_or_not_at_all(kept: Store) -> None:
    group = [*results(6), Result(task_id="last", state=states.DONE, attempt=2**70)]

    with pytest.raises((OverflowError, DataError)):
        Backend().store(group)

    assert Backend().fetch([one.task_id for one in group]) == {}
