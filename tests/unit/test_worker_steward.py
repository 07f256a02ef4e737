"""The steward's own part: what it hears, and when it leaves something be. Its store is only pretended."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from celery import conf
from celery.exceptions import LeaseLost
from celery.message import Delivery
from celery.worker import channel, dispatcher, errands, slots, steward
from celery.worker.chore import Chore
from celery.worker.errands import Asked
from celery.worker.options import Options
from celery.worker.slots import Slots
from celery.worker.steward import DISPATCHER, ENLISTING_PAUSE, EVENT, LONGEST_SLEEP, STOP, Steward


class Rows:
    """Counts what lost workers leave, and how often others are waked."""

    def __init__(self) -> None:
        self.orphans = 0
        self.retired: list[str] = []
        self.pokes = 0
        self.is_away = False

        self.has_row = True
        self.enlisted: list[str] = []

    def has_lease(self, owner: str) -> bool:
        return self.has_row

    def enlist(self, owner: str, **_: object) -> None:
        self.enlisted.append(owner)

    def retire_orphans(self) -> int:
        return self.orphans

    def retire(self, owner: str) -> None:
        if self.is_away:
            raise OSError("away")
        self.retired.append(owner)

    def poke(self) -> None:
        self.pokes += 1


class Slice:
    """A relay that does nothing, or has lost its lease."""

    def __init__(self, error: Exception | None = None) -> None:
        self.steps = 0
        self._error = error

    def step(self) -> float:
        self.steps += 1
        if self._error:
            raise self._error
        return 0.25


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def supervisor() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The channel between the two: the supervisor's end, and the steward's."""
    ours, theirs = channel.pair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def serving(supervisor: tuple[socket.socket, socket.socket], rows: Rows) -> Iterator[Steward]:
    options = Options(name="w", queues=("celery",), children=2, drain_timeout=25)
    made = Steward(supervisor[1], Slots(2), options)
    made._store = cast("Any", rows)
    yield made
    made._close_errands()
    made._selector.close()


def test_before_the_worker_is_enlisted_nothing_is_sent_in_its_name(serving: Steward) -> None:
    # given
    relay = Slice()

    # then
    assert serving._relay(cast("Any", relay)) == LONGEST_SLEEP
    assert serving._send_periodic() == ENLISTING_PAUSE
    assert relay.steps == 0

    # when
    serving._is_enlisted = True

    # then
    assert serving._relay(cast("Any", relay)) == 0.25
    assert relay.steps == 1


def test_a_relay_that_lost_its_lease_leaves_the_answer_to_the_proof_of_life(serving: Steward) -> None:
    serving._is_enlisted = True

    assert serving._relay(cast("Any", Slice(LeaseLost("others hold them")))) == LONGEST_SLEEP


@pytest.mark.parametrize("count", [0, 3])
def test_messages_of_workers_that_are_gone_are_told_of_and_others_waked_only_if_there_are_any(
    serving: Steward, rows: Rows, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    rows.orphans = count

    # when
    serving._release_orphans()

    # then
    assert rows.pokes == (1 if count else 0)
    expected = ["3 messages held by workers that are gone are tried again."] if count else []
    assert [record.getMessage() for record in caplog.records] == expected


def test_who_is_to_be_retired_while_the_database_is_away_is_retired_later_and_once(
    serving: Steward, rows: Rows
) -> None:
    # given
    serving._to_retire = ["first", "second"]
    rows.is_away = True
    with pytest.raises(OSError, match="away"):
        serving._retire()

    # when
    rows.is_away = False
    serving._retire()
    serving._retire()

    # then
    assert rows.retired == ["first", "second"]


class Pulse:
    """A proof of life that counts, and may find the worker's row gone."""

    interval = 10.0

    def __init__(self) -> None:
        self.beats = 0
        self.is_lost = False

    def beat(self) -> bool:
        self.beats += 1
        return not self.is_lost


class TestProofOfLife:
    @pytest.fixture
    def pulse(self, serving: Steward) -> Pulse:
        serving._is_enlisted = True
        serving._slots.beat()
        return Pulse()

    def test_a_worker_is_enlisted_before_it_proves_its_life(
        self, serving: Steward, pulse: Pulse, rows: Rows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        enlisted: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(rows, "enlist", lambda owner, **facts: enlisted.append((owner, facts)), raising=False)
        serving._owner, serving._is_enlisted = "owner", False

        # when
        serving._live(cast("Any", pulse))
        serving._live(cast("Any", pulse))

        # then
        assert [(owner, facts["name"], facts["concurrency"]) for owner, facts in enlisted] == [("owner", "w", 2)]
        assert pulse.beats == 1

    def test_it_is_withheld_while_the_dispatcher_is_silent_and_that_is_told_once(
        self, serving: Steward, pulse: Pulse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        # given
        monkeypatch.setattr(Slots, "silence", lambda _: Pulse.interval + 1)

        # when
        for _ in range(3):
            assert serving._live(cast("Any", pulse)) == Pulse.interval

        # then
        assert pulse.beats == 0
        assert [record.getMessage() for record in caplog.records] == [
            "The dispatcher has been silent for 11.0 s; no proof of life."
        ]

    def test_a_dispatcher_that_sleeps_with_nothing_to_do_is_not_silent_however_short_the_lease(
        self, serving: Steward, pulse: Pulse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        pulse.interval = 0.3
        monkeypatch.setattr(Slots, "silence", lambda _: dispatcher.LONGEST_SLEEP + 0.1)

        # when
        serving._live(cast("Any", pulse))

        # then
        assert pulse.beats == 1

    def test_a_worker_whose_row_is_gone_says_so_and_proves_nothing_more_for_this_owner(
        self, serving: Steward, pulse: Pulse, supervisor: tuple[socket.socket, socket.socket]
    ) -> None:
        # given
        pulse.is_lost = True

        # when
        wait = serving._live(cast("Any", pulse))

        # then
        assert wait == float("inf")
        assert channel.listen(supervisor[0]) == ((steward.LOST, serving._owner), [])


def test_it_stops_when_it_is_told_to(serving: Steward, supervisor: tuple[socket.socket, socket.socket]) -> None:
    # when
    channel.tell(supervisor[0], STOP)
    serving._hear_supervisor()

    # then
    assert serving._is_stopping


def test_it_stops_when_the_supervisor_is_gone(
    serving: Steward, supervisor: tuple[socket.socket, socket.socket]
) -> None:
    # when
    supervisor[0].close()
    serving._hear_supervisor()

    # then
    assert serving._is_stopping


def test_a_stopping_worker_sends_no_more_by_the_clock_and_tells_of_its_stop(
    serving: Steward, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    news: list[str] = []
    monkeypatch.setattr(serving._beat, "rest", lambda: news.append("rests"))
    monkeypatch.setattr(serving._announcer, "put", lambda name, _: news.append(name))

    # when
    serving._hear(EVENT, ["process_died", {}], [])
    serving._hear(EVENT, ["worker_stopping", {}], [])

    # then
    assert news == ["process_died", "rests", "worker_stopping"]


_DELIVERY = Delivery("id", 1, "celery", 0, "", b"{}")


class TestErrands:
    @pytest.fixture(autouse=True)
    def _ready(self, serving: Steward, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(serving, "_serve", lambda *_, **__: None)
        serving._running_errands = Chore("Errands", lambda: LONGEST_SLEEP)

    @staticmethod
    def introduce(serving: Steward) -> socket.socket:
        """Introduce a dispatcher, and return its end."""
        stewards, dispatchers = channel.pair()
        serving._hear(DISPATCHER, ["owner", True], [stewards])
        return dispatchers

    def test_what_is_asked_is_done_at_once(self, serving: Steward) -> None:
        # given
        serving._running_errands.at = float("inf")

        # when
        with self.introduce(serving) as theirs:
            channel.tell(theirs, errands.EXAMINE, 7, False, "", tuple(_DELIVERY))
            serving._hear_errands()

        # then
        assert [(one.kind, one.number) for one in serving._asked] == [(errands.EXAMINE, 7)]
        assert serving._running_errands.at == 0.0

    def test_many_slow_errands_do_not_keep_the_steward_from_its_other_duties(
        self, serving: Steward, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        clock = SimpleNamespace(now=1000.0)
        clock.monotonic = lambda: clock.now
        monkeypatch.setattr(steward, "time", clock)
        asked = [Asked((errands.PARK, number, False, "", tuple(_DELIVERY))) for number in range(450)]
        serving._asked = list(asked)

        def answer(batch: list[Asked]) -> list[Any]:
            clock.now += 1.5
            return []

        # when
        waits = [serving._run_errands(cast("Any", SimpleNamespace(answer=answer))) for _ in range(3)]

        # then
        assert waits == [0.0, 0.0, LONGEST_SLEEP]
        assert serving._asked == []

    def test_a_dispatcher_that_is_gone_is_not_listened_to_any_more(self, serving: Steward) -> None:
        # given
        self.introduce(serving).close()

        # when
        serving._hear_errands()
        serving._hear_errands()

        # then
        assert serving._errands is None
        assert len(serving._selector.get_map()) == 0

    def test_a_new_dispatcher_takes_the_place_of_the_old_one(self, serving: Steward) -> None:
        # when
        with self.introduce(serving) as old, self.introduce(serving):
            # then
            assert len(serving._selector.get_map()) == 1
            with pytest.raises(EOFError):
                channel.listen(old, wait=True)


class TestTheLease:
    """What children may start: only what nobody can have taken over."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        made = SimpleNamespace(now=1000.0)
        made.monotonic = lambda: made.now
        monkeypatch.setattr(steward, "time", made)
        monkeypatch.setattr(slots, "time", made)
        return made

    def test_it_begins_with_the_row_and_the_supervisor_is_told(
        self, serving: Steward, rows: Rows, supervisor: tuple[socket.socket, socket.socket], clock: SimpleNamespace
    ) -> None:
        # given
        serving._owner = "me"

        # when
        serving._live(cast("Any", Pulse()))

        # then
        assert rows.enlisted == ["me"]
        heard = channel.listen(supervisor[0])
        assert heard
        assert heard[0] == (steward.ENLISTED, "me")
        assert serving._slots.may_start(has_row=True)

        # when
        clock.now += conf.LEASE

        # then
        assert not serving._slots.may_start(has_row=True)

    def test_each_proof_of_life_extends_it(self, serving: Steward, clock: SimpleNamespace) -> None:
        # given
        serving._is_enlisted = True
        serving._slots.beat()
        serving._live(cast("Any", Pulse()))

        # when
        clock.now += conf.LEASE - 1
        serving._slots.beat()
        serving._live(cast("Any", Pulse()))
        clock.now += conf.LEASE - 1

        # then
        assert serving._slots.may_start(has_row=True)

    def test_a_silent_dispatcher_does_not_and_if_the_row_is_gone_the_worker_is_lost_at_once(
        self, serving: Steward, rows: Rows, supervisor: tuple[socket.socket, socket.socket], clock: SimpleNamespace
    ) -> None:
        # given
        serving._is_enlisted = True
        serving._slots.beat()
        serving._slots.extend_lease(clock.now)
        clock.now += 60

        # when
        serving._live(cast("Any", Pulse()))

        # then
        assert not serving._slots.may_start(has_row=True)
        assert channel.listen(supervisor[0]) is None

        # when
        rows.has_row = False
        serving._live(cast("Any", Pulse()))

        # then
        heard = channel.listen(supervisor[0])
        assert heard
        assert heard[0] == (steward.LOST, serving._owner)
