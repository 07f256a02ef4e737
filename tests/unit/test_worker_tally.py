"""The steward's part in the history: what was stored, what waits, and for how long that is known."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
from django.db import OperationalError
from django.db.models.query import QuerySet
from django.utils import timezone
from pytest_django import Settings

from celery import states
from celery.broker.base import Broker
from celery.exceptions import BrokerUnreachable
from celery.models import Message, QueueDepth, Throughput
from celery.worker import channel
from celery.worker import tally as module
from celery.worker.options import Options
from celery.worker.slots import Slots
from celery.worker.steward import STOP, Steward
from celery.worker.tally import Tally

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Clock:
    """The clock of the wall."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> float:
        return self.moment.timestamp()


class Rabbit(Broker):
    """A broker outside the database."""

    relays = True

    def __init__(self, depth: Callable[[str], int]) -> None:
        super().__init__("rabbit://")
        self._depth = depth
        self.asked: list[str] = []

    def depth(self, queue: str) -> int:
        self.asked.append(queue)
        return self._depth(queue)


class Tables(Broker):
    """The broker in the database."""


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON + timedelta(seconds=40))


@pytest.fixture
def slots() -> Slots:
    return Slots(2)


@pytest.fixture
def tally(slots: Slots, clock: Clock) -> Tally:
    return make(slots, clock)


def make(slots: Slots, clock: Clock, *queues: str, broker: Broker | None = None, name: str = "w@host") -> Tally:
    return Tally(broker or Tables("tables://"), name, queues or ("celery",), slots, clock)


def counts() -> list[tuple[datetime, int, int, int, float]]:
    return list(Throughput.objects.order_by("id").values_list("at", "done", "failed", "retried", "runtime"))


def samples() -> list[tuple[datetime, str, int]]:
    return list(QueueDepth.objects.order_by("at", "queue").values_list("at", "queue", "depth"))


def message(**fields: Any) -> None:
    number = Message.objects.count()
    Message.objects.create(**{"task_id": f"id {number}", "task": "shop.pay", "queue": "celery", "body": b""} | fields)


def refuse(*_: object, **__: object) -> NoReturn:
    raise OperationalError("the database is away")


class TestWhatWasStored:
    def test_of_all_children_it_is_one_row(self, tally: Tally, slots: Slots, clock: Clock) -> None:
        # given
        slots.count(0, states.DONE, 1.5)
        slots.count(1, states.DONE, 0.25)
        slots.count(1, states.FAILURE, 0.25)
        slots.count(slots.stewards, states.FAILURE, 0.0)
        slots.count(0, states.RETRY, 1.0)

        # when
        clock.moment = NOON + MINUTE + timedelta(seconds=2)
        tally.step()

        # then
        assert counts() == [(NOON + MINUTE, 2, 2, 1, 3.0)]
        assert Throughput.objects.get().worker == "w@host"

    def test_each_row_has_what_is_new(self, tally: Tally, slots: Slots, clock: Clock) -> None:
        for minute, number in enumerate((3, 0, 2), start=1):
            for _ in range(number):
                slots.count(0, states.DONE, 0.5)
            clock.moment = NOON + minute * MINUTE
            tally.step()

        assert counts() == [(NOON + MINUTE, 3, 0, 0, 1.5), (NOON + 3 * MINUTE, 2, 0, 0, 1.0)]

    def test_what_happened_since_the_last_step_is_written_at_the_end(
        self, tally: Tally, slots: Slots, clock: Clock
    ) -> None:
        # given
        clock.moment = NOON + MINUTE
        tally.step()
        slots.count(0, states.DONE, 0.5)

        # when
        clock.moment = NOON + MINUTE + timedelta(seconds=20)
        wait = tally.finish()

        # then
        assert counts() == [(NOON + MINUTE + timedelta(seconds=20), 1, 0, 0, 0.5)]
        assert wait == float("inf")

    def test_nothing_is_lost_while_the_database_is_away(
        self, tally: Tally, slots: Slots, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        slots.count(0, states.DONE, 1.0)
        with monkeypatch.context() as away:
            away.setattr(QuerySet, "create", refuse)
            with pytest.raises(OperationalError):
                tally.step()
        slots.count(0, states.DONE, 1.0)

        # when
        clock.moment = NOON + 3 * MINUTE
        tally.step()

        # then
        assert counts() == [(NOON + 3 * MINUTE, 2, 0, 0, 2.0)]

    def test_the_next_steward_goes_on_where_a_dead_one_stopped(self, tally: Tally, slots: Slots, clock: Clock) -> None:
        # given
        slots.count(0, states.DONE, 1.0)
        tally.step()
        slots.count(0, states.DONE, 1.0)

        # when
        make(slots, clock).finish()

        # then
        assert sum(row[1] for row in counts()) == 2

    def test_a_clock_that_is_set_back_delays_nothing(self, tally: Tally, slots: Slots, clock: Clock) -> None:
        # given
        clock.moment = NOON + MINUTE
        tally.step()

        # when
        clock.moment = NOON - 60 * MINUTE + timedelta(seconds=7)
        slots.count(0, states.DONE, 1.0)
        wait = tally.step()

        # then
        assert counts() == [(clock.moment, 1, 0, 0, 1.0)]
        assert 0 < wait <= 60

    def test_without_use_tz_the_moment_is_local(
        self, tally: Tally, slots: Slots, clock: Clock, settings: Settings
    ) -> None:
        settings.USE_TZ = False
        settings.TIME_ZONE = "Asia/Kolkata"
        slots.count(0, states.DONE, 1.0)
        clock.moment = NOON + MINUTE

        tally.step()

        assert [row[0] for row in counts()] == [datetime(2026, 11, 22, 17, 31)]  # noqa: DTZ001 - as it is stored
        assert samples() == [(datetime(2026, 11, 22, 17, 31), "celery", 0)]  # noqa: DTZ001 - the same

    def test_an_hour_that_the_clock_repeats_is_sampled_a_second_time(
        self, tally: Tally, clock: Clock, settings: Settings
    ) -> None:
        settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"
        second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)

        for moment in (second - timedelta(hours=1), second):
            clock.moment = moment
            tally.step()

        local = datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001 - as it is stored
        assert samples() == [(local, "celery", 0), (local + timedelta(microseconds=1), "celery", 0)]


class TestTurns:
    def test_the_next_step_is_soon_after_the_next_full_minute(self, tally: Tally, clock: Clock) -> None:
        for second in (0, 20, 59):
            clock.moment = NOON + timedelta(seconds=second)
            due = clock.moment + timedelta(seconds=tally.step())

            assert 0 < (due - NOON).total_seconds() % 60 < module.LAST_TURN

    def test_workers_do_not_take_it_at_once(self, slots: Slots, clock: Clock) -> None:
        waits = {make(slots, clock, name=f"w{number}@host").step() for number in range(10)}

        assert len(waits) > 5


class TestWhatWaits:
    def test_each_queue_is_sampled(self, slots: Slots, clock: Clock) -> None:
        # given
        message(created_at=timezone.now() - 3 * MINUTE)
        message()
        message(visible_at=timezone.now() + MINUTE)
        message(dead_at=timezone.now())
        message(owner="a" * 32)

        # when
        make(slots, clock, "celery", "mail").step()

        # then
        assert samples() == [(NOON, "celery", 2), (NOON, "mail", 0)]
        ages = dict(QueueDepth.objects.values_list("queue", "oldest"))
        assert ages["celery"] == pytest.approx(180, abs=30)
        assert ages["mail"] is None

    def test_the_oldest_is_found_behind_more_urgent_ones(self, tally: Tally) -> None:
        message(rank=-9)
        message(rank=0, created_at=timezone.now() - 5 * MINUTE)
        message(rank=0)
        message(rank=3)

        tally.step()

        assert QueueDepth.objects.get().oldest == pytest.approx(300, abs=30)

    def test_no_more_is_counted_than_there_is_time_for(self, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_COUNTED", 2)
        for _ in range(5):
            message()

        tally.step()

        assert samples() == [(NOON, "celery", 2)]

    def test_the_second_worker_of_a_minute_counts_nothing(self, slots: Slots, clock: Clock) -> None:
        # given
        rabbit = Rabbit(lambda _: 5)
        make(slots, clock, broker=rabbit).step()

        # when
        make(slots, clock, "celery", "mail", broker=rabbit).step()

        # then
        assert rabbit.asked == ["celery", "mail"]
        assert samples() == [(NOON, "celery", 5), (NOON, "mail", 5)]

    def test_of_two_that_count_at_once_the_first_one_counts(self, slots: Slots, clock: Clock) -> None:
        def depth(_: str) -> int:
            make(slots, clock, broker=Rabbit(lambda _: 1)).step()
            return 2

        make(slots, clock, broker=Rabbit(depth)).step()

        assert samples() == [(NOON, "celery", 1)]

    def test_the_next_minute_has_a_sample_of_its_own(self, tally: Tally, clock: Clock) -> None:
        tally.step()
        clock.moment += MINUTE
        tally.step()

        assert [at for at, *_ in samples()] == [NOON, NOON + MINUTE]

    def test_another_broker_is_asked(self, slots: Slots, clock: Clock) -> None:
        make(slots, clock, "celery", "mail", broker=Rabbit({"celery": 7, "mail": 0}.__getitem__)).step()

        assert samples() == [(NOON, "celery", 7), (NOON, "mail", 0)]
        assert set(QueueDepth.objects.values_list("oldest", flat=True)) == {None}

    def test_a_broker_that_does_not_answer_leaves_a_gap_and_is_asked_once(self, slots: Slots, clock: Clock) -> None:
        # given
        def away(_: str) -> NoReturn:
            raise BrokerUnreachable("connection refused")

        rabbit = Rabbit(away)
        slots.count(0, states.DONE, 1.0)

        # when
        wait = make(slots, clock, "celery", "mail", broker=rabbit).step()

        # then
        assert (samples(), rabbit.asked) == ([], ["celery"])
        assert wait > 1
        assert len(counts()) == 1

    def test_many_slow_queues_give_way_to_the_other_chores(
        self, slots: Slots, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        monkeypatch.setattr(module, "SLICE", -1.0)
        queues = [f"q{number}" for number in range(3)]

        # when
        tally = make(slots, clock, *queues, broker=Rabbit(lambda _: 1))
        waits = [tally.step() for _ in queues]

        # then
        assert waits[:2] == [0.0, 0.0]
        assert waits[2] > 1
        assert [queue for _, queue, _ in samples()] == queues


class TestForgetting:
    def old(self, number: int, age: timedelta) -> None:
        for index in range(number):
            Throughput.objects.create(at=NOON - age, worker="w@host", done=1)
            QueueDepth.objects.create(at=NOON - age, queue=f"q{index}", depth=1)

    def test_what_is_older_than_a_week_goes(self, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
        # given
        monkeypatch.setattr(module, "PAGE", 2)
        self.old(5, timedelta(days=7, minutes=1))
        self.old(3, timedelta(days=6, hours=23))

        # when
        tally.step()

        # then
        assert (Throughput.objects.count(), QueueDepth.objects.exclude(queue="celery").count()) == (3, 3)

    def test_it_is_looked_for_once_an_hour(self, tally: Tally) -> None:
        tally.step()
        self.old(1, timedelta(days=8))

        tally.step()
        assert Throughput.objects.exists()

        tally._cleanup_at = 0.0
        tally.step()
        assert not Throughput.objects.exists()

    def test_a_long_past_is_forgotten_slice_by_slice(self, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
        # given
        monkeypatch.setattr(module, "SLICE", -1.0)
        monkeypatch.setattr(module, "PAGE", 2)
        self.old(3, timedelta(days=8))

        # when
        left = []
        for _ in range(4):
            tally._clean_up()
            left.append(Throughput.objects.count())

        # then
        assert left == [1, 0, 0, 0]
        assert not QueueDepth.objects.exists()


class TestInTheSteward:
    @pytest.fixture
    def steward(self, slots: Slots) -> Iterator[Steward]:
        ours, theirs = channel.pair()
        with ours, theirs:
            made = Steward(theirs, slots, Options(name="w@host", queues=("celery",), children=2, drain_timeout=25))
            channel.tell(ours, STOP)
            yield made
            made._selector.close()

    def test_it_comes_after_the_proof_of_life_and_all_else(self, steward: Steward) -> None:
        steward._serve("a" * 32, is_new=True)

        names = [chore.name for chore in steward._chores]
        assert names[0] == "Proof of life"
        assert names[-2:] == ["History", "Vacuum"]

    def test_a_new_dispatcher_does_not_begin_it_anew(self, steward: Steward) -> None:
        steward._serve("a" * 32, is_new=True)
        before = steward._tally

        steward._serve("b" * 32, is_new=True)

        assert steward._tally is before

    def test_a_worker_that_stops_writes_what_is_left(self, steward: Steward, slots: Slots) -> None:
        slots.count(0, states.DONE, 1.0)

        steward.run()

        assert [row[1:] for row in counts()] == [(1, 0, 0, 1.0)]
