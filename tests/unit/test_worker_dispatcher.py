"""The dispatcher's bookkeeping, with a consumer and errands that are only pretended."""

import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack

import pytest

from celery.broker.base import Consumer
from celery.message import Delivery
from celery.worker import channel, errands, job
from celery.worker.crew import Held, Member
from celery.worker.dispatcher import Dispatcher
from celery.worker.slots import Slots


class Pretended(Consumer):
    """Hands out what the test puts there."""

    errors = (ConnectionError,)
    forgets = True

    def __init__(self) -> None:
        self.ready: list[Delivery] = []
        self.settled: list[Delivery] = []

    def connect(self, rows_in_hand: Collection[int] = ()) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def take(self, limit: int) -> list[Delivery]:
        taken, self.ready = self.ready[:limit], self.ready[limit:]
        return taken

    def next_poll(self) -> float:
        return 0.0

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        self.settled += deliveries

    def close(self) -> None:
        pass


@pytest.fixture
def consumer() -> Pretended:
    return Pretended()


@pytest.fixture
def control() -> Iterator[socket.socket]:
    ours, theirs = channel.pair()
    with ours, theirs:
        yield theirs


@pytest.fixture
def dispatcher(consumer: Pretended, control: socket.socket) -> Iterator[Dispatcher]:
    made = Dispatcher(consumer, control, Slots(2), 2)
    yield made
    made._selector.close()


def _copies(count: int) -> list[Delivery]:
    return [Delivery("same id", 1, "celery", 0, "", b"{}", 0, (1, tag), suspect=True) for tag in range(count)]


def _asked(dispatcher: Dispatcher) -> list[str]:
    return [kind for kind, _, _ in dispatcher._errands._open.values()]


def _examined(dispatcher: Dispatcher) -> None:
    """Answer the errand that is open: the attempt is closed, settle."""
    ((number, (kind, held, _)),) = dispatcher._errands._open.items()
    assert kind == errands.EXAMINE
    del dispatcher._errands._open[number]
    dispatcher._obey(kind, held, errands.SETTLE, 0)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_copies_of_one_message_are_looked_at_one_after_the_other(
    dispatcher: Dispatcher, consumer: Pretended, count: int
) -> None:
    """A copy waits while its id runs here; when that has ended, one of those that wait must go on."""
    # given
    dispatcher._accept(_copies(count), 0.0)
    assert _asked(dispatcher) == [errands.EXAMINE]

    # when
    for _ in range(count):
        _examined(dispatcher)

    # then
    assert len(consumer.settled) in {0, count}
    assert dispatcher._held == {}
    assert _asked(dispatcher) == []


# Suspects, with children that the test plays


class Child:
    """A child that the test plays."""

    def __init__(self, dispatcher: Dispatcher, index: int) -> None:
        self._dispatcher = dispatcher
        ours, self.end = channel.pair()
        self.member = Member(index, 1000 + index, ours, self.end.dup())
        dispatcher._crew.members[index] = self.member
        dispatcher._watch(ours, lambda: dispatcher._hear_member(self.member))

    def takes(self) -> job.Job | None:
        """Take a job out of the channel, if there is one."""
        received = channel.receive(self.end, wait=False)
        return job.unpack(received[0]) if received else None

    def answers(self, number: int, answer: int = job.SETTLE) -> None:
        channel.send(self.end, [job.pack_answers([(number, answer)])])
        self._dispatcher._hear_member(self.member)

    def dies(self, running: int = 0) -> None:
        self._dispatcher._bury_member(self.member.index, "signal 9 (SIGKILL)", running)


Hire = Callable[[], Child]


@pytest.fixture
def hire(dispatcher: Dispatcher) -> Iterator[Hire]:
    """Give the dispatcher one more child."""
    with ExitStack() as stack:

        def hire() -> Child:
            child = Child(dispatcher, len(dispatcher._crew.members))
            stack.callback(child.end.close)
            stack.callback(child.member.close)
            return child

        yield hire


def _row(row_id: int, **fields: object) -> Delivery:
    known = Delivery(f"id {row_id}", 1, "celery", 0, "", b"{}", row_id, suspect=True)
    return known._replace(**fields)  # type: ignore[arg-type]


def _open(dispatcher: Dispatcher, kind: str) -> list[Held]:
    """Return the jobs with an open errand of this kind."""
    return [held for asked, held, _ in dispatcher._errands._open.values() if asked == kind]


def _answer(dispatcher: Dispatcher, held: Held, verdict: str, row_id: int = 0) -> None:
    kind, *_ = dispatcher._errands._open.pop(held.number)
    dispatcher._obey(kind, held, verdict, row_id)
    dispatcher._hand_out()


def _bring(dispatcher: Dispatcher, *deliveries: Delivery) -> None:
    """Bring suspects that were examined and may run."""
    dispatcher._accept(deliveries, 0.0)
    for held in _open(dispatcher, errands.EXAMINE):
        _answer(dispatcher, held, errands.RUN, held.delivery.row_id)


def _start(dispatcher: Dispatcher, child: Child, *deliveries: Delivery) -> list[int]:
    """Bring ordinary jobs, and have the child run the first."""
    dispatcher._accept([delivery._replace(suspect=False) for delivery in deliveries], 0.0)
    dispatcher._hand_out()
    running = child.takes()
    assert running is not None
    return [running.number, *(number for number in child.member.held if number != running.number)]


def test_suspects_that_wait_in_line_are_not_marked(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    _start(dispatcher, child, _row(100))

    # when
    _bring(dispatcher, *[_row(number) for number in range(1, 6)])
    for _ in range(5):
        dispatcher._hand_out()

    # then
    assert _asked(dispatcher) == []
    assert [held.delivery.row_id for held in dispatcher._suspects] == [1, 2, 3, 4, 5]


def test_only_as_many_suspects_are_marked_as_children_are_free(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    children = [hire(), hire()]

    # when
    _bring(dispatcher, *[_row(number) for number in range(1, 6)])

    # then
    assert [held.delivery.row_id for held in _open(dispatcher, errands.MARK)] == [1, 2]
    assert [child.takes() for child in children] == [None, None]


def test_a_suspect_is_handed_over_once_it_is_marked(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    _bring(dispatcher, _row(1), _row(2))
    (first,) = _open(dispatcher, errands.MARK)

    # when
    _answer(dispatcher, first, errands.RUN)

    # then
    taken = child.takes()
    assert taken is not None
    assert taken.delivery.row_id == 1
    assert first.marked
    assert _asked(dispatcher) == []

    # when
    child.answers(taken.number)
    dispatcher._hand_out()

    # then
    assert [held.delivery.row_id for held in _open(dispatcher, errands.MARK)] == [2]


def test_a_child_that_waits_for_a_suspect_gets_nothing_else(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    _bring(dispatcher, _row(1))

    # when
    dispatcher._accept([_row(9, suspect=False)], 0.0)
    dispatcher._hand_out()

    # then
    assert child.takes() is None

    # when
    (suspect,) = _open(dispatcher, errands.MARK)
    _answer(dispatcher, suspect, errands.RUN)
    taken = child.takes()

    # then
    assert taken is not None
    assert (taken.delivery.row_id, child.takes()) == (1, None)


def test_a_suspect_that_is_not_ours_any_more_leaves_its_child_to_others(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    _bring(dispatcher, _row(1))
    dispatcher._accept([_row(9, suspect=False)], 0.0)

    # when
    (suspect,) = _open(dispatcher, errands.MARK)
    _answer(dispatcher, suspect, errands.SETTLE)

    # then
    taken = child.takes()
    assert taken is not None
    assert (taken.delivery.row_id, child.takes()) == (9, None)
    assert suspect.number not in dispatcher._held


def test_a_suspect_whose_child_died_meanwhile_is_marked_once(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    first = hire()
    _bring(dispatcher, _row(1))
    (suspect,) = _open(dispatcher, errands.MARK)

    # when
    first.dies()
    _answer(dispatcher, suspect, errands.RUN)
    second = hire()
    dispatcher._hand_out()

    # then
    taken = second.takes()
    assert taken is not None
    assert taken.delivery.row_id == 1
    assert _asked(dispatcher) == []


def test_the_death_of_a_waiting_child_is_not_counted_against_its_suspect(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    _bring(dispatcher, _row(1))

    # when
    child.dies()

    # then
    assert _asked(dispatcher) == [errands.MARK]


def test_a_suspect_that_was_marked_while_the_worker_stops_is_given_back_with_its_mark_off(
    dispatcher: Dispatcher, hire: Hire
) -> None:
    # given
    child = hire()
    _bring(dispatcher, _row(1), _row(2))
    (suspect,) = _open(dispatcher, errands.MARK)

    # when
    dispatcher._drain()
    _answer(dispatcher, suspect, errands.RUN)

    # then
    assert child.takes() is None
    released = _open(dispatcher, errands.RELEASE)
    assert sorted((held.delivery.row_id, held.marked) for held in released) == [(1, True), (2, False)]


def test_a_marked_suspect_that_kills_its_child_is_told_so_with_its_mark(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    _bring(dispatcher, _row(1))
    (suspect,) = _open(dispatcher, errands.MARK)
    _answer(dispatcher, suspect, errands.RUN)
    child.takes()

    # when
    child.dies(running=suspect.number)

    # then
    assert _open(dispatcher, errands.CRASHED) == [suspect]
    assert suspect.marked


# Copies, and a stop


def test_copies_that_wait_are_given_back_when_the_worker_stops(dispatcher: Dispatcher) -> None:
    # given
    dispatcher._accept([_row(number, task_id="same id") for number in (1, 2, 3)], 0.0)
    assert _asked(dispatcher) == [errands.EXAMINE]

    # when
    dispatcher._drain()
    (first,) = _open(dispatcher, errands.EXAMINE)
    _answer(dispatcher, first, errands.RUN, 1)

    # then
    assert sorted(held.delivery.row_id for held in _open(dispatcher, errands.RELEASE)) == [1, 2, 3]

    # when
    for held in _open(dispatcher, errands.RELEASE):
        _answer(dispatcher, held, errands.SETTLE)

    # then
    assert dispatcher._held == {}


def test_a_copy_goes_on_when_the_one_in_a_child_has_ended(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    (running,) = _start(dispatcher, child, _row(1, task_id="same id"))
    dispatcher._accept([_row(2, task_id="same id")], 0.0)
    assert _asked(dispatcher) == []

    # when
    child.answers(running)

    # then
    assert [held.delivery.row_id for held in _open(dispatcher, errands.EXAMINE)] == [2]


# What children answer


def test_what_was_lost_to_others_is_forgotten(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    (running,) = _start(dispatcher, child, _row(1))

    # when
    child.answers(running, job.LOST)

    # then
    assert dispatcher._held == {}
    assert _asked(dispatcher) == []


def test_what_runs_at_most_once_is_handed_over_again_when_its_row_is_gone(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    (running,) = _start(dispatcher, child, _row(1))

    # when
    child.answers(running, job.UNRUN)
    (held,) = _open(dispatcher, errands.FINISH)
    assert child.takes() is None
    _answer(dispatcher, held, errands.RUN)

    # then
    taken = child.takes()
    assert taken is not None
    assert (taken.number, taken.flags, taken.delivery.row_id) == (running, job.SETTLED, 0)


def test_what_runs_at_most_once_is_not_run_but_told_of_when_its_settling_is_not_certain(
    dispatcher: Dispatcher, hire: Hire
) -> None:
    """The row was deleted in the name of an errand whose answer was lost, or others have it: nobody can tell."""
    # given
    child = hire()
    (running,) = _start(dispatcher, child, _row(1))

    # when
    child.answers(running, job.UNRUN)
    (held,) = _open(dispatcher, errands.FINISH)
    _answer(dispatcher, held, errands.SETTLE)

    # then
    assert child.takes() is None
    ((kind, asked, detail),) = dispatcher._errands._open.values()
    assert (kind, asked) == (errands.ABANDONED, held)
    assert "not certain" in detail

    # when
    _answer(dispatcher, held, errands.SETTLE)

    # then
    assert dispatcher._held == {}
