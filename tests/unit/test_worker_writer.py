"""The writer thread of a child, with writes that are only pretended."""

import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from celery import states
from celery.message import Delivery
from celery.worker import channel, chore, job, writer
from celery.worker.job import Consequences, Job, Outcome
from celery.worker.writer import LARGEST_GROUP, MOST_TEXT, MOST_WAITING, REFUSED_PAUSE, Writer
from celery.worker.writes import Planned
from tests.helpers import eventually


def _done(number: int) -> Outcome:
    delivery = Delivery(f"id {number}", 1, "celery", 0, "", b"{}", number)
    return Outcome(job=Job(number, 0, delivery), kind=states.DONE, ended_at=datetime.now(UTC))


class Store:
    """Where groups go; it may be held up, or break."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.is_open = threading.Event()
        self.error: BaseException | None = None

    def write(self, group: Sequence[Outcome], *, owner: str, worker: str, again: bool) -> Planned:
        self.is_open.wait(10)
        if self.error:
            raise self.error
        self.groups.append(len(group))
        return [(outcome, Consequences(None, None, job.LOST)) for outcome in group]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(writer, "writes", made)
    return made


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = channel.pair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def writing(store: Store, ends: tuple[socket.socket, socket.socket]) -> Iterator[Writer]:
    made = Writer(ends[0], owner="owner", worker="worker")
    yield made
    store.is_open.set()
    if made.is_alive():
        made.stop()


def _answered(end: socket.socket) -> list[int]:
    numbers = []
    while received := channel.receive(end, wait=False):
        numbers += [number for number, _ in job.unpack_answers(received[0])]
    return numbers


def test_what_has_finished_during_a_write_is_one_group_and_all_is_written_at_the_end(
    writing: Writer, store: Store, ends: tuple[socket.socket, socket.socket]
) -> None:
    # given
    for number in range(1, LARGEST_GROUP + 11):
        writing.put(_done(number))

    # when
    store.is_open.set()
    writing.start()
    writing.stop()

    # then
    assert store.groups == [LARGEST_GROUP, 10]
    assert _answered(ends[1]) == list(range(1, LARGEST_GROUP + 11))


def test_a_child_runs_no_further_task_while_very_much_is_unwritten(writing: Writer, store: Store) -> None:
    # given
    def fill() -> None:
        for number in range(1, MOST_WAITING + 2):
            writing.put(_done(number))

    working = threading.Thread(target=fill, name="tasks")

    # when
    working.start()
    eventually(lambda: len(writing._waiting) == MOST_WAITING)

    # then
    assert working.is_alive()

    # when
    store.is_open.set()
    writing.start()
    working.join(10)

    # then
    assert not working.is_alive()


def test_a_dispatcher_that_is_gone_keeps_nothing_from_being_written(
    writing: Writer, store: Store, ends: tuple[socket.socket, socket.socket]
) -> None:
    # given
    ends[1].close()
    writing.put(_done(1))

    # when
    store.is_open.set()
    writing.start()
    writing.stop()

    # then
    assert store.groups == [1]


def test_a_writer_that_breaks_ends_its_child_as_its_jobs_would_wait_for_ever(
    writing: Writer, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    codes: list[int] = []
    monkeypatch.setattr(writer, "os", SimpleNamespace(_exit=codes.append))
    store.error = SystemExit("what no row can be blamed for")
    store.is_open.set()

    # when
    writing.put(_done(1))
    writing.run()

    # then
    assert codes == [1]
    assert [record.getMessage() for record in caplog.records] == ["The writer failed; its child ends."]


def test_a_child_runs_no_further_task_while_very_large_results_are_unwritten(writing: Writer, store: Store) -> None:
    # given
    large = replace(_done(1), result="x" * (MOST_TEXT // 2))

    def fill() -> None:
        for _ in range(3):
            writing.put(large)

    working = threading.Thread(target=fill, name="tasks")

    # when
    working.start()
    eventually(lambda: len(writing._waiting) == 2)

    # then
    assert working.is_alive()

    # when
    store.is_open.set()
    writing.start()
    working.join(10)

    # then
    assert not working.is_alive()
    writing.stop()
    assert writing._text == 0


class Refusing:
    """Where groups go; `errors` are raised first, one a try, and dropping the connection is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
        self.tries: list[tuple[int, str, bool]] = []
        self._errors = list(errors)
        monkeypatch.setattr(writer, "writes", self)
        monkeypatch.setattr(writer, "drop_connections", lambda: self.tries.append((0, "dropped", False)))

    def write(self, group: Sequence[Outcome], *, owner: str, worker: str, again: bool) -> Planned:
        self.tries.append((len(group), group[0].kind, again))
        if self._errors:
            raise self._errors.pop(0)
        return [(outcome, Consequences(None, None, job.LOST)) for outcome in group]


def test_an_odd_error_is_blamed_on_the_connection_before_it_is_blamed_on_a_row(
    writing: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drivers say strange things of a connection that was cut in the middle of an answer."""
    # given
    refusing = Refusing(monkeypatch, AttributeError("'NoneType' object has no attribute 'read'"))

    # when
    writing._store([_done(1)])

    # then
    assert refusing.tries == [(1, states.DONE, False), (0, "dropped", False), (1, states.DONE, False)]


def test_what_is_refused_in_every_form_is_tried_again_later_as_it_was(
    writing: Writer, monkeypatch: pytest.MonkeyPatch, ends: tuple[socket.socket, socket.socket]
) -> None:
    """It may be the world: a trigger, a missing partition. The others go on meanwhile."""
    # given
    refusing = Refusing(monkeypatch, *[ValueError("no partition for this row")] * 3)
    now = [1000.0]
    monkeypatch.setattr(writer, "time", SimpleNamespace(monotonic=lambda: now[0]))
    writing._store([_done(1)])
    assert [kind for _, kind, _ in refusing.tries if kind != "dropped"] == [states.DONE, states.DONE, states.FAILURE]

    # when
    writing.put(_done(2))
    writing._store(writing._next_group())

    # then
    assert _answered(ends[1]) == [2]

    # when
    now[0] += REFUSED_PAUSE
    writing._store(writing._next_group())

    # then
    assert _answered(ends[1]) == [1]
    assert refusing.tries[-1] == (1, states.DONE, False)


def test_what_is_refused_is_tried_once_more_at_the_end_and_then_left(
    writing: Writer, monkeypatch: pytest.MonkeyPatch, ends: tuple[socket.socket, socket.socket]
) -> None:
    # given
    refusing = Refusing(monkeypatch, *[ValueError("no partition for this row")] * 6)
    writing._store([_done(1)])

    # when
    writing.start()
    writing.stop()

    # then
    assert [kind for _, kind, _ in refusing.tries].count(states.FAILURE) == 2
    assert _answered(ends[1]) == []


def test_a_second_try_is_said_to_be_one(writing: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    refusing = Refusing(monkeypatch, OSError("away"))
    monkeypatch.setattr(chore, "FIRST_PAUSE", 0.0)

    # when
    writing._store([_done(1)])

    # then
    assert [again for *_, again in refusing.tries] == [False, True]
