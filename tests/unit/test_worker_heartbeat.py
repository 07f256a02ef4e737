"""Proof of life, with rows that are only pretended and a clock that stands until it is moved."""

from collections.abc import Callable, Iterator

import pytest

from celery import signals
from celery.worker import heartbeat
from celery.worker.heartbeat import BEATS_PER_LEASE, Heartbeat


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Rows:
    """The table of workers: owner -> (name, counter, lease)."""

    def __init__(self) -> None:
        self.rows = {"me": ("me", 0, 30.0)}
        self.is_away = False
        self.pokes = 0
        self.on_retire: Callable[[str], None] = lambda owner: None

    def renew(self, owner: str) -> bool:
        if self.is_away:
            raise OSError("the database is away")
        if owner not in self.rows:
            return False
        self.count(owner)
        return True

    def count(self, owner: str) -> None:
        name, counter, lease = self.rows[owner]
        self.rows[owner] = (name, counter + 1, lease)

    def census(self) -> list[tuple[str, str, int, float]]:
        return [(owner, *row) for owner, row in self.rows.items()]

    def retire(self, owner: str, *, counter: int) -> int:
        self.on_retire(owner)
        if self.rows[owner][1] != counter:
            return -1
        del self.rows[owner]
        return 5

    def poke(self) -> None:
        self.pokes += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    return clock


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def mine(rows: Rows, clock: Clock) -> Heartbeat:
    return Heartbeat(rows, "me", 30.0)  # type: ignore[arg-type]


@pytest.fixture
def lost() -> Iterator[list[str]]:
    names: list[str] = []

    def note(name: str, **_: object) -> None:
        names.append(name)

    signals.worker_lost.connect(note)
    yield names
    signals.worker_lost.disconnect(note)


def _live(mine: Heartbeat, clock: Clock, rounds: int) -> None:
    for _ in range(rounds):
        clock.now += mine.interval
        assert mine.beat()


def test_it_beats_three_times_a_lease(mine: Heartbeat) -> None:
    assert mine.interval == 30.0 / BEATS_PER_LEASE


def test_it_counts_its_own_row(mine: Heartbeat, rows: Rows, clock: Clock) -> None:
    # when
    _live(mine, clock, 3)

    # then
    assert rows.rows["me"][1] == 3


def test_it_tells_that_its_row_is_gone(mine: Heartbeat, rows: Rows) -> None:
    # when
    rows.rows.clear()

    # then
    assert mine.beat() is False


def test_a_worker_whose_counter_stands_still_for_its_lease_is_taken_over(
    mine: Heartbeat, rows: Rows, clock: Clock, lost: list[str]
) -> None:
    # given
    rows.rows["other"] = ("the other", 7, 30.0)

    # when
    _live(mine, clock, 1 + BEATS_PER_LEASE - 1)

    # then
    assert "other" in rows.rows

    # when
    _live(mine, clock, 1)

    # then
    assert "other" not in rows.rows
    assert lost == ["the other"]
    assert rows.pokes == 1


def test_a_worker_that_counts_is_left_alone(mine: Heartbeat, rows: Rows, clock: Clock) -> None:
    # given
    rows.rows["other"] = ("the other", 7, 30.0)

    # when
    for _ in range(20):
        _live(mine, clock, 2)
        rows.count("other")

    # then
    assert "other" in rows.rows


def test_each_worker_is_judged_by_its_own_lease(mine: Heartbeat, rows: Rows, clock: Clock) -> None:
    # given
    rows.rows |= {"patient": ("patient", 0, 300.0), "hasty": ("hasty", 0, 10.0)}

    # when
    _live(mine, clock, 1 + BEATS_PER_LEASE)

    # then
    assert set(rows.rows) == {"me", "patient"}


def test_nobody_is_dead_because_the_database_was_away(mine: Heartbeat, rows: Rows, clock: Clock) -> None:
    # given
    rows.rows["other"] = ("the other", 7, 30.0)
    _live(mine, clock, 1)

    # when
    rows.is_away = True
    for _ in range(20):
        clock.now += mine.interval
        with pytest.raises(OSError, match="away"):
            mine.beat()
    rows.is_away = False
    _live(mine, clock, 1)

    # then
    assert "other" in rows.rows


def test_nobody_is_dead_because_we_stood_still(mine: Heartbeat, rows: Rows, clock: Clock) -> None:
    # given
    rows.rows["other"] = ("the other", 7, 30.0)
    _live(mine, clock, 1)

    # when
    clock.now += 3600
    _live(mine, clock, 1)

    # then
    assert "other" in rows.rows


def test_a_worker_that_counts_at_the_last_moment_keeps_its_row(
    mine: Heartbeat, rows: Rows, clock: Clock, lost: list[str]
) -> None:
    # given
    rows.rows["other"] = ("the other", 7, 30.0)
    rows.on_retire = rows.count

    # when
    _live(mine, clock, BEATS_PER_LEASE + 1)

    # then
    assert "other" in rows.rows
    assert lost == []


def test_a_worker_that_another_one_took_over_is_forgotten(mine: Heartbeat, rows: Rows, clock: Clock) -> None:
    # given
    rows.rows["other"] = ("the other", 7, 30.0)
    _live(mine, clock, 2)

    # when
    del rows.rows["other"]
    _live(mine, clock, 5)

    # then
    assert mine._seen == {}


def test_a_worker_with_a_much_shorter_lease_is_not_taken_over_at_first_sight(rows: Rows, clock: Clock) -> None:
    # given
    patient = Heartbeat(rows, "me", 600.0)  # type: ignore[arg-type]
    rows.rows["hasty"] = ("hasty", 0, 30.0)

    # when
    for _ in range(20):
        rows.count("hasty")
        _live(patient, clock, 1)

    # then
    assert "hasty" in rows.rows

    # when
    _live(patient, clock, BEATS_PER_LEASE)

    # then
    assert "hasty" not in rows.rows


@pytest.mark.parametrize(("ours", "theirs"), [(30.0, 600.0), (21.0, 30.0), (31.0, 31.0)])
def test_nobody_is_taken_over_before_the_lease_is_over(
    rows: Rows, clock: Clock, lost: list[str], ours: float, theirs: float
) -> None:
    """The other one's children start what they hold for as long as that."""
    # given
    mine = Heartbeat(rows, "me", ours)  # type: ignore[arg-type]
    rows.rows["other"] = ("the other", 7, theirs)
    _live(mine, clock, 1)
    seen_at = clock.now

    # when
    while not lost:
        _live(mine, clock, 1)

    # then
    assert theirs - 0.5 < clock.now - seen_at < theirs + mine.interval
