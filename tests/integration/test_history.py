"""What a real celeryd writes into the history, and that it agrees with what it did."""

import signal
from typing import Any

import pytest
from django.db.models import Sum

from celery.models import QueueDepth, Throughput
from tests.helpers import eventually
from tests.integration.conftest import PLACES
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.shop import tasks

SOON = 20.0


def totals() -> tuple[int, int, int]:
    sums = Throughput.objects.aggregate(done=Sum("done"), failed=Sum("failed"), retried=Sum("retried"))
    return sums["done"] or 0, sums["failed"] or 0, sums["retried"] or 0


@pytest.mark.parametrize("place", [PLACES[0], PLACES[2]], indirect=True)
def test_a_worker_that_lived_for_seconds_has_counted_everything(place: Place) -> None:
    # given
    with WorkerProcess(place) as worker:
        results: list[Any] = [tasks.add.delay(number, 1) for number in range(42)]
        results += [tasks.fail.delay("no more milk") for _ in range(5)]
        results += [tasks.record_and_retry.delay(place.ledger, f"retry {number}", 1) for number in range(3)]
        eventually(lambda: all(result.ready() for result in results), within=SOON)

        # when
        worker.stop()

    # then
    assert totals() == (45, 5, 3)
    assert set(Throughput.objects.values_list("worker", flat=True)) == {"worker"}
    stored = sum(row.runtime or 0.0 for row in place.results().values())
    counted = Throughput.objects.aggregate(runtime=Sum("runtime"))["runtime"]
    assert counted >= stored * 0.999


@pytest.mark.parametrize("place", [PLACES[0]], indirect=True)
def test_a_dead_steward_takes_no_count_along_and_leaves_none_twice(place: Place) -> None:
    # given
    with WorkerProcess(place) as worker:
        first = [tasks.add.delay(number, 1) for number in range(7)]
        eventually(lambda: all(result.ready() for result in first), within=SOON)

        # when
        worker.steward.send(signal.SIGKILL)
        eventually(lambda: totals()[0] == 7, within=SOON)  # the next one writes what it finds
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2
        worker.stop()

    # then
    assert totals() == (8, 0, 0)


@pytest.mark.parametrize("place", [PLACES[0], PLACES[2]], indirect=True)
def test_two_workers_on_one_queue_take_one_sample_a_minute(place: Place) -> None:
    # when
    with WorkerProcess(place, name="one", children=1) as one, WorkerProcess(place, name="two", children=1) as two:
        eventually(QueueDepth.objects.exists, within=SOON)
        one.stop()
        two.stop()

    # then
    minutes = list(QueueDepth.objects.values_list("at", flat=True))
    assert len(minutes) == len(set(minutes))
    assert all(minute.second == minute.microsecond == 0 for minute in minutes)
    assert {row.queue for row in QueueDepth.objects.all()} == {place.queue}
