"""A queue shared with PyPI's Celery 5.7: its tasks run here, and ours run there."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.helpers import eventually
from tests.interop.sides import Ours, Sent, Theirs, depth, executions
from tests.interop.theirs.calls import CALLS, LATER, NEVER, PAUSE, RUN, described

pytestmark = [pytest.mark.rabbitmq, pytest.mark.postgres]

WITHIN = 15.0
ELSEWHERE = "interop-elsewhere"


def assert_each_ran_once_as_sent(folder: Path, sent: dict[str, Sent]) -> None:
    ran = executions(folder)
    assert Counter(run["token"] for run in ran) == Counter(RUN)
    for run in ran:
        args, kwargs = CALLS[run["token"]]
        assert (run["args"], run["kwargs"]) == (described(args), described(kwargs))
        assert run["token"] not in LATER or run["at"] >= sent[run["token"]].at + PAUSE


def has_run(folder: Path, count: int) -> bool:
    assert len(executions(folder)) >= count
    return True


def all_results(ours: Ours, sent: dict[str, Sent]) -> dict[str, tuple[Any, ...]]:
    """Return token -> (state, task name, result); fail while a call has none."""
    tokens = {call.task_id: token for token, call in sent.items()}
    with psycopg.connect(ours.database) as connection:
        rows = connection.execute("SELECT task_id, status, name, result FROM celery_taskmeta").fetchall()
    found = {tokens[task_id]: tuple(fields) for task_id, *fields in rows if task_id in tokens}
    assert found.keys() == sent.keys()
    return found


@pytest.mark.parametrize("protocol", [1, 2])
def test_our_worker_runs_what_their_producer_sends(protocol: int, ours: Ours, theirs: Theirs) -> None:
    producer = replace(theirs, protocol=protocol)

    with ours.worker() as worker:
        sent = producer.send(*CALLS)
        found = eventually(lambda: all_results(ours, sent), within=WITHIN)
        assert worker.stop() == 0

    assert_each_ran_once_as_sent(ours.folder, sent)
    assert {token: (state, name) for token, (state, name, _) in found.items()} == {
        token: ("FAILURE" if token in NEVER else "DONE", "interop.echo") for token in CALLS
    }
    assert "TaskExpired" in found["stale"][2]
    assert depth(ours.broker) == 0


def test_their_worker_runs_what_our_producer_sends(ours: Ours, theirs: Theirs) -> None:
    with theirs.worker(), ours.worker(ELSEWHERE) as scheduler:
        sent = ours.send(*CALLS)
        eventually(lambda: has_run(ours.folder, len(RUN)), within=WITHIN)
        assert scheduler.stop() == 0

    assert_each_ran_once_as_sent(ours.folder, sent)
    assert depth(ours.broker) == 0


def test_our_worker_takes_over_a_queue_that_they_declared(ours: Ours, theirs: Theirs) -> None:
    sent = theirs.send("plain") | ours.send("named")
    assert depth(ours.broker) == 2

    with ours.worker() as worker:
        eventually(lambda: all_results(ours, sent), within=WITHIN)
        assert worker.stop() == 0

    assert {run["token"] for run in executions(ours.folder)} == {"plain", "named"}
    assert "PRECONDITION_FAILED" not in worker.last_words()


def test_their_worker_takes_over_a_queue_that_we_declared(ours: Ours, theirs: Theirs) -> None:
    ours.send("plain")
    theirs.send("named")
    assert depth(ours.broker) == 2

    with theirs.worker():
        eventually(lambda: has_run(ours.folder, 2), within=WITHIN)

    assert {run["token"] for run in executions(ours.folder)} == {"plain", "named"}
    assert "PRECONDITION_FAILED" not in (ours.folder / "theirs.log").read_text()
