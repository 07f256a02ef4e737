"""The dispatcher's bookkeeping, with a consumer and errands that are only pretended."""

import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack

import pytest

from celery.broker.base import Consumer
from celery.message import Delivery
from celery.worker import channel, errands, job
from celery.worker.crew import Held, Member
from celery.worker.dispatcher import DIED, DRAIN, OVERDUE, READY, STEWARD, Dispatcher
from celery.worker.job import MOST_STARTS
from celery.worker.parking import PARK_AFTER
from celery.worker.slots import Slots
from celery.worker.suspects import LARGEST_GROUP


class Pretended(Consumer):
    """Hands out what the test puts there."""

    errors = (ConnectionError,)
    forgets = True

    def __init__(self) -> None:
        self.ready: list[Delivery] = []
        self.settled: list[Delivery] = []
        self.given_back: list[Delivery] = []
        self.is_away = False

    def connect(self, rows_in_hand: Collection[int] = ()) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def take(self, limit: int) -> list[Delivery]:
        if self.is_away:
            raise ConnectionError("away")
        taken, self.ready = self.ready[:limit], self.ready[limit:]
        return taken

    def next_poll(self) -> float:
        return 0.0

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        self.settled += deliveries

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        self.given_back += deliveries

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
    made._errands.close()
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

    def dies(self, running: int = 0, *, word: str = DIED) -> None:
        self._dispatcher._bury_member(word, self.member.index, "signal 9 (SIGKILL)", running)


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


def _bring_together(dispatcher: Dispatcher, *deliveries: Delivery) -> None:
    """Bring suspects whose answers come in one turn of the loop."""
    dispatcher._accept(deliveries, 0.0)
    for held in _open(dispatcher, errands.EXAMINE):
        del dispatcher._errands._open[held.number]
        dispatcher._obey(errands.EXAMINE, held, errands.RUN, held.delivery.row_id)
    dispatcher._hand_out()


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
    assert [held.delivery.row_id for held in dispatcher._suspects._waiting] == [1, 2, 3, 4, 5]


def test_only_as_many_suspects_are_marked_as_children_are_free(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    children = [hire(), hire()]

    # when
    _bring(dispatcher, *[_row(number) for number in range(1, 6)])

    # then
    assert [held.delivery.row_id for held in _open(dispatcher, errands.MARK)] == [1, 2]
    assert [child.takes() for child in children] == [None, None]


def test_suspects_without_a_mark_share_a_child_and_one_with_a_mark_has_it_to_itself(
    dispatcher: Dispatcher, hire: Hire
) -> None:
    # given
    child = hire()
    fresh = [_row(number)._replace(starts=0) for number in range(1, LARGEST_GROUP + 9)]
    marked = _row(900)._replace(starts=1)

    # when
    _bring_together(dispatcher, *fresh, marked)
    together = _open(dispatcher, errands.MARK)

    # then
    assert [held.delivery.row_id for held in together] == list(range(1, LARGEST_GROUP + 1))

    # when
    for held in together:
        _answer(dispatcher, held, errands.RUN)
    dispatcher._accept([_row(901)._replace(suspect=False)], 0.0)
    dispatcher._hand_out()

    # then
    assert [taken.delivery.row_id for taken in iter(child.takes, None)] == list(range(1, LARGEST_GROUP + 1))

    # when
    for held in together:
        child.answers(held.number)
    dispatcher._hand_out()
    rest = _open(dispatcher, errands.MARK)
    for held in rest:
        _answer(dispatcher, held, errands.RUN)
        child.answers(held.number)
    dispatcher._hand_out()

    # then
    assert [held.delivery.row_id for held in rest] == list(range(LARGEST_GROUP + 1, LARGEST_GROUP + 9))
    assert [held.delivery.row_id for held in _open(dispatcher, errands.MARK)] == [900]


def test_a_suspect_on_its_last_chance_runs_beside_no_other_one(dispatcher: Dispatcher, hire: Hire) -> None:
    """It would be dead for what another one did to the worker."""
    # given
    first, second = hire(), hire()
    last = [_row(number)._replace(starts=MOST_STARTS - 1) for number in (1, 2)]
    other = _row(3)._replace(starts=1)

    for expected in (1, 2, 3):
        # when
        if expected == 1:
            _bring_together(dispatcher, *last, other)
        (held,) = _open(dispatcher, errands.MARK)
        _answer(dispatcher, held, errands.RUN)

        # then
        assert held.delivery.row_id == expected
        assert _open(dispatcher, errands.MARK) == []

        # when
        child = first if first.member.held else second
        assert child.takes() is not None
        child.answers(held.number)
        dispatcher._hand_out()


def test_a_child_whose_first_suspect_has_ended_still_waits_for_those_that_are_being_marked(
    dispatcher: Dispatcher, hire: Hire
) -> None:
    # given
    child = hire()
    _bring_together(dispatcher, *[_row(number)._replace(starts=0) for number in (1, 2)])
    first, second = _open(dispatcher, errands.MARK)

    # when
    _answer(dispatcher, first, errands.RUN)
    child.answers(first.number)

    # then
    assert child.member.works_alone

    # when
    _answer(dispatcher, second, errands.SETTLE)

    # then
    assert not child.member.works_alone


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


def test_a_suspect_that_cannot_be_handed_over_now_is_handed_over_later(
    dispatcher: Dispatcher, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor was left for its body, say."""
    # given
    child = hire()
    _bring(dispatcher, _row(1), _row(2))
    (first,) = _open(dispatcher, errands.MARK)

    # when
    with monkeypatch.context() as no_descriptors:
        no_descriptors.setattr(child.member, "hand_over", lambda _: False)
        _answer(dispatcher, first, errands.RUN)

    # then
    assert child.takes() is None

    # when
    dispatcher._hand_out()

    # then
    assert [taken.number for taken in iter(child.takes, None)] == [first.number]


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


def test_what_runs_at_most_once_is_handed_over_again_when_its_row_is_marked(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    (running,) = _start(dispatcher, child, _row(1))

    # when
    child.answers(running, job.UNRUN)
    (held,) = _open(dispatcher, errands.START_ONCE)
    assert child.takes() is None
    _answer(dispatcher, held, errands.RUN)

    # then
    taken = child.takes()
    assert taken is not None
    assert (taken.number, taken.flags, taken.delivery.row_id) == (running, job.SETTLED, 1)


def test_what_runs_at_most_once_is_left_to_others_who_have_its_row(dispatcher: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    (running,) = _start(dispatcher, child, _row(1))

    # when
    child.answers(running, job.UNRUN)
    (held,) = _open(dispatcher, errands.START_ONCE)
    _answer(dispatcher, held, errands.SETTLE)

    # then
    assert child.takes() is None
    assert dispatcher._held == {}
    assert _asked(dispatcher) == []


# Beside a broker whose connection can be lost


def _tag(tag: int, **fields: object) -> Delivery:
    known = Delivery(f"id {tag}", 1, "celery", 0, "", b"{}", 0, (1, tag))
    return known._replace(**fields)  # type: ignore[arg-type]


@pytest.fixture
def connected(dispatcher: Dispatcher) -> Dispatcher:
    """Be connected, with errands that nobody does yet."""
    dispatcher._turn(0.0)
    return dispatcher


def _lose(dispatcher: Dispatcher, consumer: Pretended) -> None:
    consumer.is_away = True
    dispatcher._intake.take(float("inf"), free=1, window=1)


def _words(control: socket.socket) -> list[str]:
    said = []
    while heard := channel.listen(control):
        said.append(heard[0][0])
    return said


@pytest.fixture
def supervisor(dispatcher: Dispatcher) -> Iterator[socket.socket]:
    """The supervisor's end of the channel."""
    dispatcher._control.close()
    ours, theirs = channel.pair()
    dispatcher._control = theirs
    with ours, theirs:
        yield ours


def test_it_says_that_it_is_ready_once_however_often_it_connects(
    dispatcher: Dispatcher, consumer: Pretended, supervisor: socket.socket
) -> None:
    # given
    dispatcher._turn(0.0)
    _lose(dispatcher, consumer)

    # when
    consumer.is_away = False
    dispatcher._turn(float("inf"))

    # then
    assert _words(supervisor) == [READY]


def test_a_lost_connection_takes_along_what_no_child_has_started(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    running, waiting = _start(connected, child, _tag(1), _tag(2))
    connected._accept([_row(3, suspect=False)], 0.0)
    connected._accept([_tag(4)], 0.0)

    # when
    _lose(connected, consumer)

    # then
    assert sorted(held.delivery.task_id for held in connected._held.values()) == ["id 1", "id 3"]
    assert waiting not in connected._held

    # when
    connected._hand_out()
    child.answers(running)

    # then
    taken = child.takes()
    assert taken is not None
    assert taken.delivery.row_id == 3
    assert consumer.settled == []


def test_a_suspect_whose_start_is_marked_is_kept_when_the_connection_is_lost(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    """Its row is ours, and has to go to a child that has nothing else."""
    # given
    child = hire()
    _bring(connected, _row(1))
    (suspect,) = _open(connected, errands.MARK)
    _answer(connected, suspect, errands.RUN)

    # when
    _lose(connected, consumer)

    # then
    assert list(connected._suspects._waiting) == [suspect]
    assert child.takes() is None


def test_an_answer_for_a_job_that_is_forgotten_is_ignored(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))

    # when
    child.answers(running)
    child.answers(running)

    # then
    assert [delivery.task_id for delivery in consumer.settled] == ["id 1"]
    assert connected._held == {}


def test_a_job_that_a_child_comes_back_with_late_is_started_again_or_left_to_others(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))

    # when
    child.answers(running, job.LATE)
    connected._hand_out()

    # then
    taken = child.takes()
    assert taken is not None
    assert taken.number == running

    # when
    _lose(connected, consumer)
    child.answers(running, job.LATE)
    connected._hand_out()

    # then
    assert child.takes() is None
    assert connected._held == {}
    assert consumer.settled == []


def test_a_job_that_a_child_comes_back_with_late_is_given_back_when_the_worker_stops(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))
    connected._drain()

    # when
    child.answers(running, job.LATE)

    # then
    assert [delivery.task_id for delivery in consumer.given_back] == ["id 1"]
    assert connected._held == {}


def test_a_job_that_was_parked_meanwhile_and_comes_back_late_is_started_again(
    connected: Dispatcher, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))
    _answer(connected, _park(connected), errands.RUN, row_id=77)

    # when
    child.answers(running, job.LATE)
    connected._hand_out()

    # then
    taken = child.takes()
    assert taken is not None
    assert (taken.number, taken.delivery.row_id) == (running, 77)


def test_what_runs_at_most_once_is_acknowledged_once_it_has_a_row_and_is_handed_over_again(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))

    # when
    child.answers(running, job.UNRUN)
    (held,) = _open(connected, errands.START_ONCE)

    # then
    assert consumer.settled == []

    # when
    _answer(connected, held, errands.RUN, row_id=77)

    # then
    assert [delivery.task_id for delivery in consumer.settled] == ["id 1"]
    taken = child.takes()
    assert taken is not None
    assert (taken.number, taken.flags, taken.delivery.row_id) == (running, job.SETTLED, 77)


def test_what_runs_at_most_once_and_is_over_or_in_other_hands_is_acknowledged_and_not_run(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))

    # when
    child.answers(running, job.UNRUN)
    (held,) = _open(connected, errands.START_ONCE)
    _answer(connected, held, errands.SETTLE)

    # then
    assert [delivery.task_id for delivery in consumer.settled] == ["id 1"]
    assert child.takes() is None
    assert connected._held == {}


def test_of_two_copies_that_must_run_at_most_once_one_runs_though_neither_came_as_a_suspect(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    """The steward finds the row of the first, which is ours, and cannot tell the second from the first asked again."""
    # given
    child = hire()
    first, second = _start(connected, child, _tag(1), _tag(2, task_id=_tag(1).task_id))
    child.takes()
    for number in (first, second):
        child.answers(number, job.UNRUN)

    # when
    for held in _open(connected, errands.START_ONCE):
        _answer(connected, held, errands.RUN, row_id=77)

    # then
    assert [taken.number for taken in iter(child.takes, None)] == [first]
    assert [delivery.tag for delivery in consumer.settled] == [_tag(1).tag, _tag(2).tag]
    assert list(connected._held) == [first]


# Parking


def _park(dispatcher: Dispatcher) -> Held:
    """Find that the one job in hand has run for very long."""
    dispatcher._parking._look_at = 0.0
    dispatcher._turn(PARK_AFTER + 1)
    (held,) = _open(dispatcher, errands.PARK)
    return held


def test_only_what_has_run_for_very_long_and_has_no_row_is_parked_and_only_once(
    connected: Dispatcher, hire: Hire
) -> None:
    # given
    children = [hire(), hire(), hire()]
    connected._accept([_tag(1), _row(2, suspect=False)], 0.0)
    connected._accept([_tag(3)], PARK_AFTER)
    connected._hand_out()
    assert all(child.takes() for child in children)

    # when
    held = _park(connected)
    connected._turn(connected._parking._look_at - 0.1)
    connected._turn(connected._parking._look_at)

    # then
    assert held.delivery.task_id == "id 1"
    assert [asked for asked in _asked(connected) if asked != errands.PARK] == []


def test_a_parked_job_is_acknowledged_once_it_has_a_row_and_the_row_is_deleted_in_the_end(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))
    held = _park(connected)
    assert consumer.settled == []

    # when
    _answer(connected, held, errands.RUN, row_id=77)

    # then
    assert [delivery.task_id for delivery in consumer.settled] == ["id 1"]
    assert (held.delivery.tag, held.delivery.row_id) == (None, 77)
    assert _asked(connected) == []

    # when
    child.answers(running)

    # then
    assert _open(connected, errands.FINISH) == [held]

    # when
    _answer(connected, held, errands.RUN)

    # then
    assert connected._held == {}
    assert len(consumer.settled) == 1


def test_a_job_that_ends_while_it_is_being_parked_is_finished_after_that(connected: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))
    held = _park(connected)

    # when
    child.answers(running)

    # then
    assert _asked(connected) == [errands.PARK]

    # when
    _answer(connected, held, errands.RUN, row_id=77)

    # then
    assert _open(connected, errands.FINISH) == [held]


def test_a_job_that_must_run_at_most_once_is_settled_after_it_was_parked(connected: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))
    held = _park(connected)

    # when
    child.answers(running, job.UNRUN)
    _answer(connected, held, errands.RUN, row_id=77)

    # then
    assert _open(connected, errands.START_ONCE) == [held]

    # when
    _answer(connected, held, errands.RUN)

    # then
    taken = child.takes()
    assert taken is not None
    assert (taken.number, taken.flags) == (running, job.SETTLED)


def test_a_child_that_dies_while_its_job_is_being_parked_is_told_of_after_that(
    connected: Dispatcher, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))
    held = _park(connected)

    # when
    child.dies(running)

    # then
    assert _asked(connected) == [errands.PARK]

    # when
    _answer(connected, held, errands.RUN, row_id=77)

    # then
    assert _open(connected, errands.CRASHED) == [held]
    assert held.delivery.row_id == 77


# Stopping


def test_a_stopping_worker_gives_back_what_comes_and_what_waits(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    (running, _) = _start(connected, child, _tag(1), _tag(2))

    # when
    connected._hear(DRAIN, [], [])
    connected._accept([_tag(3)], 0.0)

    # then
    assert sorted(delivery.task_id for delivery in consumer.given_back) == ["id 2", "id 3"]
    assert list(connected._held) == [running]

    # when
    connected._turn(0.0)

    # then
    assert channel.receive(child.end, wait=False) is None

    # when
    child.answers(running)
    connected._turn(0.0)

    # then
    assert connected._is_done
    received = channel.receive(child.end, wait=False)
    assert received is not None
    assert received[0] == job.STOP


def test_what_must_run_at_most_once_goes_back_unrun_when_the_worker_stops(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))

    # when
    connected._drain()
    child.answers(running, job.UNRUN)

    # then
    assert [delivery.task_id for delivery in consumer.given_back] == ["id 1"]
    assert consumer.settled == []


@pytest.mark.parametrize("is_marked_first", [True, False])
def test_what_runs_at_most_once_and_has_not_started_is_given_back_without_its_mark_when_the_worker_stops(
    connected: Dispatcher, hire: Hire, is_marked_first: bool
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))
    child.answers(running, job.UNRUN)
    (held,) = _open(connected, errands.START_ONCE)
    if is_marked_first:
        _answer(connected, held, errands.RUN, row_id=77)

    # when
    connected._drain()
    if not is_marked_first:
        _answer(connected, held, errands.RUN, row_id=77)

    # then
    assert child.takes() is None
    ((kind, held, detail),) = connected._errands._open.values()
    assert (kind, held.number, detail, held.delivery.row_id) == (errands.RELEASE, running, errands.UNSTARTED, 77)


def test_what_runs_at_most_once_and_may_have_started_is_told_of_when_its_child_dies_at_the_end_of_a_stop(
    connected: Dispatcher, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))
    child.answers(running, job.UNRUN)
    (held,) = _open(connected, errands.START_ONCE)
    _answer(connected, held, errands.RUN, row_id=77)
    assert child.takes()

    # when
    connected._drain()
    child.dies(running)

    # then
    assert _open(connected, errands.ABANDONED) == [held]


def test_a_job_that_is_being_parked_is_given_back_by_its_row_when_the_worker_stops(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))
    held = _park(connected)
    connected._drain()

    # when
    child.dies(running)
    _answer(connected, held, errands.RUN, row_id=77)

    # then
    assert _open(connected, errands.RELEASE) == [held]
    assert consumer.given_back == []


def test_an_unstarted_job_that_is_being_parked_is_given_back_by_its_row_too(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    hire()
    connected._accept([_tag(1)], 0.0)
    connected._hand_out()
    held = _park(connected)

    # when
    connected._drain()

    # then
    assert (consumer.given_back, _asked(connected)) == ([], [errands.PARK])

    # when
    _answer(connected, held, errands.RUN, row_id=77)

    # then
    assert _open(connected, errands.RELEASE) == [held]
    assert consumer.given_back == []


def test_a_death_while_it_was_only_holding_a_job_brings_the_job_back_uncounted(
    connected: Dispatcher, hire: Hire
) -> None:
    """It was received, and not begun: the slot named no job."""
    # given
    child = hire()
    (running,) = _start(connected, child, _tag(1))

    # when
    child.dies(running=0)

    # then
    assert [held.number for held in _open(connected, errands.EXAMINE)] == [running]
    assert _open(connected, errands.CRASHED) == []


@pytest.mark.parametrize("flags", [0, job.SETTLED])
def test_a_child_that_was_killed_for_its_time_limit_has_failed_its_job_and_no_other(
    connected: Dispatcher, hire: Hire, flags: int
) -> None:
    """Also where it was to run at most once: it has."""
    # given
    child = hire()
    overdue, behind = _start(connected, child, _tag(1), _tag(2))
    connected._held[overdue].flags = flags

    # when
    child.dies(overdue, word=OVERDUE)

    # then
    assert [held.number for held in _open(connected, errands.OVERDUE)] == [overdue]
    assert [held.number for held in connected._pending] == [behind]
    assert len(connected._errands) == 1


def test_what_passes_its_time_limit_while_the_worker_stops_has_failed_too(connected: Dispatcher, hire: Hire) -> None:
    # given
    child = hire()
    (overdue,) = _start(connected, child, _tag(1))
    connected._drain()

    # when
    child.dies(overdue, word=OVERDUE)

    # then
    assert [held.number for held in _open(connected, errands.OVERDUE)] == [overdue]


def test_a_task_that_is_killed_at_the_end_of_a_stop_is_named_in_the_log(
    connected: Dispatcher, hire: Hire, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    child = hire()
    running, unstarted = _start(connected, child, _tag(1), _tag(2))
    connected._drain()

    # when
    child.dies(running)

    # then
    (line,) = [record for record in caplog.records if "had not ended in time" in record.message]
    assert line.__dict__["task_id"] == "id 1"
    assert unstarted not in connected._held


# The supervisor's word


def test_it_ends_when_the_supervisor_is_gone(dispatcher: Dispatcher, supervisor: socket.socket) -> None:
    # when
    supervisor.close()
    dispatcher.run()

    # then
    assert dispatcher._is_done


def test_a_new_steward_is_asked_again_what_the_old_one_did_not_answer(
    connected: Dispatcher, supervisor: socket.socket
) -> None:
    # given
    stewards = [channel.pair(), channel.pair()]
    connected._accept([_row(1)], 0.0)

    # when
    for _, theirs in stewards:
        channel.tell(supervisor, STEWARD, descriptors=[theirs.fileno()])
        theirs.close()
        connected._hear_supervisor()

    # then
    with stewards[0][0] as old, stewards[1][0] as new:
        for end in (old, new):
            heard = channel.listen(end)
            assert heard is not None
            assert heard[0][0] == errands.EXAMINE
        with pytest.raises(EOFError):
            channel.listen(old)
        assert len(connected._selector.get_map()) == 1

        # when
        channel.tell(new, connected._number, errands.SETTLE, 0)
        connected._hear_steward()

    # then
    assert connected._held == {}


def _with_a_parked_twin(dispatcher: Dispatcher, child: Child, *, row_of_twin: int = 7) -> tuple[int, Held]:
    """Run a job for so long that it is parked in row 7, and with it the copy that came when the connection was lost."""
    (running,) = _start(dispatcher, child, _tag(1))
    dispatcher._accept([_tag(2, task_id=_tag(1).task_id, suspect=True)], 0.0)
    dispatcher._parking._look_at = 0.0
    dispatcher._turn(PARK_AFTER + 1)
    first, twin = _open(dispatcher, errands.PARK)
    _answer(dispatcher, first, errands.RUN, 7)
    _answer(dispatcher, twin, errands.RUN if row_of_twin else errands.SETTLE, row_of_twin)
    return running, twin


@pytest.mark.parametrize("row_of_twin", [7, 0])
def test_a_copy_that_is_parked_in_the_row_of_what_runs_here_is_acknowledged_and_forgotten(
    connected: Dispatcher, consumer: Pretended, hire: Hire, row_of_twin: int
) -> None:
    """It is the same message: to run it, or to give its row back, would have it worked twice at once."""
    # given
    child = hire()

    # when
    running, _ = _with_a_parked_twin(connected, child, row_of_twin=row_of_twin)

    # then
    assert [delivery.tag for delivery in consumer.settled] == [_tag(1).tag, _tag(2).tag]
    assert list(connected._held) == [running]

    # when
    _lose(connected, consumer)
    connected._hand_out()

    # then
    assert child.takes() is None

    # when
    child.answers(running)
    (held,) = _open(connected, errands.FINISH)
    _answer(connected, held, errands.RUN)

    # then
    assert connected._held == {}


def test_a_copy_that_is_just_being_parked_goes_on_waiting_when_the_connection_is_lost(
    connected: Dispatcher, consumer: Pretended, hire: Hire
) -> None:
    # given
    child = hire()
    _start(connected, child, _tag(1))
    connected._accept([_tag(2, task_id=_tag(1).task_id, suspect=True)], 0.0)
    connected._parking._look_at = 0.0
    connected._turn(PARK_AFTER + 1)
    first, twin = _open(connected, errands.PARK)

    # when
    _lose(connected, consumer)
    _answer(connected, first, errands.RUN, 7)
    _answer(connected, twin, errands.RUN, 7)
    connected._hand_out()

    # then
    assert child.takes() is None
    assert list(connected._held) == [first.number]


def test_a_copy_that_is_just_being_parked_is_examined_after_that(connected: Dispatcher, hire: Hire) -> None:
    """One errand a job at a time: the answer to one would pass for that to the other."""
    # given
    child = hire()
    running = _start(connected, child, _row(1))[0]
    connected._accept([_tag(2, task_id=_row(1).task_id, suspect=True)], 0.0)
    twin = _park(connected)

    # when
    child.answers(running)

    # then
    assert _asked(connected) == [errands.PARK]

    # when
    _answer(connected, twin, errands.RUN, 7)

    # then
    assert _open(connected, errands.EXAMINE) == [twin]


def test_the_row_of_what_still_runs_is_not_given_back_with_a_copy_that_is_just_being_parked(
    connected: Dispatcher, hire: Hire
) -> None:
    # given
    child = hire()
    _start(connected, child, _tag(1))
    connected._accept([_tag(2, task_id=_tag(1).task_id, suspect=True)], 0.0)
    connected._parking._look_at = 0.0
    connected._turn(PARK_AFTER + 1)
    first, twin = _open(connected, errands.PARK)

    # when
    connected._drain()
    _answer(connected, first, errands.RUN, 7)
    _answer(connected, twin, errands.RUN, 7)

    # then
    assert _open(connected, errands.RELEASE) == []
    assert list(connected._held) == [first.number]
