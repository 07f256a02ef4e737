"""PostgreSQL by psycopg: the rows of our side, in a database in which our migrations have run."""

import json
import multiprocessing
import select
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg

from benchmarks.raw.command import TASK, TURN, Order, call, count_together, pages, rate, rates_in_turns, run, seconds

MESSAGES = (
    *("task_id", "attempt", "task", "queue", "rank", "body", "headers", "created_at"),
    *("visible_at", "owner", "suspect", "starts", "crashes", "dead_at", "reason"),
)
RESULTS = ("task_id", "name", "status", "attempt", "result", "traceback", "worker", "runtime", "date_done")
QUEUE, OWNER = "bench_raw", "raw"
NAMES = ", ".join(MESSAGES)
PLACES = ", ".join(["%s"] * len(MESSAGES))
INSERT = f"INSERT INTO celery_message ({NAMES}) VALUES ({PLACES})"
INSERT_AND_NOTIFY = f"WITH new AS ({INSERT}) SELECT pg_notify('bench_raw', '')"
INSERT_GROUP = (
    f"INSERT INTO celery_message ({NAMES}) SELECT {NAMES} FROM json_populate_recordset(NULL::celery_message, %s)"
)
COPY = f"COPY celery_message ({NAMES}) FROM STDIN"
FIELDS = ", ".join(RESULTS)
CHANGES = ", ".join(f"{name} = excluded.{name}" for name in RESULTS[1:])
UPSERT = (
    f"INSERT INTO celery_taskmeta ({FIELDS}) SELECT {FIELDS} FROM json_populate_recordset(NULL::celery_taskmeta, %s)"
    f" ON CONFLICT (task_id) DO UPDATE SET {CHANGES} WHERE celery_taskmeta.attempt < excluded.attempt"
)
#: One statement, and so one way to the server and one commit.
FINISH = (
    "WITH gone AS (DELETE FROM celery_message WHERE id = ANY (%s) AND (owner = %s) IS TRUE RETURNING id),"
    f" kept AS ({UPSERT} RETURNING task_id) SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM kept)"
)
SELECT = f"SELECT {FIELDS} FROM celery_taskmeta WHERE task_id = %s"


def insert_one_by_one(order: Order) -> dict[str, Any]:
    """One row a commit: ready rows, by a statement that is prepared and one that is not, and rows to be made."""
    count = order["count"]
    with connect(order) as found:
        found.execute(INSERT, row(0), prepare=True)
        rows = iter([row(number) for number in range(2 * (count + TURN))])
        rates = rates_in_turns(
            count,
            prepared=lambda: found.execute(INSERT, next(rows), prepare=True),
            plain=lambda: found.execute(INSERT, next(rows), prepare=False),
            made=lambda: found.execute(INSERT, row(1), prepare=True),
        )
        _forget(found)
    return {"rate": max(rates["prepared"], rates["plain"])} | rates


def insert_groups(order: Order) -> dict[str, Any]:
    """Groups of rows, a commit each: by an INSERT that gets them as one parameter, and by COPY, which can do less."""
    with connect(order) as found:
        groups = pages([row(number) for number in range(order["count"])], order["group"])
        inserted = rate(
            order["count"], lambda: [found.execute(INSERT_GROUP, [as_json(group)], prepare=True) for group in groups]
        )
        _forget(found)
        copied = rate(order["count"], lambda: _copy_all(found, groups))
        _forget(found)
    return {"rate": inserted["rate"], "copy": copied["rate"]}


def _copy_all(found: Any, groups: Sequence[Any]) -> None:
    for group in groups:
        with found.cursor() as cursor, cursor.copy(COPY) as copy:
            for one in group:
                copy.write_row(one)


def finish(order: Order) -> dict[str, Any]:
    """Upsert results and delete the rows of their messages, a group a commit, on so many connections at once."""
    with connect(order) as found:
        found.execute(INSERT_GROUP, [as_json([row(number, owner=OWNER) for number in range(order["count"])])])
        taken = found.execute("SELECT id, task_id FROM celery_message WHERE owner = %s ORDER BY id", [OWNER]).fetchall()
        found.execute("VACUUM (ANALYZE) celery_message")
    share = -(-len(taken) // order["connections"])
    spans = _at_once(order, [pages(part, order["group"]) for part in pages(taken, share)])
    with connect(order) as found:
        left = found.execute("SELECT count(*) FROM celery_message WHERE owner = %s", [OWNER]).fetchone()
        _forget(found)
    if left != (0,):
        raise RuntimeError(f"{left} messages were not deleted")
    return {"rate": len(taken) / (max(end for _, end in spans) - min(began for began, _ in spans))}


def _at_once(order: Order, shares: Sequence[Any]) -> list[tuple[float, float]]:
    """Have each share written by a process of its own; when each began and ended."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(len(shares)), context.SimpleQueue()
    processes = [context.Process(target=_finish_all, args=(order, share, barrier, answers)) for share in shares]
    for process in processes:
        process.start()
    spans = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return spans


def _finish_all(order: Order, groups: Any, barrier: Any, answers: Any) -> None:
    with connect(order) as found:
        barrier.wait()
        began = time.monotonic()
        for group in groups:
            ids, task_ids = zip(*group, strict=True)
            found.execute(FINISH, [list(ids), OWNER, results(task_ids)], prepare=True)
        answers.put((began, time.monotonic()))


def hops(order: Order) -> dict[str, Any]:
    """Medians of what a round trip is made of: an upsert, a look for a result, an INSERT that wakes a listener."""
    with connect(order) as found, connect(order) as listener:
        ids = [str(uuid.uuid4()) for _ in range(order["count"])]
        listener.execute("LISTEN bench_raw")
        upserts = [seconds(partial(found.execute, UPSERT, [results([one])], prepare=True)) for one in ids]
        selects = [seconds(partial(_look, found, one)) for one in ids]
        wakes = [seconds(partial(_wake, found, listener, number)) for number in range(order["count"])]
        _forget(found)
    return {
        name: statistics.median(times) for name, times in (("upsert", upserts), ("select", selects), ("wake", wakes))
    }


def _look(found: Any, task_id: str) -> None:
    found.execute(SELECT, [task_id], prepare=True).fetchone()


def _wake(found: Any, listener: Any, number: int) -> None:
    found.execute(INSERT_AND_NOTIFY, row(number), prepare=True)
    while True:
        listener.pgconn.consume_input()
        if listener.pgconn.notifies():
            return
        select.select([listener], [], [])


def insert_together(order: Order) -> dict[str, Any]:
    """INSERT one row a commit for some seconds, beside others who do the same; with NOTIFY or without."""
    statement = INSERT_AND_NOTIFY if order["notify"] else INSERT
    with connect(order) as found:
        insert: Callable[[], Any] = lambda: found.execute(statement, row(0), prepare=True)  # noqa: E731 - it is counted
        insert()
        return count_together(insert)


def row(number: int, owner: str | None = None) -> tuple[Any, ...]:
    """A message as `delay` stores it."""
    one = call(number)
    return (one.task_id, 1, TASK, QUEUE, 0, one.body, "", datetime.now(UTC), None, owner, False, 0, 0, None, "")


def as_json(rows: Sequence[Any]) -> str:
    return json.dumps([dict(zip(MESSAGES, one, strict=True)) for one in rows], default=_text)


def results(task_ids: Sequence[str]) -> str:
    """Results of these tasks as our side stores them."""
    now = datetime.now(UTC).isoformat()
    rest = (TASK, "DONE", 1, "7", "", "celery@bench", 0.00001, now)
    return json.dumps([dict(zip(RESULTS, (one, *rest), strict=True)) for one in task_ids])


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else f"\\x{value.hex()}"


def connect(order: Order) -> Any:
    return psycopg.connect(**order["connect"], autocommit=True)


def _forget(found: Any) -> None:
    found.execute("TRUNCATE celery_message, celery_taskmeta")


if __name__ == "__main__":
    run((insert_one_by_one, insert_groups, finish, hops, insert_together))
