"""The pure parts of the raw limits, and the statements that fill tables with a million rows."""

import json
import sqlite3
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

from benchmarks.contenders.ours import produce
from benchmarks.filled import FUTURE, KINDS, STORED, WAITING, Filling
from benchmarks.raw import command, postgresql, rabbitmq
from celery import message as wire
from celery.backends import database as results
from celery.broker.store.base import COLUMNS
from celery.message import Call


class Memory:
    """A database in memory, with the columns of ours and nothing else."""

    settings: dict[str, str] = {}  # noqa: RUF012 - nobody writes to it

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        for table, columns in (("celery_message", COLUMNS), ("celery_taskmeta", results.COLUMNS)):
            self.rows(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {', '.join(columns)})")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement).fetchall()

    def clear(self, table: str) -> None:
        self.rows(f"DELETE FROM {table}")

    def remove(self) -> None:
        self.connection.close()


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    made.remove()


def test_a_raw_body_is_byte_for_byte_one_of_ours() -> None:
    one = command.call(7)

    _, _, body = wire.encode(Call(task=command.TASK, task_id=one.task_id, args=(7,)), "json")

    assert one.body == body


def test_calls_have_ids_of_their_own() -> None:
    assert len({one.task_id for one in command.calls(50)}) == 50


def test_pages_keep_all_items_in_order() -> None:
    cut = command.pages(list(range(7)), 3)

    assert list(map(len, cut)) == [3, 3, 1]
    assert list(chain.from_iterable(cut)) == list(range(7))


def test_raw_rows_have_the_columns_of_ours() -> None:
    assert postgresql.MESSAGES == COLUMNS
    assert postgresql.RESULTS == results.COLUMNS
    assert len(postgresql.row(1)) == len(COLUMNS)


def test_raw_groups_are_readable_json() -> None:
    (message,) = json.loads(postgresql.as_json([postgresql.row(1)]))
    (result,) = json.loads(postgresql.results(["an id"]))

    assert bytes.fromhex(message["body"].removeprefix("\\x")).startswith(b'{"task": "bench.noop"')
    assert result["task_id"] == "an id"


def test_a_raw_message_is_persistent_and_says_what_ours_say() -> None:
    one = command.call(1)

    assert rabbitmq.message(one).properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "correlation_id": one.task_id,
    }


def test_parts_have_every_call_once() -> None:
    cut = [list(part) for part in produce.parts(7, 3)]

    assert list(map(len, cut)) == [3, 3, 1]
    assert [number for part in cut for (number,) in part] == list(range(7))


@pytest.mark.parametrize("kind", KINDS)
def test_filling_makes_up_for_what_is_missing(memory: Memory, kind: str) -> None:
    filling = Filling(memory, is_sqlite=True, queue="bench")

    filling.top_up(kind, 20)
    table = "celery_taskmeta" if kind == STORED else "celery_message"
    memory.rows(f"DELETE FROM {table} WHERE id % 2")
    filling.top_up(kind, 25)

    assert memory.rows(f"SELECT count(*), count(DISTINCT task_id) FROM {table}") == [(25, 25)]


def test_what_fills_the_queue_can_be_decoded(memory: Memory) -> None:
    Filling(memory, is_sqlite=True, queue="bench").top_up(WAITING, 3)

    for task_id, body in memory.rows("SELECT task_id, body FROM celery_message"):
        assert json.loads(body)["id"] == task_id


def test_only_the_future_has_a_moment(memory: Memory) -> None:
    filling = Filling(memory, is_sqlite=True, queue="bench")

    filling.top_up(WAITING, 2)
    filling.top_up(FUTURE, 3)

    assert memory.rows("SELECT count(*) FROM celery_message WHERE visible_at IS NULL") == [(2,)]
    assert memory.rows("SELECT count(*) FROM celery_message WHERE visible_at > datetime('now', '364 days')") == [(3,)]


@pytest.mark.parametrize("kind", KINDS)
def test_both_databases_are_filled_alike(memory: Memory, kind: str) -> None:
    texts = [Filling(memory, is_sqlite=is_sqlite, queue="bench").statement(kind, 5) for is_sqlite in (True, False)]

    columns = [text.partition("INSERT INTO")[2].partition(")")[0] for text in texts]
    assert columns[0] == columns[1]
