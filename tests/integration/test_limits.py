"""Tasks that run too long, and children that have run too much."""

import contextlib
import signal

import pytest

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.shop import ledger, tasks

SOON = 15.0
LARGE = 200  # MiB, far above what a child of this project needs


def test_a_task_beyond_its_time_limit_is_killed_has_failed_and_costs_others_nothing(place: Place) -> None:
    # given
    with WorkerProcess(place, children=1) as worker:
        (child,) = worker.children

        # when
        overdue = oddities.hold_briefly.delay(place.ledger, "overdue")
        behind = [tasks.record.delay(place.ledger, f"behind {number}") for number in range(5)]

        # then
        with pytest.raises(TimeLimitExceeded, match=r"oddities\.hold_briefly ran longer than its time limit"):
            overdue.get(timeout=SOON)
        assert [result.get(timeout=SOON) for result in behind] == [f"behind {number}" for number in range(5)]
        eventually(lambda: not child.is_alive())
        assert worker.said("ended as FAILURE: TimeLimitExceeded") == 1
        assert not worker.said(f"The child with pid {child.pid} died")

    counted = place.executions()
    assert counted.pop("overdue") == 1
    assert set(counted.values()) == {1}
    assert place.dead() == []
    eventually(lambda: not place.messages())
    eventually(lambda: not place.waiting())


def test_what_runs_at_most_once_has_failed_by_its_time_limit_too(place: Place) -> None:
    with WorkerProcess(place), pytest.raises(TimeLimitExceeded):
        oddities.hold_briefly_once.delay(place.ledger, "once").get(timeout=SOON)

    assert place.executions() == {"once": 1}


def test_the_soft_limit_lets_a_task_end_well(place: Place) -> None:
    with WorkerProcess(place, children=1) as worker:
        assert oddities.tidy_up.delay(place.ledger, "soft").get(timeout=SOON) == "tidy"
        assert oddities.pid.delay().get(timeout=SOON) == worker.children[0].pid


def test_the_limits_of_the_worker_hold_for_tasks_that_have_none(sqlite_place: Place) -> None:
    # given
    settings = {"CELERYD_TASK_TIME_LIMIT": 1, "CELERYD_TASK_SOFT_TIME_LIMIT": 0.2}
    gate = str(sqlite_place.folder / "never")

    with WorkerProcess(sqlite_place, settings=settings):
        # when
        interrupted = oddities.hold.delay(sqlite_place.ledger, "interrupted", gate)

        # then
        with pytest.raises(SoftTimeLimitExceeded, match=r"soft time limit of 0\.2 s"):
            interrupted.get(timeout=SOON)


def test_a_time_limit_ends_a_task_while_the_worker_drains(place: Place) -> None:
    # given
    with WorkerProcess(place) as worker:
        overdue = oddities.hold_briefly.delay(place.ledger, "overdue")
        eventually(lambda: place.was_executed("overdue"), within=SOON)

        # when
        worker.send(signal.SIGTERM)

        # then
        assert worker.wait() == 0
    with pytest.raises(TimeLimitExceeded):
        overdue.get(timeout=1)
    assert place.executions() == {"overdue": 1}


def test_a_child_is_replaced_after_so_many_tasks_and_none_is_lost_or_run_twice(place: Place) -> None:
    # given
    number = 200
    with WorkerProcess(place, children=2, settings={"CELERYD_MAX_TASKS_PER_CHILD": 10}) as worker:
        # when
        results = tasks.record.delay_many((place.ledger, f"task {one}") for one in range(number))

        # then
        assert len([result.get(timeout=30) for result in results]) == number
        assert not worker.said("died")
    pids = [pid for _, pid in ledger.entries(place.ledger)]
    assert len(pids) == number
    assert max(pids.count(pid) for pid in set(pids)) == 10


def test_a_child_that_has_grown_too_large_is_replaced_after_its_task(place: Place) -> None:
    # given
    settings = {"CELERYD_MAX_MEMORY_PER_CHILD": LARGE * 1024}
    with WorkerProcess(place, children=1, settings=settings) as worker:
        lean = oddities.pid.delay().get(timeout=SOON)

        # when
        eater = oddities.eat.delay(LARGE).get(timeout=SOON)

        # then
        assert eater == lean
        assert eventually(lambda: oddities.pid.delay().get(timeout=SOON) != eater)
        assert worker.said("A child is replaced: it holds")
        assert not worker.said("died")


@pytest.mark.parametrize("catches", [False, True])
@pytest.mark.parametrize(
    "place",
    [pytest.param("postgresql", marks=pytest.mark.postgres), pytest.param("mariadb", marks=pytest.mark.mariadb)],
    indirect=True,
)
def test_a_query_that_the_soft_limit_interrupts_costs_the_next_task_nothing(place: Place, catches: bool) -> None:
    with WorkerProcess(place, children=1) as worker:
        # given
        with contextlib.suppress(SoftTimeLimitExceeded):
            oddities.rest_in_database.delay(catches).get(timeout=SOON)

        # when, then
        assert oddities.create_order.delay("next").get(timeout=SOON) is False
        assert worker.said("lost its process") == 0


def test_a_copy_of_a_task_takes_no_time_limit_away(sqlite_place: Place) -> None:
    with WorkerProcess(sqlite_place), pytest.raises(TimeLimitExceeded):
        oddities.leave_a_copy.delay(sqlite_place.ledger, "copied").get(timeout=SOON)
