"""Three real workers, one of which is killed: each due moment is sent once, counted from the append-only file."""

import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from statistics import median

import pytest

from celery.backends.periodic import NAMESPACE
from celery.models import PeriodicTaskMeta
from celery.schedules import Schedule, crontab, every
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.shop import ledger
from tests.shop.settings import INSTALLED_APPS

MINUTE = "timely.minute"
SECOND = "timely.second"
SCHEDULES: dict[str, Schedule] = {MINUTE: crontab("* * * * *", timezone="UTC"), SECOND: every(1)}
SOON = 10.0
#: The first worker sends while the others are still starting.
BEFORE = timedelta(minutes=2)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A line of the ledger."""

    name: str
    task_id: str
    at: datetime
    pid: int


def executions(place: Place) -> list[Execution]:
    lines = [(token.split("/"), pid) for token, pid in ledger.entries(place.ledger)]
    return [
        Execution(name=name, task_id=task_id, at=datetime.fromtimestamp(float(at), UTC), pid=pid)
        for (name, task_id, at), pid in lines
    ]


def last(name: str) -> datetime:
    """Return the last due moment, or when the row was made."""
    found: datetime = PeriodicTaskMeta.objects.get(name=name).last_run_at
    return found


def due_between(name: str, start: datetime, end: datetime) -> list[datetime]:
    """Return the due moments after `start`, up to `end`."""

    def moments() -> Iterator[datetime]:
        moment = start
        while True:
            yield (moment := SCHEDULES[name].following(moment))

    return list(takewhile(lambda moment: moment <= end, moments()))


def moments_by_id(name: str, moments: list[datetime]) -> dict[str, datetime]:
    """Return the moment that each id which can be stands for."""
    counts = range(PeriodicTaskMeta.objects.get(name=name).total_run_count + 1)
    return {
        str(uuid.uuid5(NAMESPACE, f"{name} {moment.isoformat()} {count}")): moment
        for moment in moments
        for count in counts
    }


def worker_of(place: Place, name: str) -> WorkerProcess:
    settings = {
        "CELERYD_BEAT": True,
        "CELERYD_LEASE": 3,
        "INSTALLED_APPS": [*INSTALLED_APPS, "tests.integration.timely"],
        "TIMELY_LEDGER": place.ledger,
    }
    return WorkerProcess(place, name=name, children=1, settings=settings)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(360)
def test_three_workers_send_each_due_moment_once_although_one_is_killed(postgres_place: Place) -> None:
    place = postgres_place
    with ExitStack() as stack:
        # given
        workers = [stack.enter_context(worker_of(place, f"worker-{number}")) for number in range(3)]
        eventually(lambda: PeriodicTaskMeta.objects.filter(name__in=[MINUTE, SECOND]).count() == 2, within=SOON)
        begin = {name: last(name) for name in SCHEDULES}
        half, end = (begin[SECOND] + timedelta(seconds=seconds) for seconds in (65, 130))

        # when
        eventually(lambda: last(SECOND) >= half, within=100)
        killed = {child.pid for child in workers[1].children}
        workers[1].send(signal.SIGKILL)
        eventually(lambda: last(SECOND) >= end, within=100)

        # then
        for worker in (workers[0], workers[2]):
            worker.send(signal.SIGTERM)
            worker.wait()
    for name in SCHEDULES:
        assert_sent_once(place, name, begin[name], killed)


def assert_sent_once(place: Place, name: str, begin: datetime, killed: set[int]) -> None:
    """Fail if a moment was sent twice, or ran twice though its child lived, or was left out."""
    due = due_between(name, begin, last(name))
    stands_for = moments_by_id(name, [*due_between(name, begin - BEFORE, begin), *due])
    ran = [one for one in executions(place) if one.name == name and stands_for[one.task_id] > begin]
    waiting = {row.task_id for row in place.messages() if row.task == name} - {one.task_id for one in ran}
    sent = Counter(stands_for[task_id] for task_id in {one.task_id for one in ran} | waiting)
    doubled = [task_id for task_id, count in Counter(one.task_id for one in ran).items() if count > 1]
    late = [(one.at - stands_for[one.task_id]).total_seconds() for one in ran]
    print(
        f"{name}: {len(due)} due, {len(sent)} sent, {len(ran)} executions of {len({one.task_id for one in ran})}, "
        f"{len(doubled)} of them twice; late by {median(late):.3f} s (median), {max(late):.3f} s (most)"
    )

    assert set(sent.values()) == {1}, "a moment was sent under two ids"
    for task_id in doubled:  # it died between running it and storing that
        assert next(one.pid for one in ran if one.task_id == task_id) in killed
    # Where no steward gets a processor for a second, two moments of the shorter interval become one.
    left_out = set(due) - set(sent)
    assert len(left_out) <= (len(due) // 10 if name == SECOND else 0), sorted(left_out)
    assert set(sent) <= set(due)


def test_a_worker_that_is_told_so_sends_no_periodic_tasks(sqlite_place: Place) -> None:
    settings = {"CELERYD_BEAT": True}
    with WorkerProcess(sqlite_place, options=["--no-beat"], settings=settings) as worker:
        worker.send(signal.SIGTERM)
        worker.wait()

    assert not PeriodicTaskMeta.objects.exists()


def test_a_worker_sends_the_tasks_that_are_new_at_once(place: Place) -> None:
    with WorkerProcess(place, settings={"CELERYD_BEAT": True}):
        eventually(lambda: [row.name for row in place.results().values()], within=SOON)

    (result,) = place.results().values()
    assert (result.name, result.status) == ("celery.delete_expired_task_meta", "DONE")
    assert PeriodicTaskMeta.objects.get(name=result.name).last_task_id == result.task_id
