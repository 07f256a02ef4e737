"""INSERTs on PostgreSQL are prepared where the server's own process is certain to answer, and nowhere else."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from celery import backends
from celery.backends.base import Result
from celery.broker import store
from celery.broker.store import postgresql, prepared
from celery.broker.store.base import Store
from celery.message import Message

pytestmark = pytest.mark.postgres

PREPARED = "SELECT statement FROM pg_prepared_statements WHERE NOT from_sql"


@pytest.fixture
def kept(on_database: Callable[[str], str]) -> Iterator[Store]:
    """A store on a connection that nobody has used yet."""
    alias = on_database("postgres")
    connections[alias].close()
    yield store.of(alias)
    connections[alias].close()


def insert(kept: Store, times: int, *, rows: int = 1) -> list[int]:
    messages = (Message(task_id=f"id {n}", task="shop.add", body=b"{}", queue="celery") for n in range(times * rows))
    return [row for _ in range(times) for row in kept.insert([next(messages) for _ in range(rows)])]


def statements(kept: Store) -> list[str]:
    return [text for (text,) in kept.rows(PREPARED, [])]


def raw(kept: Store) -> Any:
    return connections[kept.alias].connection


@pytest.mark.parametrize("rows", [1, postgresql.FEW, postgresql.FEW + 1])
def test_what_is_inserted_often_is_prepared(kept: Store, rows: int) -> None:
    ids = insert(kept, prepared.NOT_YET + 3, rows=rows)

    assert len(set(ids)) == rows * (prepared.NOT_YET + 3)
    (statement,) = statements(kept)
    assert statement.startswith("INSERT INTO celery_message")


def test_so_are_results(kept: Store) -> None:
    for number in range(prepared.NOT_YET + 2):
        stored = backends.default().store([Result(task_id=f"id {number}", state="DONE", result='"ü"')])
        assert stored == {f"id {number}"}

    assert any(statement.startswith("INSERT INTO celery_taskmeta") for statement in statements(kept))
    assert backends.default().get_result(f"id {prepared.NOT_YET + 1}") == "ü"


def test_a_connection_that_is_soon_closed_again_prepares_nothing(kept: Store) -> None:
    insert(kept, prepared.NOT_YET)

    assert statements(kept) == []


def test_behind_a_pooler_nothing_is_prepared(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each transaction may come to another process there, where a name may stand for another statement."""
    monkeypatch.setattr(prepared, "is_direct", lambda _raw: False)

    insert(kept, prepared.NOT_YET + 3)

    assert statements(kept) == []


def test_a_connection_to_the_server_itself_is_known_by_the_process_that_answers(kept: Store) -> None:
    insert(kept, 1)

    class Pooled:
        """What a pooler says of the process is its own invention."""

        info = type("Info", (), {"backend_pid": raw(kept).info.backend_pid + 1})
        execute = raw(kept).execute

    assert prepared.is_direct(raw(kept))
    assert not prepared.is_direct(Pooled)


def test_other_statements_are_none_of_our_business(kept: Store) -> None:
    before = insert(kept, 1) and raw(kept).prepare_threshold

    insert(kept, prepared.NOT_YET + 3)

    assert raw(kept).prepare_threshold == before


def test_a_new_connection_is_asked_anew(kept: Store) -> None:
    insert(kept, prepared.NOT_YET + 3)
    connections[kept.alias].close()

    ids = insert(kept, 1, rows=3)

    assert ids == []  # they are there already
    assert statements(kept) == []


def test_it_goes_on_after_a_transaction_that_was_rolled_back(kept: Store) -> None:
    insert(kept, prepared.NOT_YET + 3)
    with transaction.atomic(using=kept.alias):
        kept.insert([Message(task_id="gone", task="shop.add", body=b"{}", queue="celery")])
        transaction.set_rollback(True, using=kept.alias)

    for name in "abc":
        assert len(kept.insert([Message(task_id=name, task="shop.add", body=b"{}", queue="celery")])) == 1


def test_who_has_queries_logged_sees_these_too(kept: Store) -> None:
    insert(kept, prepared.NOT_YET + 3)

    with CaptureQueriesContext(connections[kept.alias]) as queries:
        kept.insert([Message(task_id="counted", task="shop.add", body=b"{}", queue="celery")])

    (query,) = queries
    assert "'counted'" in query["sql"]
