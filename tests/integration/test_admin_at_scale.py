"""The lists of the admin with a million results and a million messages: no page reads, sorts or counts them all.

What a query reads is asked of the database itself, so a busy machine breaks nothing. The pages are made by Django's
test client; whatever they ask, all of it counts. How long each took is printed, and nothing depends on it.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections, router
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from celery.admin.overview.tiles import LIMIT
from celery.admin.paging import LISTED, LOOKED_THROUGH
from celery.broker import store
from tests.helpers import OneDatabase
from tests.mariadb import mariadb_database
from tests.shop.database_url import database_from

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS: Final = 1_000_000
#: MariaDB takes as long for these; each state still has more rows than one query may read.
ROWS_ON_MARIADB: Final = 600_000
ALIAS: Final = "admin_at_scale"
#: Rows, or entries of an index, that one query may read: its window, a look whether there is more, and some air.
MOST_READ: Final = 3 * LOOKED_THROUGH
#: Steps of SQLite's machine for one row that is read, tested and kept in between.
STEPS_A_ROW: Final = 10
PROGRESS: Final = 1_000
LAST_PAGE: Final = LISTED // 100

#: How each database counts up to a million, adds seconds to now, hashes, and makes text of a remainder.
NUMBERS: Final = {
    "sqlite": f"(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS}) SELECT n FROM s)",
    "postgresql": f"(SELECT n FROM generate_series(1, {ROWS}) AS s(n))",
    "mysql": f"(SELECT CAST(seq AS SIGNED) AS n FROM seq_1_to_{ROWS_ON_MARIADB})",
}
MOMENT: Final = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now', (SECONDS) || ' seconds')",
    "postgresql": "now() + (SECONDS) * interval '1 second'",
    "mysql": "now(6) + INTERVAL (SECONDS) SECOND",
}
HASH: Final = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "md5(n::text)", "mysql": "md5(n)"}
BODY: Final = {"sqlite": "CAST('{}' AS BLOB)", "postgresql": "'{}'::bytea", "mysql": "'{}'"}
WORD: Final = {
    "sqlite": "'WORD' || (n % COUNT)",
    "postgresql": "'WORD' || (n % COUNT)",
    "mysql": "concat('WORD', n % COUNT)",
}


@contextmanager
def sqlite(tmp_path_factory: pytest.TempPathFactory, _request: pytest.FixtureRequest) -> Iterator[str]:
    yield str(tmp_path_factory.mktemp("scale") / "scale.sqlite3")


@contextmanager
def postgresql(_: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """Make a database that sorts as people do: where an index on text is of no use to LIKE."""
    url: str = request.getfixturevalue("postgres_url")
    name = f"scale_{uuid.uuid4().hex}"
    with psycopg.connect(url.replace("postgres://", "postgresql://"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
        yield f"{url.rpartition('/')[0]}/{name}"
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def mariadb(_: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    with mariadb_database(request.getfixturevalue("mariadb_url"), "scale") as url:
        yield url


@pytest.fixture(
    scope="module",
    params=[
        sqlite,
        pytest.param(postgresql, marks=pytest.mark.postgres),
        pytest.param(mariadb, marks=pytest.mark.mariadb),
    ],
    ids=lambda made: made.__name__,
)
def admin_site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Client]:
    """A superuser's browser, on a project whose one database is full."""
    with request.param(tmp_path_factory, request) as url, django_db_blocker.unblock():
        connections.settings[ALIAS] = {**connections.settings["default"], **database_from(url)}
        routers, router.routers = router.routers, [OneDatabase(ALIAS)]
        store.of.cache_clear()  # the alias was a database of another kind before
        try:
            call_command("migrate", database=ALIAS, verbosity=0)
            fill()
            client = Client()
            client.force_login(get_user_model().objects.create_superuser("root"))
            yield client
        finally:
            router.routers = routers
            store.of.cache_clear()
            connections[ALIAS].close()
            del connections[ALIAS]
            del connections.settings[ALIAS]


def fill() -> None:
    """Put a million rows or so into each table. A third of the messages waits, a third is scheduled, a third dead."""
    vendor = connections[ALIAS].vendor
    task, queue = (WORD[vendor].replace("WORD", word) for word in ("shop.tasks.task", "queue"))
    number = ROWS_ON_MARIADB if vendor == "mysql" else ROWS
    past, future = (MOMENT[vendor].replace("SECONDS", seconds) for seconds in (f"n - {number}", "n"))
    task, queue = task.replace("COUNT", "10"), queue.replace("COUNT", "7")
    state = "CASE WHEN n % 20 = 0 THEN 'FAILURE' WHEN n % 50 = 1 THEN 'RETRY' ELSE 'DONE' END"
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(
            "INSERT INTO celery_taskmeta"
            " (task_id, name, status, attempt, result, traceback, worker, runtime, date_done)"
            f" SELECT {HASH[vendor]}, {task}, {state}, 1, '{{\"a\": 1}}', '', 'host.1', 0.5, {past}"
            f" FROM {NUMBERS[vendor]} AS numbers"
        )
        rank = "rank" if vendor != "mysql" else "`rank`"
        cursor.execute(
            f"INSERT INTO celery_message (task_id, attempt, task, queue, {rank}, body, headers, created_at, visible_at,"
            " owner, suspect, starts, crashes, dead_at, reason)"
            f" SELECT {HASH[vendor]}, 1, {task}, {queue}, 0, {BODY[vendor]}, '', {past},"
            f" CASE WHEN n % 3 = 1 THEN {future} END, CASE WHEN n % 3000 = 0 THEN 'owner' END, FALSE, 0, 0,"
            f" CASE WHEN n % 3 = 2 THEN {past} END, ''"
            f" FROM {NUMBERS[vendor]} AS numbers"
        )
        if vendor == "postgresql":  # what autovacuum would do in a while
            cursor.execute("VACUUM ANALYZE")
        if vendor == "mysql":
            cursor.execute("ANALYZE TABLE celery_message, celery_taskmeta")
            cursor.fetchall()


# -- what a page reads


def sqlite_reads(statement: str) -> float:
    """Return how many rows `statement` reads, by the steps that SQLite's machine takes for it."""
    calls = 0

    def count() -> int:
        nonlocal calls
        calls += 1
        return 0

    connection = connections[ALIAS].connection
    connection.set_progress_handler(count, PROGRESS)
    try:
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(statement)
            cursor.fetchall()
    finally:
        connection.set_progress_handler(None, 0)
    return calls * PROGRESS / STEPS_A_ROW


def postgresql_reads(statement: str) -> float:
    """Return how many rows the nodes of the plan read together; a plan that goes through a whole table reads it all."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        ((answer,),) = cursor.fetchall()
    found = json.loads(answer) if isinstance(answer, str) else answer
    return sum(_rows_of(node) for node in _nodes(found[0]["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def _rows_of(node: dict[str, Any]) -> float:
    if node["Node Type"] == "Seq Scan" and node["Relation Name"] in {"celery_message", "celery_taskmeta"}:
        return ROWS
    if "Scan" not in node["Node Type"] or node["Node Type"] == "Subquery Scan":
        return 0
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def mysql_reads(statement: str) -> float:
    """Return how many rows the handlers of the storage engine were asked for."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("FLUSH STATUS")
        cursor.execute(statement)
        cursor.fetchall()
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(float(value) for _, value in cursor.fetchall())


READS: Final[dict[str, Callable[[str], float]]] = {
    "sqlite": sqlite_reads,
    "postgresql": postgresql_reads,
    "mysql": mysql_reads,
}


def page(client: Client, model: str, **query: Any) -> tuple[Any, list[str]]:
    """Get a page and return it with the statements that made it."""
    started = time.perf_counter()
    with CaptureQueriesContext(connections[ALIAS]) as captured:
        answer = client.get(f"/admin/celery/{model}/?{urlencode(query)}")
    took = time.perf_counter() - started
    print(f"{connections[ALIAS].vendor:10} {took * 1000:7.0f} ms  {model} {query}")
    assert answer.status_code == 200
    return answer, [entry["sql"] for entry in captured.captured_queries if entry["sql"].startswith("SELECT")]


def assert_little_is_read(statements: list[str], *, most: float = MOST_READ) -> None:
    reads = READS[connections[ALIAS].vendor]
    for statement in statements:
        read = reads(statement)
        assert read <= most, f"{read:,.0f} rows are read by {statement:.1500}"


def some(model: str, column: str) -> str:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM celery_{model} WHERE id = 500000")
        ((value,),) = cursor.fetchall()
    return str(value)


# -- the tests


STATES: Final = ("waiting", "scheduled", "taken", "relayed", "dead")
MESSAGES: Final[list[dict[str, Any]]] = [
    {},
    *({"state": state} for state in STATES),
    *({"state": state, "p": LAST_PAGE} for state in ("waiting", "scheduled", "dead")),
    *({"state": state, "queue": "queue3"} for state in STATES),
    *({"state": state, "queue": "nobody's"} for state in STATES),
    *({"state": state, "task": "nobody's"} for state in STATES),
    *({"state": state, "since": 1} for state in STATES),
    *({"state": state, "worker": "owner"} for state in STATES),
    *({"state": state, "q": "shop.tasks.task4"} for state in STATES),
    *({"state": state, "queue": "queue3", "task": "shop.tasks.task4", "since": 168} for state in STATES),
    {"p": LAST_PAGE},
    {"queue": "queue3"},
    {"queue": "nobody's"},
    {"task": "shop.tasks.task4", "p": 50},
    {"task": "nobody's"},
    {"worker": "owner"},
    {"worker": "nobody's"},
    {"since": 1},
    {"since": 168, "p": LAST_PAGE},
    {"q": "shop.tasks.task4"},
    {"q": "shop.tasks."},
    {"q": "zzz"},
    {"q": "a"},
    {"q": "9"},
    {"q": "-"},
    {"q": "a", "state": "dead", "queue": "queue3"},
    {"q": "a", "queue": "nobody's"},
]
RESULTS: Final[list[dict[str, Any]]] = [
    {},
    {"p": LAST_PAGE},
    *({"state": state} for state in ("DONE", "FAILURE", "RETRY", "PENDING")),
    *({"state": state, "p": LAST_PAGE} for state in ("DONE", "FAILURE")),
    *({"state": state, "task": "shop.tasks.task4"} for state in ("DONE", "FAILURE", "RETRY", "PENDING")),
    *({"state": state, "task": "nobody's"} for state in ("DONE", "FAILURE")),
    *({"state": state, "since": 24} for state in ("DONE", "FAILURE")),
    {"task": "shop.tasks.task4"},
    {"task": "shop.tasks.task4", "p": LAST_PAGE},
    {"task": "shop.tasks.task4", "since": 168},
    {"task": "shop.tasks.task4", "since": 1, "state": "DONE"},
    {"task": "shop.tasks.task4", "since": 168, "worker": "nobody's"},
    {"task": "nobody's"},
    {"worker": "host.1"},
    {"worker": "nobody's"},
    {"worker": "nobody's", "state": "FAILURE", "task": "shop.tasks.task4", "since": 168},
    {"since": 1},
    {"since": 168},
    {"q": "shop.tasks.task4"},
    {"q": "shop.tasks."},
    {"q": "shop.tasks.", "state": "PENDING"},
    {"q": "zzz"},
    {"q": "a"},
    {"q": "a", "p": LAST_PAGE},
    {"q": "9", "worker": "nobody's"},
    {"q": "-"},
]


@pytest.mark.parametrize("query", MESSAGES, ids=str)
def test_a_list_of_messages_reads_little(admin_site: Client, query: dict[str, Any]) -> None:
    _, statements = page(admin_site, "message", **query)

    assert_little_is_read(statements)


@pytest.mark.parametrize("query", RESULTS, ids=str)
def test_a_list_of_results_reads_little(admin_site: Client, query: dict[str, Any]) -> None:
    _, statements = page(admin_site, "taskmeta", **query)

    assert_little_is_read(statements)


@pytest.mark.parametrize("model", ["message", "taskmeta"])
@pytest.mark.parametrize("length", [32, 20, 5])
def test_a_task_is_found_by_its_id_or_the_beginning_of_it(admin_site: Client, model: str, length: int) -> None:
    task_id = some(model, "task_id")

    answer, statements = page(admin_site, model, q=task_id[:length])

    assert task_id in {row.task_id for row in answer.context["cl"].result_list}
    assert_little_is_read(statements)


@pytest.mark.parametrize("model", ["message", "taskmeta", "worker", "periodictaskmeta"])
def test_the_pages_of_one_row_and_of_its_history_read_little(admin_site: Client, model: str) -> None:
    if model in {"message", "taskmeta"}:
        _, statements = page(admin_site, f"{model}/500000/change")
        _, of_history = page(admin_site, f"{model}/500000/history")
    else:
        (_, statements), of_history = page(admin_site, model), []

    assert_little_is_read(statements + of_history)


@pytest.mark.parametrize("asked", ["1h", "24h", "7d"])
def test_the_overview_reads_little(admin_site: Client, asked: str) -> None:
    _, statements = page(admin_site, "overview", range=asked)

    assert_little_is_read(statements, most=3 * LIMIT)  # MariaDB writes down what it counts, and reads it again


def test_a_list_is_in_the_order_of_its_index(admin_site: Client) -> None:
    def shown(column: str, **query: Any) -> list[Any]:
        answer, _ = page(admin_site, "message", **query)
        return [getattr(row, column) for row in answer.context["cl"].result_list]

    for query in ({}, {"queue": "queue3"}, {"q": "shop.tasks.task4"}):
        assert shown("pk", **query) == sorted(shown("pk", **query), reverse=True)
    for query in ({"state": "scheduled"}, {"state": "scheduled", "queue": "queue3"}):
        assert shown("visible_at", **query) == sorted(shown("visible_at", **query))
    for query in ({"state": "dead"}, {"state": "dead", "task": "shop.tasks.task5"}):
        assert shown("dead_at", **query) == sorted(shown("dead_at", **query), reverse=True)


def test_acting_on_all_acts_on_those_that_are_listed(admin_site: Client) -> None:
    chosen = {"action": "run_now", "select_across": "1", "index": "0", "_selected_action": "1"}

    started = time.perf_counter()
    answer = admin_site.post("/admin/celery/message/?state=scheduled&queue=queue6", chosen, follow=True)
    print(f"{connections[ALIAS].vendor:10} {(time.perf_counter() - started) * 1000:7.0f} ms  run_now of all listed")

    (said, *_) = [str(message) for message in answer.context["messages"]]
    number = int(said.replace(",", "").partition(" ")[0])
    assert said.endswith(" messages made ready.")
    assert LOOKED_THROUGH // 7 - 1 <= number <= LOOKED_THROUGH // 7 + 1


def test_the_measure_finds_what_reads_a_whole_table(admin_site: Client) -> None:
    reads = READS[connections[ALIAS].vendor]

    assert reads("SELECT count(*) FROM celery_message WHERE reason = 'x'") > MOST_READ
    assert reads("SELECT id FROM celery_taskmeta ORDER BY runtime LIMIT 1") > MOST_READ
