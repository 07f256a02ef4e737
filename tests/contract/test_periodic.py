"""Periodic tasks on each database: every due moment is sent once, whoever looks, whatever dies, whatever clocks say."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.db import OperationalError, connections
from pytest_django import Settings

from celery import backends, message
from celery.backends import periodic
from celery.backends.periodic import LONGEST_PAUSE, PeriodicTasks
from celery.broker.store.base import Store
from celery.models import Message, PeriodicTaskMeta
from celery.registry import tasks
from celery.schedules import Schedule, crontab, every
from celery.task import PeriodicTask

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
NAME = "shop.report"
ME = "a" * 32
WAITING = (
    "Periodic task shop.report is due again, and its last message still waits in queue reports: it stands for both."
)


class Clock:
    """The clock of the database, which a test can set."""

    def __init__(self) -> None:
        self.now = NOON


class Report(PeriodicTask):
    """Never runs here: only its messages are looked at."""

    name = NAME
    run_every = crontab("* * * * *", timezone="UTC")
    queue = "reports"


@pytest.fixture(autouse=True)
def _queue_in_turn(alias: str, settings: Settings) -> None:
    settings.CELERY_BROKER_URL = f"django://{alias}"


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """Only the tasks of a test are known."""
    before = dict(tasks)
    tasks.clear()
    yield
    tasks.clear()
    tasks.update(before)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(alias: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[], PeriodicTasks]:
    """Makes what a worker's steward has."""
    monkeypatch.setattr(PeriodicTasks, "now", lambda _: clock.now)
    return lambda: PeriodicTasks(alias)


@pytest.fixture
def one(worker: Callable[[], PeriodicTasks]) -> PeriodicTasks:
    return worker()


def register(run_every: Any, name: str = NAME, **attributes: Any) -> Any:
    made = type("Made", (PeriodicTask,), {"name": name, "run_every": run_every, "queue": "reports", **attributes})
    tasks.register(made)
    return tasks[name]


def sent(name: str = NAME) -> list[Message]:
    return list(Message.objects.filter(task=name).order_by("id"))


def row(name: str = NAME) -> PeriodicTaskMeta:
    found: PeriodicTaskMeta = PeriodicTaskMeta.objects.get(name=name)
    return found


def finish_all() -> None:
    """Do what workers do with messages."""
    Message.objects.all().delete()


def ids_sent(one: PeriodicTasks, clock: Clock, moments: Sequence[datetime]) -> list[list[str]]:
    """Return the ids of what was sent at each of `moments`; workers finish it before the next."""
    found = []
    for clock.now in moments:
        one.run()
        found.append([each.task_id for each in sent()])
        finish_all()
    return found


class TestTheFirstTime:
    def test_a_new_interval_runs_at_once(self, one: PeriodicTasks, clock: Clock) -> None:
        register(every(HOUR))
        clock.now = NOON + 5 * MINUTE

        one.run()

        assert len(sent()) == 1
        assert (row().last_run_at, row().total_run_count) == (NOON, 1)

    def test_a_new_cron_line_waits_for_its_first_moment(self, one: PeriodicTasks, clock: Clock) -> None:
        register(crontab(10, 12, timezone="UTC"))
        clock.now = NOON + 20 * MINUTE

        assert ids_sent(one, clock, [clock.now]) == [[]]
        assert (row().last_run_at, row().total_run_count) == (NOON + 20 * MINUTE, 0)

        (at_its_moment,) = ids_sent(one, clock, [NOON + timedelta(days=1, minutes=10)])
        assert len(at_its_moment) == 1

    def test_nobody_minds_when_another_has_made_the_row(
        self, worker: Callable[[], PeriodicTasks], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        # given a worker that looked before another had made the row
        register(every(60))
        late = worker()
        worker().run()
        monkeypatch.setattr(late, "_rows", _blind_once(late._rows))

        # when
        late.run()

        # then
        assert len(sent()) == 1
        assert row().total_run_count == 1
        assert caplog.records == []


def _blind_once(look: Callable[..., Any]) -> Callable[..., Any]:
    looks: list[int] = []

    def wrapped(*args: Any) -> Any:
        looks.append(1)
        return {} if len(looks) == 1 else look(*args)

    return wrapped


class TestAMoment:
    def test_it_is_sent_once_however_often_somebody_looks(
        self, worker: Callable[[], PeriodicTasks], clock: Clock
    ) -> None:
        register(crontab("* * * * *", timezone="UTC"))
        workers = [worker() for _ in range(3)]
        for each in workers:
            each.run()

        for clock.now in (NOON + MINUTE, NOON + MINUTE + SECOND, NOON + 2 * MINUTE - SECOND):
            for each in workers:
                each.run()

        assert len(sent()) == 1
        assert (row().last_run_at, row().total_run_count) == (NOON + MINUTE, 1)

    def test_it_is_not_sent_by_a_worker_that_looked_before_another_took_it(
        self, worker: Callable[[], PeriodicTasks], clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given a worker that has read the row, and then stood still until all was over
        register(every(60))
        quick, slow = worker(), worker()
        quick.run()
        finish_all()
        clock.now = NOON + MINUTE
        read = slow._rows([NAME])
        monkeypatch.setattr(slow, "_rows", lambda *_: read)
        quick.run()
        assert len(sent()) == 1
        finish_all()

        # when
        slow.run()

        # then
        assert sent() == []
        assert (row().last_run_at, row().total_run_count) == (NOON + MINUTE, 2)

    def test_of_many_that_were_missed_one_is_sent(self, one: PeriodicTasks, clock: Clock) -> None:
        register(crontab("* * * * *", timezone="UTC"))
        one.run()

        assert [len(ids) for ids in ids_sent(one, clock, [NOON + HOUR, NOON + HOUR + SECOND])] == [1, 0]
        assert row().last_run_at == NOON + HOUR

    def test_each_has_an_id_of_its_own(self, one: PeriodicTasks, clock: Clock) -> None:
        register(every(60))

        found = ids_sent(one, clock, [NOON + number * MINUTE for number in range(5)])

        assert [len(ids) for ids in found] == [1] * 5
        assert len({task_id for ids in found for task_id in ids}) == 5

    def test_many_workers_at_the_same_instant_send_it_once(
        self, worker: Callable[[], PeriodicTasks], clock: Clock, alias: str
    ) -> None:
        # given
        register(every(60))
        register(crontab("* * * * *", timezone="UTC"), "shop.cron")
        together = threading.Barrier(6)
        workers = [worker() for _ in range(6)]

        def look(each: PeriodicTasks) -> None:
            together.wait(timeout=30)
            try:
                _until_done(each)
            finally:
                connections[alias].close()

        # when
        with ThreadPoolExecutor(6) as pool:
            for number in range(10):
                clock.now = NOON + number * MINUTE
                list(pool.map(look, workers))
                counts = (len(sent()), len(sent("shop.cron")))
                finish_all()

                # then
                assert counts == (1, int(number > 0))

    def test_it_is_not_taken_if_its_message_cannot_be_inserted(
        self, one: PeriodicTasks, monkeypatch: pytest.MonkeyPatch, kept: Store
    ) -> None:
        # given
        register(every(60))
        with monkeypatch.context() as broken:
            broken.setattr(kept, "insert", _raising(OperationalError("disk full")))

            # when
            with pytest.raises(OperationalError):
                one.run()

        # then
        assert row().total_run_count == 0
        one.run()
        assert len(sent()) == 1

    def test_workers_with_other_schedules_send_their_moments_beside_ours(
        self, one: PeriodicTasks, clock: Clock, worker: Callable[[], PeriodicTasks]
    ) -> None:
        register(crontab("0 * * * *", timezone="UTC"))
        one.run()
        other = worker()
        tasks.clear()
        register(crontab("30 * * * *", timezone="UTC"))

        assert [len(ids) for ids in ids_sent(other, clock, [NOON, NOON + 30 * MINUTE])] == [0, 1]
        tasks.clear()
        register(crontab("0 * * * *", timezone="UTC"))
        assert [len(ids) for ids in ids_sent(one, clock, [NOON + 31 * MINUTE, NOON + HOUR])] == [0, 1]

    def test_a_task_that_was_removed_leaves_its_row_and_is_not_sent(self, one: PeriodicTasks, clock: Clock) -> None:
        register(every(60))
        one.run()
        finish_all()
        tasks.clear()

        assert ids_sent(one, clock, [NOON + MINUTE]) == [[]]
        assert row().total_run_count == 1


def _until_done(each: PeriodicTasks) -> None:
    """Look as the steward does: what the database refuses for the moment is tried again."""
    for _ in range(20):
        try:
            each.run()
        except OperationalError:
            continue
        return
    raise AssertionError("refused 20 times")


def _raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


class TestTheMessage:
    def test_it_is_ready_at_once_in_the_queue_of_the_task(self, one: PeriodicTasks, kept: Store) -> None:
        register(every(60), priority=3, queue="reports")
        kept.enlist(ME, name="me", pid=1, queues=["reports"], concurrency=1, lease=30)

        one.run()

        (taken,) = kept.claim(ME, "reports", 10)
        call = message.decode(taken.body, content_type=message.JSON, content_encoding="utf-8", headers={})
        assert (call.task, call.task_id, call.expires) == (NAME, taken.task_id, None)
        assert (list(call.args), call.kwargs) == ([], {})
        assert taken.rank == -3

    def test_it_expires_when_the_task_says_so(self, one: PeriodicTasks) -> None:
        register(every(60), expires=timedelta(seconds=45))

        one.run()

        body = bytes(sent()[0].body)
        call = message.decode(body, content_type=message.JSON, content_encoding="utf-8", headers={})
        assert call.expires == NOON + 45 * SECOND

    def test_its_id_is_made_of_task_moment_and_count(self, one: PeriodicTasks) -> None:
        register(every(60))

        one.run()

        expected = uuid.uuid5(periodic.NAMESPACE, f"{NAME} 2026-03-01T12:00:00+00:00 0")
        assert sent()[0].task_id == row().last_task_id == str(expected)


class TestAMessageThatStillWaits:
    def test_there_is_no_second_one_beside_it(
        self, one: PeriodicTasks, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        register(every(60))

        for clock.now in (NOON, NOON + MINUTE, NOON + 2 * MINUTE, NOON + 3 * MINUTE):
            one.run()

        assert len(sent()) == 1
        assert (row().last_run_at, row().total_run_count) == (NOON + 3 * MINUTE, 4)
        assert [record.getMessage() for record in caplog.records] == [WAITING]

    @pytest.mark.parametrize("change", [{"owner": ME}, {"dead_at": NOON}], ids=["taken", "dead"])
    def test_one_that_was_taken_or_is_dead_waits_no_more(
        self, one: PeriodicTasks, clock: Clock, change: dict[str, Any]
    ) -> None:
        register(every(60))
        one.run()
        Message.objects.update(**change)

        clock.now = NOON + MINUTE
        one.run()

        assert len(sent()) == 2


class TestClocks:
    def test_a_clock_that_is_some_seconds_behind_sends_nothing_twice(
        self, worker: Callable[[], PeriodicTasks], clock: Clock
    ) -> None:
        register(every(60))
        ahead, behind = worker(), worker()
        assert len(ids_sent(ahead, clock, [NOON])[0]) == 1

        found = ids_sent(behind, clock, [NOON - 30 * SECOND, NOON, NOON + 30 * SECOND])

        assert found == [[], [], []]

    def test_that_holds_for_intervals_that_are_shorter(self, worker: Callable[[], PeriodicTasks], clock: Clock) -> None:
        register(every(10))
        ahead, behind = worker(), worker()
        assert len(ids_sent(ahead, clock, [NOON])[0]) == 1

        found = ids_sent(behind, clock, [NOON + number * 10 * SECOND for number in (-4, -3, -2, -1, 0, 1)])

        assert [len(ids) for ids in found] == [0, 0, 0, 0, 0, 1]

    def test_an_hour_that_was_wrong_silences_nothing_and_doubles_nothing(
        self, one: PeriodicTasks, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        # given
        register(crontab("* * * * *", timezone="UTC"))
        one.run()
        before = ids_sent(one, clock, [NOON + HOUR - MINUTE, NOON + HOUR])

        # when the clock is put back
        found = ids_sent(one, clock, [NOON + number * SECOND for number in (10, 20, 59, 60, 61, 120)])

        # then
        assert [len(ids) for ids in before] == [1, 1]
        assert [len(ids) for ids in found] == [0, 0, 0, 1, 0, 1]
        assert len({task_id for ids in (*before, *found) for task_id in ids}) == 4
        assert [record.levelno for record in caplog.records] == [logging.WARNING]

    def test_a_moment_that_was_sent_too_early_is_not_sent_again_at_its_time(
        self, one: PeriodicTasks, clock: Clock
    ) -> None:
        # given a clock that was an hour ahead at half past two
        register(crontab(0, 15, timezone="UTC"))
        one.run()
        assert len(ids_sent(one, clock, [NOON + 3 * HOUR + 30 * MINUTE])[0]) == 1

        # when it is put back
        found = ids_sent(one, clock, [NOON + 2 * HOUR + 30 * MINUTE, NOON + 3 * HOUR, NOON + 27 * HOUR])

        # then
        assert [len(ids) for ids in found] == [0, 0, 1]

    def test_the_present_moment_is_aware_and_near_ours(self, alias: str) -> None:
        now = PeriodicTasks(alias).now()

        assert abs(now - datetime.now(UTC)) < 5 * SECOND

    def test_a_server_is_asked_for_its_own(self, alias: str) -> None:
        asked: list[str] = []

        def note(execute: Any, statement: str, *rest: Any) -> Any:
            asked.append(statement)
            return execute(statement, *rest)

        with connections[alias].execute_wrapper(note):
            PeriodicTasks(alias).now()

        assert bool(asked) == (connections[alias].vendor != "sqlite")

    @pytest.mark.parametrize("minutes", [20, 60])
    @pytest.mark.parametrize("use_tz", [True, False])
    def test_every_moment_of_the_night_in_which_an_hour_comes_twice_is_sent_once(
        self, worker: Callable[[], PeriodicTasks], clock: Clock, settings: Settings, *, use_tz: bool, minutes: int
    ) -> None:
        settings.TIME_ZONE, settings.USE_TZ = "Europe/Berlin", use_tz
        register(every(60 * minutes))
        night = datetime(2026, 10, 24, 22, tzinfo=UTC)

        looks = [night + number * 5 * MINUTE for number in range(60)]
        found = [ids_sent(worker(), clock, [look])[0] for look in looks]

        assert [len(ids) for ids in found] == [1, *[0] * (minutes // 5 - 1)] * (300 // minutes)


def test_a_message_that_a_relay_is_publishing_still_waits(one: PeriodicTasks, clock: Clock, kept: Store) -> None:
    """Its claim has an owner. While the broker is away moments would pile up, and all run when it is back."""
    register(every(60))
    one.run()
    kept.enlist("relay", name="relay", pid=1, queues=["reports"], concurrency=1, lease=30)
    Message.objects.update(owner="relay", visible_at=NOON)

    for looks in (1, 2):
        clock.now = NOON + looks * 60 * SECOND
        one.run()

    assert (len(sent()), row().total_run_count) == (1, 3)


class TestTrouble:
    class Broken(Schedule):
        def latest(self, now: datetime) -> datetime | None:
            raise ZeroDivisionError("oh")

        def following(self, moment: datetime) -> datetime:
            raise NotImplementedError

    @pytest.mark.parametrize("answer", [None, NOON, NOON - SECOND, NOON.replace(tzinfo=None), "soon"], ids=repr)
    def test_a_schedule_without_a_moment_to_come_is_told_and_neither_stops_nor_hurries_the_others(
        self, one: PeriodicTasks, clock: Clock, caplog: pytest.LogCaptureFixture, answer: Any
    ) -> None:
        class Odd(Schedule):
            def latest(self, now: datetime) -> datetime | None:
                return None

            def following(self, moment: datetime) -> datetime:
                return answer  # type: ignore[no-any-return]

        register(Odd())

        wait = one.run()

        assert wait > 0
        assert "cannot be sent: InvalidSchedule: following(" in caplog.text

    def test_a_schedule_that_exits_keeps_nobody_else_from_working(
        self, one: PeriodicTasks, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Exiting(Schedule):
            def latest(self, now: datetime) -> datetime | None:
                raise SystemExit("enough")

            def following(self, moment: datetime) -> datetime:
                raise NotImplementedError

        register(Exiting())

        one.run()

        assert "cannot be sent: SystemExit: enough" in caplog.text

    def test_what_is_wrong_with_one_task_is_logged_once_and_keeps_no_other(
        self, one: PeriodicTasks, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        register(self.Broken(), "shop.broken")
        register(every(60), "shop.bad_queue", queue="q" * 300)
        register(every(60))

        for clock.now in (NOON + number * MINUTE for number in range(3)):
            one.run()
            assert len(sent()) == 1
            finish_all()

        assert sorted(record.getMessage()[:60] for record in caplog.records) == [
            "Periodic task shop.bad_queue cannot be sent: ValueError: que",
            "Periodic task shop.broken cannot be sent: ZeroDivisionError:",
        ]
        assert row("shop.bad_queue").total_run_count == 0

    def test_a_row_that_cannot_be_read_is_the_trouble_of_its_task_alone(
        self, worker: Callable[[], PeriodicTasks], clock: Clock, alias: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        # given a moment that Python cannot read, where the database takes one
        oddity = {"sqlite": "yesterday", "postgresql": "infinity", "mysql": "0000-00-00 00:00:00"}
        register(every(60))
        register(every(60), "shop.odd")
        worker().run()
        finish_all()
        with connections[alias].cursor() as cursor:
            if connections[alias].vendor == "mysql":
                cursor.execute("SET sql_mode = ''")
            statement = "UPDATE celery_periodictaskmeta SET last_run_at = %s WHERE name = %s"
            cursor.execute(statement, [oddity[connections[alias].vendor], "shop.odd"])

        # when
        one = worker()
        found = ids_sent(one, clock, [NOON + MINUTE, NOON + 2 * MINUTE])
        connections[alias].close()

        # then
        assert [len(ids) for ids in found] == [1, 1]
        assert [record.getMessage()[:42] for record in caplog.records] in (
            ["Periodic task shop.odd cannot be sent: Att"],
            ["Periodic task shop.odd cannot be sent: Dat"],
            [],  # PyMySQL reads it as no moment at all
        )

    def test_a_task_that_was_repaired_goes_on(
        self, one: PeriodicTasks, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = register(every(60), queue="q" * 300)
        one.run()
        task.queue = "reports"

        assert [len(ids) for ids in ids_sent(one, clock, [NOON + MINUTE])] == [1]
        assert caplog.records[-1].getMessage() == "Periodic task shop.report: possible again."

    def test_a_long_list_is_done_in_slices(self, one: PeriodicTasks, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [f"shop.number_{number}" for number in range(3)]
        for name in names:
            register(every(60), name)
        ticks = count()
        monkeypatch.setattr(time, "monotonic", lambda: next(ticks))

        waits = [one.run(), one.run(), one.run()]

        assert waits[0] == 0.0
        assert [len(sent(name)) for name in names] == [1, 1, 1]
        assert row(names[2]).total_run_count == 1


class TestTheWait:
    def test_it_ends_with_the_next_moment(self, one: PeriodicTasks, clock: Clock) -> None:
        register(crontab("* * * * *", timezone="UTC"))
        clock.now = NOON + 58 * SECOND

        assert 1.0 < one.run() <= 2.0

    def test_it_is_never_long_for_a_clock_can_be_set(self, one: PeriodicTasks) -> None:
        register(crontab(0, 3, timezone="UTC"))

        assert one.run() == LONGEST_PAUSE

    def test_without_tasks_there_is_nothing_to_wait_for(self, one: PeriodicTasks) -> None:
        assert one.run() == LONGEST_PAUSE

    def test_between_two_moments_no_row_is_read(self, one: PeriodicTasks, clock: Clock, alias: str) -> None:
        register(crontab("* * * * *", timezone="UTC"))
        one.run()
        asked: list[str] = []

        def note(execute: Any, statement: str, *rest: Any) -> Any:
            asked.append(statement)
            return execute(statement, *rest)

        clock.now = NOON + 30 * SECOND
        with connections[alias].execute_wrapper(note):
            one.run()

        assert asked == []


class TestTheBackend:
    def test_the_one_of_the_database_keeps_periodic_tasks(self, alias: str) -> None:
        register(every(60))
        backend = backends.get_backend_cls("database")()

        wait = backend.run_periodic_tasks()

        assert "PeriodicStatus" in backend.capabilities
        assert 0 <= wait <= LONGEST_PAUSE
        assert len(sent()) == 1


class TestTheModel:
    def test_it_says_what_was_last_sent(self, one: PeriodicTasks) -> None:
        register(every(60))
        one.run()

        assert str(row()) == f"<PeriodicTask: shop.report [last-run:{NOON}, total-run:1]>"

    def test_of_one_that_never_ran_it_says_so(self, one: PeriodicTasks) -> None:
        register(crontab("0 0 1 1 *"))
        one.run()

        assert str(row()) == "<PeriodicTask: shop.report [last-run:None, total-run:0]>"

    def test_it_knows_its_task_and_sends_it(self, one: PeriodicTasks) -> None:
        task = register(every(60))
        one.run()
        finish_all()

        result = row().delay()

        assert row().task is task
        assert [each.task_id for each in sent()] == [result.task_id]
        assert row().total_run_count == 1

    def test_those_that_are_due_now_are_found(self, alias: str) -> None:
        register(every(3600), "shop.due")
        register(every(3600), "shop.done")
        now = datetime.now(UTC)
        for name, last in (("shop.due", now - 2 * HOUR), ("shop.done", now), ("shop.removed", now - 2 * HOUR)):
            PeriodicTaskMeta.objects.create(name=name, last_run_at=last)

        assert [found.name for found in PeriodicTaskMeta.objects.get_waiting_tasks()] == ["shop.due"]
