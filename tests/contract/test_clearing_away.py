"""What deleted messages leave behind: on PostgreSQL a worker has it cleared away, elsewhere there is nothing to do."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import connections, transaction

from celery.broker import store
from celery.broker.store import postgresql
from celery.broker.store.base import Store
from celery.broker.store.workers import TABLE
from celery.message import Message
from tests.helpers import eventually

FEW = 50


@pytest.fixture
def _little_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "MOST_DEAD", FEW)


@pytest.fixture
def kept_on_postgresql(on_database: Callable[[str], str]) -> Iterator[Store]:
    """Nobody else clears away here: autovacuum can be at a table for long, and ours waits for nobody."""
    found = store.of(on_database("postgres"))
    found.run(f"ALTER TABLE {TABLE} SET (autovacuum_enabled = off)", [])  # waits for one that is at it
    found.run(f"VACUUM {TABLE}", [])  # what other tests have left
    yield found
    found.run(f"ALTER TABLE {TABLE} RESET (autovacuum_enabled)", [])


def leave_dead_rows(kept: Store, number: int = 4 * FEW) -> None:
    """Insert and delete messages, and wait until the server's statistics know it."""
    ids = kept.insert(Message(task_id=f"id {n}", task="shop.add", body=b"{}", queue="celery") for n in range(number))
    kept.delete_rows(ids)
    eventually(lambda: remains(kept) >= number, within=10)


def remains(kept: Store) -> int:
    with connections[kept.alias].cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    return int(kept.rows(postgresql.REMAINS, [])[0][0])


def test_where_nothing_has_to_be_done_that_is_no_failure(kept: Store) -> None:
    assert kept.clear_away()


@pytest.mark.postgres
@pytest.mark.usefixtures("_little_is_enough")
class TestOnPostgresql:
    def test_dead_rows_are_cleared_away(self, kept_on_postgresql: Store) -> None:
        leave_dead_rows(kept_on_postgresql)

        eventually(kept_on_postgresql.clear_away, within=20)  # a statement of another test may still see them

        assert remains(kept_on_postgresql) == 0

    def test_a_few_are_left_to_autovacuum(self, kept_on_postgresql: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        leave_dead_rows(kept_on_postgresql)
        monkeypatch.setattr(postgresql, "MOST_DEAD", 10**9)

        assert kept_on_postgresql.clear_away()

        assert remains(kept_on_postgresql) > 0

    def test_a_large_table_is_left_to_autovacuum(
        self, kept_on_postgresql: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        leave_dead_rows(kept_on_postgresql)
        monkeypatch.setattr(postgresql, "LARGEST", 8192)

        assert kept_on_postgresql.clear_away()

        assert remains(kept_on_postgresql) > 0

    def test_it_is_in_vain_while_an_older_transaction_still_sees_them(self, kept_on_postgresql: Store) -> None:
        with other_connection(kept_on_postgresql) as other:
            other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT count(*) FROM celery_message")
            leave_dead_rows(kept_on_postgresql)

            assert not kept_on_postgresql.clear_away()

            other.execute("COMMIT")
        eventually(kept_on_postgresql.clear_away, within=20)  # a statement of another test may still see them

    def test_who_is_at_it_already_is_not_waited_for(self, kept_on_postgresql: Store) -> None:
        leave_dead_rows(kept_on_postgresql)
        with other_connection(kept_on_postgresql) as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE celery_message IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM does

            assert not kept_on_postgresql.clear_away()

    def test_it_says_so_where_every_statement_is_in_a_transaction(self, kept_on_postgresql: Store) -> None:
        leave_dead_rows(kept_on_postgresql)

        with transaction.atomic(using=kept_on_postgresql.alias):
            assert not kept_on_postgresql.clear_away()


def other_connection(kept: Store) -> "psycopg.Connection[tuple[object, ...]]":
    known = connections[kept.alias].settings_dict
    return psycopg.connect(
        host=known["HOST"], port=known["PORT"], user=known["USER"], dbname=known["NAME"], autocommit=True
    )
