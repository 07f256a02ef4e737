"""The history on each database: one row or sample whoever writes it, sums in buckets, by indexes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.db.models import QuerySet
from pytest_django import Settings

from celery import broker, history, states, status
from celery.broker import store
from celery.broker.store import depths
from celery.broker.store.base import Store
from celery.history import Depth, Minute
from celery.message import Message
from celery.models import QueueDepth, TaskMeta, Throughput
from celery.worker.slots import Slots
from celery.worker.tally import KEPT_FOR, Tally
from tests.helpers import close_connections

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
#: What each database says of a scan of a whole table.
WHOLE_TABLE = {"sqlite": "SCAN celery", "postgresql": "Seq Scan", "mysql": '"access_type": "ALL"'}


@pytest.fixture(params=[True, False], ids=["aware", "naive"])
def use_tz(request: pytest.FixtureRequest, settings: Settings, alias: str) -> bool:
    """With and without USE_TZ; without it the time is that of Kathmandu, which is odd by a quarter of an hour."""
    settings.USE_TZ = request.param
    settings.TIME_ZONE = "UTC" if request.param else "Asia/Kathmandu"
    connections[alias].close()  # its time zone was set when it was opened
    return bool(request.param)


def tally(slots: Slots, moment: datetime, *queues: str) -> Tally:
    return Tally(broker.current(), "w@host", queues or ("celery",), slots, moment.timestamp)


def insert(kept: Store, number: int, **fields: Any) -> None:
    row = {"task": "shop.add", "body": b"{}", "queue": "celery"} | fields
    first = kept.rows("SELECT COUNT(*) FROM celery_message", [])[0][0]
    kept.insert([Message(task_id=f"id {first + index}", **row) for index in range(number)])


@pytest.mark.usefixtures("use_tz")
def test_what_the_worker_writes_is_what_is_told(alias: str, kept: Store) -> None:
    # given
    slots = Slots(2)
    for minute in (1, 2, 5):
        slots.count(0, states.DONE, 0.5)
        slots.count(1, states.DONE, 0.25)
        slots.count(1, states.FAILURE, 0.0)
        insert(kept, 2)
        tally(slots, NOON + minute * MINUTE).step()
    slots.count(1, states.RETRY, 0.0)
    tally(slots, NOON + 5 * MINUTE + timedelta(seconds=20)).finish()

    # when
    minutes = history.throughput(minutes=6, until=NOON + 6 * MINUTE)
    (line,) = history.depths(minutes=6, until=NOON + 6 * MINUTE).values()

    # then
    expected = {0: (2, 1, 0, 0.75), 1: (2, 1, 0, 0.75), 4: (2, 1, 0, 0.75), 5: (0, 0, 1, 0.0)}
    assert minutes == [
        Minute(at=NOON + number * MINUTE, done=done, failed=failed, retried=retried, runtime=runtime)
        for number in range(6)
        for done, failed, retried, runtime in [expected.get(number, (0, 0, 0, 0.0))]
    ]
    assert [(each.at, each.depth) for each in line] == [
        (NOON + number * MINUTE, {1: 2, 2: 4, 5: 6}.get(number)) for number in range(6)
    ]


@pytest.mark.usefixtures("use_tz")
@pytest.mark.parametrize("minutes", [360, 1440, 10080])
def test_the_database_puts_wide_buckets_together(alias: str, minutes: int) -> None:
    # given
    slots = Slots(1)
    wide = history.width(minutes)
    for moment in (NOON, NOON - timedelta(seconds=1), NOON - wide, NOON - minutes * MINUTE + timedelta(seconds=1)):
        slots.count(0, states.DONE, 0.5)
        tally(slots, moment).finish()
        tally(slots, moment).step()

    # when
    buckets = history.throughput(minutes=minutes, until=NOON)
    (line,) = history.depths(minutes=minutes, until=NOON).values()

    # then
    assert [bucket.done for bucket in buckets] == [1, *[0] * (len(buckets) - 3), 1, 2]
    assert line[-1] == Depth(at=NOON - wide, depth=0)
    assert line[0].depth == 0
    assert {each.depth for each in line[1:-2]} <= {None, 0}


def test_more_queues_than_are_told_one_by_one_are_added_up(alias: str) -> None:
    tally(Slots(1), NOON, *(f"q{number:02}" for number in range(23))).step()
    QueueDepth.objects.filter(queue__in=["q00", "q22"]).update(depth=5)

    lines = history.depths(until=NOON + MINUTE)

    assert (len(lines), lines["q00"][-1].depth, lines["q22"][-1].depth) == (21, 5, 5)
    assert lines["others"][-1] == Depth(at=NOON, depth=0)


def test_of_many_workers_one_takes_the_sample(alias: str) -> None:
    # given
    together = Barrier(4)

    def sample(_: int) -> None:
        try:
            worker = tally(Slots(1), NOON, "celery", "mail")
            together.wait(timeout=30)
            worker.step()
        finally:
            close_connections()

    # when
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sample, range(4)))

    # then
    assert sorted(QueueDepth.objects.values_list("queue", flat=True)) == ["celery", "mail"]


def test_names_that_differ_in_case_are_two_queues(alias: str) -> None:
    tally(Slots(1), NOON, "celery", "Celery", "celery ").step()

    assert QueueDepth.objects.count() == 3


def test_what_is_old_goes_and_the_rest_stays(alias: str) -> None:
    # given
    old, young = Slots(1), Slots(1)
    for slots, moment in ((old, NOON - KEPT_FOR - MINUTE), (young, NOON - KEPT_FOR + MINUTE)):
        slots.count(0, states.DONE, 0.5)
        tally(slots, moment).step()

    # when
    tally(Slots(1), NOON).step()

    # then
    assert Throughput.objects.count() == 1
    assert QueueDepth.objects.count() == 2


class TestDepth:
    def test_it_is_counted_up_to_the_limit(self, kept: Store) -> None:
        insert(kept, 7)
        insert(kept, 1, queue="mail")
        insert(kept, 1, visible_at=datetime.now(UTC) + timedelta(hours=1))

        assert [depths.ready(kept, "celery", limit=limit)[0] for limit in (3, 7, 100)] == [3, 7, 7]
        assert depths.ready(kept, "nowhere", limit=3) == (0, None)

    def test_the_oldest_is_looked_for_among_all_priorities(self, kept: Store) -> None:
        # given
        for priority in (9, 0, 5):
            insert(kept, 2, priority=priority)
        long_ago = kept.moment(datetime.now(UTC) - timedelta(minutes=5))
        kept.run("UPDATE celery_message SET created_at = %s WHERE task_id = %s", [long_ago, "id 2"])

        # when
        count, oldest = depths.ready(kept, "celery", limit=100)

        # then
        assert count == 6
        assert oldest == pytest.approx(300, abs=30)

    def test_status_with_a_limit_sees_what_it_sees_without(self, kept: Store) -> None:
        insert(kept, 3)
        insert(kept, 2, queue="Mail")
        insert(kept, 2, queue="mail", visible_at=datetime.now(UTC) + timedelta(hours=1))

        exact, bounded = status.collect(), status.collect(limit=100)

        assert [(one.name, one.depth) for one in bounded.queues] == [(one.name, one.depth) for one in exact.queues]
        assert (bounded.scheduled, bounded.next_due) == (exact.scheduled, exact.next_due) == (2, exact.next_due)


class TestIndexes:
    @pytest.fixture
    def filled(self, alias: str) -> None:
        """Enough rows for an index to be worth while."""
        start = datetime.now(UTC) - timedelta(days=7)
        with transaction.atomic(using=alias):
            Throughput.objects.bulk_create(
                (Throughput(at=start + number * MINUTE, worker="w@host", done=1) for number in range(10_000)), 500
            )
            QueueDepth.objects.bulk_create(
                (QueueDepth(at=start + number * MINUTE, queue="celery", depth=1) for number in range(10_000)), 500
            )
            TaskMeta.objects.bulk_create(
                (
                    TaskMeta(
                        task_id=f"id {number}",
                        name="shop.rare" if number < 20 else "shop.add",
                        status=states.DONE if number % 100 else states.FAILURE,
                        date_done=start + number * MINUTE,
                    )
                    for number in range(10_000)
                ),
                500,
            )
        with connections[alias].cursor() as cursor:
            for table in ("celery_throughput", "celery_queuedepth", "celery_taskmeta"):
                cursor.execute(f"{'ANALYZE TABLE' if connections[alias].vendor == 'mysql' else 'ANALYZE'} {table}")

    def plan(self, alias: str, rows: QuerySet[Any]) -> str:
        options = {"format": "JSON"} if connections[alias].vendor == "mysql" else {}
        return str(rows.using(alias).explain(**options))

    @pytest.mark.usefixtures("filled")
    def test_an_hour_of_history_is_found_by_its_moments(self, alias: str) -> None:
        span = history._Span.ending(60, None)

        for rows in (Throughput.objects.all(), QueueDepth.objects.all()):
            assert WHOLE_TABLE[connections[alias].vendor] not in self.plan(alias, span.of(rows, begins=history.AFTER))

    @pytest.mark.usefixtures("filled")
    def test_what_failed_lately_is_found_without_reading_what_went_well(self, alias: str) -> None:
        failed = TaskMeta.objects.exclude(status=states.DONE).filter(status=states.FAILURE).order_by("-date_done")

        assert "celery_taskmeta_odd" in self.plan(alias, failed[:100])

    @pytest.mark.usefixtures("filled")
    def test_the_latest_of_a_task_are_found_by_its_name(self, alias: str) -> None:
        latest = TaskMeta.objects.filter(name="shop.rare").order_by("-date_done")

        assert "celery_taskmeta_name" in self.plan(alias, latest[:10])


def test_the_migration_can_be_taken_back(alias: str) -> None:
    tables = {"celery_throughput", "celery_queuedepth"}

    call_command("migrate", "celery", "0003", database=alias, verbosity=0)
    assert not tables & set(connections[alias].introspection.table_names())

    call_command("migrate", "celery", database=alias, verbosity=0)
    assert tables < set(connections[alias].introspection.table_names())


def test_the_store_is_found_by_its_alias(alias: str) -> None:
    assert store.of(alias) is store.of(broker.current().alias)
    assert Throughput.objects.all().db == QueueDepth.objects.all().db == alias
