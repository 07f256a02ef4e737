"""What is MariaDB's own: which indexes are used, how texts compare, snapshots, the size of statements."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import DataError, OperationalError, connections, router, transaction
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from celery import states
from celery.backends.base import Result
from celery.backends.database import Backend
from celery.bin import celeryd
from celery.broker import store
from celery.broker.database import DatabaseConsumer
from celery.broker.store.base import Store
from celery.message import Message
from celery.models import Message as Row
from tests.helpers import OneDatabase, eventually
from tests.mariadb import mariadb_database
from tests.shop.database_url import database_from

pytestmark = pytest.mark.mariadb

T = TypeVar("T")

ME, OTHER = "a" * 32, "b" * 32
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SOON = timedelta(hours=1)


@pytest.fixture
def alias(on_database: Callable[[str], str]) -> str:
    """The alias of a database on MariaDB."""
    return on_database("mariadb")


def message(task_id: str = "", **fields: Any) -> Message:
    return Message(
        **{"task_id": task_id or str(uuid.uuid4()), "task": "shop.add", "body": b"{}", "queue": "celery"} | fields
    )


def result(task_id: str, state: str = states.DONE, **fields: Any) -> Result:
    return Result(task_id=task_id, state=state, **fields)


def enlist(kept: Store, owner: str) -> None:
    kept.enlist(owner, name=owner[0], pid=1, queues=["celery"], concurrency=1, lease=30.0)


def elsewhere(function: Callable[[], T]) -> T:
    """Run on another thread, and so on another connection."""

    def run() -> T:
        try:
            return function()
        finally:
            for connection in connections.all(initialized_only=True):
                connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(timeout=30)


# Indexes


#: Of five rows one is ready, two are scheduled, one is dead and one is held.
MANY_ROWS = f"""
    INSERT INTO celery_message (task_id, attempt, task, queue, rank, body, headers, created_at, visible_at, owner,
                                suspect, starts, crashes, dead_at, reason)
    SELECT UUID(), 1, 'shop.add', IF(seq MOD 2, 'celery', 'mail'), -(seq MOD 7), '', '', '2026-11-22',
           IF(seq MOD 5 IN (1, 2), '2026-11-22 12:00' + INTERVAL seq SECOND, NULL), IF(seq MOD 5 = 3, '{OTHER}', NULL),
           FALSE, 0, 0, IF(seq MOD 5 = 4, '2026-11-22', NULL), ''
    FROM seq_1_to_20000
"""


@pytest.fixture(scope="module")
def crowded(mariadb_url: str, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Store]:
    """A store with many rows of every kind, more of them not ready than ready."""
    with mariadb_database(mariadb_url, "crowded") as url, django_db_blocker.unblock(), migrated(url) as alias:
        kept = store.of(alias)
        with connections[alias].cursor() as cursor:
            cursor.execute(MANY_ROWS)
            cursor.execute("ANALYZE TABLE celery_message")
        enlist(kept, ME)
        enlist(kept, OTHER)
        yield kept
        store.of.cache_clear()


class migrated:  # noqa: N801 - a context manager, read like a function
    """Add a database to those that Django knows, with our tables."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._alias = f"mariadb_{uuid.uuid4().hex}"

    def __enter__(self) -> str:
        connections.settings[self._alias] = {**connections.settings["default"], **database_from(self._url)}
        call_command("migrate", "celery", database=self._alias, verbosity=0)
        return self._alias

    def __exit__(self, *_: object) -> None:
        connections[self._alias].close()
        del connections[self._alias]
        del connections.settings[self._alias]


def plans(kept: Store, act: Callable[[], object]) -> list[tuple[str, str, str, str]]:
    """Return the plan of each table in each statement of `act`: the table, how it is read, by which key, and notes."""
    said: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        said.append((sql, params))
        return execute(sql, params, many, context)

    with transaction.atomic(using=kept.alias):
        with connections[kept.alias].execute_wrapper(note):
            act()
        transaction.set_rollback(True, using=kept.alias)
    found = []
    with connections[kept.alias].cursor() as cursor:
        for sql, params in said:
            if sql.startswith(("SELECT", "UPDATE", "DELETE")):
                cursor.execute(f"EXPLAIN {sql}", params)
                names = [column[0] for column in cursor.description or ()]
                rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
                found += [(row["table"], row["type"], row["key"] or "", row["Extra"] or "") for row in rows]
    return found


@pytest.mark.parametrize(
    ("act", "index"),
    [
        (lambda kept: kept.claim(ME, "celery", 64), "celery_message_ready"),
        (lambda kept: kept.claim(ME, "an empty one", 64), "celery_message_ready"),
        (lambda kept: kept.promote(NOW + SOON, 100), "celery_message_due"),
        (lambda kept: kept.next_due(), "celery_message_due"),
        (lambda kept: kept.has_relayable(NOW), "celery_message_owner"),
        (lambda kept: kept.take_for_relay(ME, NOW + SOON, 100), "celery_message_owner"),
        (lambda kept: kept.release_all_but(OTHER, [1]), "celery_message_owner"),
        (lambda kept: kept.retire_orphans(), "celery_message_owner"),
        (lambda kept: kept.retire(OTHER), "celery_message_owner"),
        (lambda kept: kept.finish(OTHER, [1, 2, 3]), "PRIMARY"),
        (lambda kept: kept.lock_rows([1, 2, 3]), "PRIMARY"),
    ],
    ids=[
        *("claim", "claim nothing", "promote", "next_due", "has_relayable", "take_for_relay"),
        *("release_all_but", "retire_orphans", "retire", "finish", "lock_rows"),
    ],
)
def test_no_statement_sorts_or_reads_all_messages(crowded: Store, act: Callable[[Store], object], index: str) -> None:
    found = [plan for plan in plans(crowded, lambda: act(crowded)) if plan[0] == "celery_message"]

    assert index in {key for _, _, key, _ in found}
    assert not [plan for plan in found if plan[1] == "ALL"]
    assert not [plan for plan in found if "filesort" in plan[3] or "temporary" in plan[3]]


def test_rows_are_named_one_by_one_also_where_the_table_is_small(kept: Store, alias: str) -> None:
    """Else two workers that finish at once lock each other's rows on their way, and one of them ends in a deadlock."""
    kept.insert([message("x")], owner=ME)
    (row_id,) = (row.pk for row in Row.objects.using(alias).all())
    with connections[alias].cursor() as cursor:
        cursor.execute("ANALYZE TABLE celery_message")

    found = plans(kept, lambda: kept.finish(ME, range(row_id, row_id + 200)))

    assert [(how, key) for table, how, key, _ in found if table == "celery_message"] == [("eq_ref", "PRIMARY")] * 2


def test_the_system_checks_do_not_tell_of_conditions_that_are_ignored(alias: str) -> None:
    assert "models.W037" not in {found.id for found in run_checks(databases=[alias])}


def test_an_idle_worker_looks_often_for_nobody_can_wake_it(kept: Store, alias: str) -> None:
    enlist(kept, ME)
    consumer = DatabaseConsumer(alias, ME, ["celery"])
    consumer.connect()
    try:
        for _ in range(20):
            assert consumer.take(10) == []

        assert 0.02 <= consumer.next_poll() <= 0.1
    finally:
        consumer.close()


def test_a_worker_does_not_start_on_a_server_that_is_too_old(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(CELERY_BROKER_URL=f"django://{alias}"):
        celeryd.preflight()
        monkeypatch.setattr(connections[alias].features, "has_select_for_update_skip_locked", False)

        with pytest.raises(
            CommandError, match=r"too old: MariaDB 1\d\.\d+\.\d+ cannot skip locked rows\. Use MariaDB 10\.6"
        ):
            celeryd.preflight()


# Texts


class TestTexts:
    ALIKE = ("a", "A", "ä", "a ", "a\N{COMBINING DIAERESIS}")

    def test_ids_that_look_alike_are_different_messages(self, kept: Store) -> None:
        assert len(kept.insert([message(task_id) for task_id in self.ALIKE])) == len(self.ALIKE)

        assert [len(kept.insert([message(task_id)])) for task_id in self.ALIKE] == [0] * len(self.ALIKE)

    def test_queues_that_look_alike_are_different_queues(self, kept: Store) -> None:
        enlist(kept, ME)
        kept.insert([message(queue=queue) for queue in self.ALIKE])

        assert [[got.queue for got in kept.claim(ME, queue, 10)] for queue in self.ALIKE] == [
            [queue] for queue in self.ALIKE
        ]

    def test_ids_that_look_alike_have_results_of_their_own(self, alias: str) -> None:
        backend = Backend()

        assert backend.store([result(task_id) for task_id in self.ALIKE]) == set(self.ALIKE)

        assert backend.fetch(["A"]).keys() == {"A"}

    def test_a_database_in_another_encoding_gets_tables_that_hold_any_text(
        self, mariadb_url: str, django_db_setup: None, django_db_blocker: DjangoDbBlocker, monkeypatch: Any
    ) -> None:
        with (
            mariadb_database(mariadb_url, "latin", "CHARACTER SET latin1") as url,
            django_db_blocker.unblock(),
            migrated(url) as alias,
        ):
            monkeypatch.setattr(router, "routers", [OneDatabase(alias)])
            Backend().store([result("é…😀", traceback="Ω 😀")])

            assert Backend().fetch(["é…😀"])["é…😀"].traceback == "Ω 😀"


def test_the_migrations_can_be_taken_back_and_made_again(
    mariadb_url: str, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> None:
    with mariadb_database(mariadb_url, "reversed") as url, django_db_blocker.unblock(), migrated(url) as alias:
        indexes = index_columns(alias)

        call_command("migrate", "celery", "0001", database=alias, verbosity=0)
        before = index_columns(alias)
        call_command("migrate", "celery", database=alias, verbosity=0)

        assert before["celery_message_ready"] == ["queue", "rank", "id"]
        assert before["celery_message_owner"] == ["owner"]
        assert index_columns(alias) == indexes
        assert indexes["celery_message_ready"] == ["queue", "owner", "visible_at", "dead_at", "rank", "id"]


def index_columns(alias: str) -> dict[str, list[str]]:
    connection = connections[alias]
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "celery_message")
    return {name: constraint["columns"] for name, constraint in found.items() if constraint["index"]}


# Snapshots


class TestSnapshots:
    """A project may choose REPEATABLE READ. What is decided here must not be decided by an old snapshot."""

    @pytest.fixture
    def old(self, alias: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """An alias for the same database, whose transactions read a snapshot."""
        name = "repeatable_read"
        options = {**connections.settings[alias]["OPTIONS"], "isolation_level": "repeatable read"}
        connections.settings[name] = {**connections.settings[alias], "OPTIONS": options}
        monkeypatch.setattr(router, "routers", [OneDatabase(name)])
        yield name
        connections[name].close()
        del connections[name]
        del connections.settings[name]
        store.of.cache_clear()

    def take_snapshot(self, alias: str) -> None:
        Row.objects.using(alias).count()

    def test_a_message_that_another_has_sent_since_is_known(self, kept: Store, old: str) -> None:
        with transaction.atomic(using=old):
            self.take_snapshot(old)
            elsewhere(lambda: kept.insert([message("x")]))

            assert store.of(old).insert([message("x")]) == []
            assert len(store.of(old).insert([message("x"), message("y")])) == 1

    def test_a_row_that_a_relay_has_taken_since_is_taken_over(self, kept: Store, old: str) -> None:
        enlist(kept, OTHER)
        (row_id,) = kept.insert([message("x")])
        with transaction.atomic(using=old):
            self.take_snapshot(old)
            elsewhere(lambda: kept.take_for_relay(OTHER, NOW, 1))

            assert store.of(old).insert([message("x", crashes=1)], takes_over=True) == [row_id]

    def test_a_result_that_another_has_stored_since_is_respected(self, kept: Store, old: str) -> None:
        def store_elsewhere() -> None:
            with connections[kept.alias].cursor():
                router.routers = [OneDatabase(kept.alias)]
                Backend().store([result("x", attempt=2, result='"theirs"')])
                router.routers = [OneDatabase(old)]

        with transaction.atomic(using=old):
            self.take_snapshot(old)
            elsewhere(store_elsewhere)

            assert Backend().store([result("x", attempt=2), result("y")]) == {"y"}
            assert Backend().store([result("x", attempt=3)]) == {"x"}

    def test_a_worker_that_was_lost_since_takes_nothing(self, kept: Store, old: str) -> None:
        enlist(kept, ME)
        kept.insert([message("x")])
        with transaction.atomic(using=old):
            self.take_snapshot(old)
            elsewhere(lambda: kept.retire(ME))

            assert store.of(old).claim(ME, "celery", 10) == []

    def test_a_message_that_another_has_taken_since_is_not_ours(self, kept: Store, old: str) -> None:
        enlist(kept, ME)
        enlist(kept, OTHER)
        (row_id,) = kept.insert([message("x")])
        kept.claim(ME, "celery", 1)

        def take_over() -> None:
            kept.retire(ME)
            kept.claim(OTHER, "celery", 1)

        with transaction.atomic(using=old):
            self.take_snapshot(old)
            elsewhere(take_over)

            assert store.of(old).finish(ME, [row_id]) == set()

        assert Row.objects.using(kept.alias).get().owner == OTHER

    def test_claimers_never_share_a_row(self, kept: Store, old: str) -> None:
        enlist(kept, ME)
        kept.insert(message() for _ in range(200))

        def drain() -> list[int]:
            mine = store.of(old)
            return [got.row_id for batch in iter(lambda: mine.claim(ME, "celery", 7), []) for got in batch]

        with ThreadPoolExecutor(3) as pool:
            taken = [row for done in [pool.submit(elsewhere, drain) for _ in range(3)] for row in done.result(60)]

        assert len(taken) == len(set(taken)) == 200

    @pytest.mark.parametrize(
        ("options", "ids"),
        [
            ({}, []),
            ({"isolation_level": "READ COMMITTED"}, []),
            ({"isolation_level": "repeatable read"}, ["celery.W005"]),
            ({"isolation_level": None}, ["celery.W005"]),
        ],
    )
    def test_the_system_check_tells_of_another_level(self, alias: str, options: Any, ids: list[str]) -> None:
        connections.settings["told"] = {**connections.settings[alias], "OPTIONS": options}
        try:
            with override_settings(CELERY_BROKER_URL="django://told"):
                found = [one.id for one in store.of("told").check()]
        finally:
            del connections["told"]
            del connections.settings["told"]
            store.of.cache_clear()

        assert found == ids


# Locks, and the size of statements


def test_nobody_retires_a_worker_while_it_claims(kept: Store, alias: str) -> None:
    enlist(kept, ME)

    def retire() -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute("SET innodb_lock_wait_timeout = 1")
        kept.retire(ME)

    with transaction.atomic(using=alias):
        assert kept.has_lease(ME)
        with pytest.raises(OperationalError, match="Lock wait timeout"):
            elsewhere(retire)

    assert len(kept.census()) == 1


def test_a_worker_that_signs_on_while_orphans_are_given_back_keeps_what_it_takes(kept: Store, alias: str) -> None:
    """An UPDATE reads the newest messages; were it to look into the other table by itself, it would see old workers."""
    kept.insert([message("orphan")], owner="0" * 32)
    locked = kept.insert([message("locked orphan")], owner="1" * 32)  # the second that the UPDATE comes to
    kept.insert([message("taken meanwhile", queue="mail")])

    def sign_on() -> None:
        enlist(kept, ME)
        kept.claim(ME, "mail", 1)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic(using=alias):
            list(Row.objects.using(alias).select_for_update().filter(pk__in=locked))
            released = pool.submit(elsewhere, kept.retire_orphans)
            eventually(lambda: waits_for_a_lock(alias))
            elsewhere(sign_on)

        assert released.result(timeout=30) == 2

    assert {row.task_id: row.owner for row in Row.objects.using(alias).all()} == {
        "orphan": None,
        "locked orphan": None,
        "taken meanwhile": ME,
    }


def waits_for_a_lock(alias: str) -> bool:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM information_schema.innodb_trx JOIN information_schema.processlist"
            " ON id = trx_mysql_thread_id WHERE trx_state = 'LOCK WAIT' AND db = DATABASE()"
        )
        return bool(cursor.fetchone()[0])


class TestSizes:
    """The server of the tests takes 16 megabytes in one statement, as it comes from its makers."""

    MEGABYTE = 2**20

    def test_a_message_that_no_statement_can_carry_is_refused_with_what_to_do(self, kept: Store, alias: str) -> None:
        with pytest.raises(DataError, match=r"takes 17,.* max_allowed_packet"):
            kept.insert([message(body=b"x" * 17 * 500_000)])

        assert kept.insert([message()])

    def test_what_grows_by_its_quotes_is_refused_too(self, alias: str) -> None:
        with pytest.raises(DataError, match="max_allowed_packet"):
            Backend().store([result("x", result="'" * 9 * self.MEGABYTE)])

    def test_what_just_fits_is_kept(self, kept: Store) -> None:
        fits = 8 * self.MEGABYTE - 2000  # each byte takes two
        enlist(kept, ME)

        kept.insert([message(body=b"x" * fits)])

        assert len(kept.claim(ME, "celery", 1)[0].body) == fits

    def test_a_group_that_is_too_large_as_one_statement_is_stored_all_the_same(self, alias: str) -> None:
        group = [result(f"id {number}", result='"' + "é" * self.MEGABYTE + '"') for number in range(9)]

        assert Backend().store(group) == {one.task_id for one in group}

        assert len(Backend().fetch(["id 0", "id 8"])["id 8"].result) == self.MEGABYTE + 2

    def test_a_group_with_one_that_is_too_large_leaves_nothing_behind(self, alias: str) -> None:
        group = [result("a", result="x" * self.MEGABYTE * 10), result("b", result="x" * self.MEGABYTE * 10)]

        with pytest.raises(DataError):
            Backend().store([*group, result("c", result="x" * self.MEGABYTE * 17)])

        assert Backend().fetch(["a", "b"]) == {}
