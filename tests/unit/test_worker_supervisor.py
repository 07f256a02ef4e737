"""What the supervisor decides when processes die and signals come; the processes are only pretended."""

import errno
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from celery.worker import dispatcher, process, restarts, slots, steward
from celery.worker import supervisor as supervising
from celery.worker.family import Family
from celery.worker.options import Options
from celery.worker.process import Offspring
from celery.worker.restarts import LONGEST_PAUSE
from celery.worker.stopping import SAME_REQUEST
from celery.worker.supervisor import GRACE, RESOURCE_PAUSE, Supervisor
from celery.worker.watchdog import STALLED

PATIENCE = 25.0
CHILDREN = 2


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Played(Offspring):
    """A process that never is: it has a pid, notes its signals, and ends when the test says so."""

    #: What it ends with.
    code = -9
    #: How many starts from now on fail.
    refused = 0
    _pids = iter(range(1001, 10_000))

    def start(self, run: Callable[[], None], close_first: Iterable[Any]) -> None:
        if Played.refused:
            Played.refused -= 1
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self.run = run
        self._pid = next(self._pids)
        self.pidfd = os.eventfd(0)
        self.signals: list[int] = []

    @property
    def pid(self) -> int:
        return self._pid

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def reap(self) -> int:
        os.close(self.pidfd)
        if self.control:
            self.control.close()
        return self.code


class Worker:
    """A supervisor, its processes, and what it told them."""

    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        self.told: list[tuple[str, Any]] = []
        monkeypatch.setattr(Family, "tell", self._note)
        options = Options(name="w", queues=("celery",), children=CHILDREN, drain_timeout=PATIENCE)
        self.supervisor = Supervisor(options)
        self.supervisor._restarts.soon("steward")
        self.supervisor._restarts.soon("dispatcher")
        self.start_what_is_due()

    def _note(self, one: Played, *words: Any, ends: tuple[Any, ...] = ()) -> None:
        self.told.append((one.role, words))
        for end in ends:
            end.close()

    def start_what_is_due(self) -> None:
        for _ in range(2 + CHILDREN):
            self.supervisor._start_what_is_due()

    def of_role(self, role: str) -> list[Played]:
        return self.supervisor._family.of_role(role)  # type: ignore[return-value]

    def one(self, role: str) -> Played:
        return self.of_role(role)[0]

    def dies(self, one: Played) -> None:
        self.supervisor._bury(one)

    def gets(self, number: int) -> None:
        self.supervisor._wakeup._write.send(bytes([number]))
        self.supervisor._obey_signals()

    def seconds_left(self) -> float | None:
        """Return the seconds until what still runs is killed; None: it is not stopping."""
        deadline = self.supervisor._deadline
        return None if deadline is None else round(deadline - self.clock.now, 6)

    def pause(self, role: str, index: int = 0) -> float:
        """Return the seconds until a process is started."""
        return round(self.supervisor._restarts.pause(role, index), 6)

    def overdue(self, seconds: float) -> None:
        self.supervisor._enforce(seconds)

    def heard_by(self, role: str, word: str) -> list[Any]:
        return [words for one, words in self.told if one == role and words[0] == word]

    def events(self) -> list[tuple[str, Any]]:
        self.supervisor._pass_events_on()
        return [(words[1], words[2]) for words in self.heard_by("steward", steward.EVENT)]

    def close(self) -> None:
        for one in self.supervisor._family:
            one.reap()
        self.supervisor._wakeup.close()
        self.supervisor._selector.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(supervising, "time", clock)
    monkeypatch.setattr(process, "time", clock)
    monkeypatch.setattr(restarts, "time", clock)
    monkeypatch.setattr(slots, "time", clock)
    return clock


@pytest.fixture
def worker(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(supervising, "Offspring", Played)
    monkeypatch.setattr(Played, "refused", 0)
    made = Worker(clock, monkeypatch)
    yield made
    made.close()


# Deaths


def test_a_child_that_died_is_told_of_with_its_job_and_followed_at_once(worker: Worker, clock: Clock) -> None:
    # given
    child = worker.one("child")
    worker.supervisor._slots.begin(child.index, 7)
    clock.now += 60

    # when
    worker.dies(child)
    worker.start_what_is_due()

    # then
    assert worker.heard_by("dispatcher", dispatcher.DIED) == [(dispatcher.DIED, 0, "signal 9 (SIGKILL)", 7)]
    assert sorted(one.index for one in worker.of_role("child")) == [0, 1]
    assert child not in worker.of_role("child")
    assert worker.events() == [("process_died", {"role": "child", "pid": child.pid, "cause": "signal 9 (SIGKILL)"})]


def test_a_child_that_is_used_up_is_followed_at_once_and_nobody_is_alarmed(worker: Worker) -> None:
    # given
    worker.supervisor._recycles = True
    child = worker.one("child")
    child.code = 0

    # when
    for _ in range(5):
        worker.dies(child)
        pause = worker.pause("child", child.index)
        worker.start_what_is_due()
        child = next(one for one in worker.of_role("child") if one.index == child.index)
        child.code = 0

    # then
    assert pause == 0.0
    assert worker.events() == []


def test_children_that_leave_because_their_dispatcher_died_do_not_spare_the_next_its_pause(
    worker: Worker, clock: Clock
) -> None:
    # when
    pauses = []
    for _ in range(5):
        crew = worker.of_role("child")
        worker.dies(worker.one("dispatcher"))
        for child in crew:
            child.code = 0  # it read the end of the channel before the kill came
            worker.dies(child)
        pauses.append(worker.pause("dispatcher"))
        clock.now += pauses[-1]
        worker.start_what_is_due()

    # then
    assert pauses == [0.0, 0.4, 0.8, 1.6, 3.2]


def test_a_child_that_leaves_without_having_been_told_to_has_died(worker: Worker) -> None:
    """Nothing is recycled here: some thread of a task, or a library, has ended the process."""
    # given
    child = worker.one("child")
    child.code = 0

    # when
    worker.dies(child)

    # then
    assert [name for name, _ in worker.events()] == ["process_died"]


def test_a_child_that_leaves_in_the_middle_of_a_task_has_died(worker: Worker) -> None:
    # given
    child = worker.one("child")
    child.code = 0
    worker.supervisor._slots.begin(child.index, 7)

    # when
    worker.dies(child)

    # then
    assert worker.heard_by("dispatcher", dispatcher.DIED) == [(dispatcher.DIED, 0, "exit code 0", 7)]
    assert [name for name, _ in worker.events()] == ["process_died"]


# Time limits


def test_a_child_is_killed_when_its_task_has_passed_its_time_limit_and_not_before(worker: Worker, clock: Clock) -> None:
    # given
    child, other = worker.of_role("child")
    worker.supervisor._slots.begin(child.index, 7)
    worker.supervisor._slots.set_limit(child.index, 0.5)
    worker.supervisor._slots.begin(other.index, 8)

    # when
    worker.supervisor._kill_overdue(clock.now + 0.4)

    # then
    assert worker.supervisor._sleep() == pytest.approx(0.5)
    assert child.signals == []

    # when
    for _ in range(2):
        worker.supervisor._kill_overdue(clock.now + 0.5)

    # then
    assert (child.signals, other.signals) == ([signal.SIGKILL], [])

    # when
    worker.dies(child)

    # then
    assert worker.heard_by("dispatcher", dispatcher.OVERDUE) == [(dispatcher.OVERDUE, 0, "0.5 s", 7)]
    assert worker.events() == []


@pytest.mark.parametrize("now_running", [0, 8])
def test_a_task_that_ended_just_before_its_child_was_killed_has_not_failed(
    worker: Worker, clock: Clock, now_running: int
) -> None:
    """Nor has the one that its child had begun by then: its slot is read again."""
    # given
    child = worker.one("child")
    worker.supervisor._slots.begin(child.index, 7)
    worker.supervisor._slots.set_limit(child.index, 1)
    worker.supervisor._kill_overdue(clock.now + 1)
    assert child.signals == [signal.SIGKILL]

    # when
    worker.supervisor._slots.begin(child.index, now_running)
    worker.dies(child)

    # then
    assert worker.heard_by("dispatcher", dispatcher.OVERDUE) == [(dispatcher.OVERDUE, 0, "1 s", 0)]


def test_a_new_child_has_no_deadline_of_the_one_before(worker: Worker, clock: Clock) -> None:
    # given
    child = worker.one("child")
    worker.supervisor._slots.set_limit(child.index, 1)

    # when
    worker.dies(child)
    worker.start_what_is_due()
    worker.supervisor._kill_overdue(clock.now + 60)

    # then
    assert [one.signals for one in worker.of_role("child")] == [[], []]


def test_short_lives_are_followed_ever_later_and_a_long_one_at_once(worker: Worker, clock: Clock) -> None:
    # when
    pauses = []
    for _ in range(8):
        worker.dies(next(one for one in worker.of_role("child") if one.index == 0))
        pauses.append(worker.pause("child"))
        clock.now += pauses[-1]
        worker.start_what_is_due()

    # then
    assert pauses == [0.0, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_PAUSE, LONGEST_PAUSE]

    # when
    clock.now += 60
    worker.dies(next(one for one in worker.of_role("child") if one.index == 0))

    # then
    assert worker.pause("child") == 0.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its sockets are closed by Python
def test_a_process_that_cannot_be_started_is_tried_again_and_told_of(worker: Worker, clock: Clock) -> None:
    # given
    clock.now += 60
    worker.dies(worker.one("child"))

    # when
    Played.refused = 1
    worker.start_what_is_due()

    # then
    assert len(worker.of_role("child")) == CHILDREN - 1
    assert worker.pause("child") == RESOURCE_PAUSE
    _, facts = worker.events()[-1]
    assert facts["cause"] == "it cannot be started: [Errno 11] Resource temporarily unavailable"

    # when
    clock.now += RESOURCE_PAUSE
    worker.start_what_is_due()

    # then
    assert len(worker.of_role("child")) == CHILDREN


def test_with_the_dispatcher_its_children_end_and_a_new_crew_has_a_new_owner(worker: Worker, clock: Clock) -> None:
    # given
    children = worker.of_role("child")
    owner = worker.supervisor._owner
    clock.now += 60

    # when
    worker.dies(worker.one("dispatcher"))
    worker.dies(children[0])
    worker.start_what_is_due()

    # then
    assert [child.signals for child in children] == [[signal.SIGKILL]] * CHILDREN
    assert worker.of_role("dispatcher") == []

    # when
    worker.dies(children[1])
    worker.start_what_is_due()

    # then
    assert len(worker.of_role("dispatcher")) == 1
    assert len(worker.of_role("child")) == CHILDREN
    assert worker.heard_by("steward", steward.DISPATCHER)[-1] == (steward.DISPATCHER, worker.supervisor._owner, True)
    assert worker.supervisor._owner != owner


@pytest.mark.parametrize("enlisted", ["", "an owner before"])
def test_a_new_steward_enlists_the_owner_that_the_one_before_had_not(
    worker: Worker, clock: Clock, enlisted: str
) -> None:
    # given
    owner = worker.supervisor._owner
    clock.now += 60
    worker.supervisor._answer(steward.ENLISTED, enlisted)

    # when
    worker.dies(worker.one("steward"))
    worker.start_what_is_due()

    # then
    assert worker.heard_by("steward", steward.DISPATCHER)[-1] == (steward.DISPATCHER, owner, True)


def test_a_new_steward_serves_the_owner_that_there_is(worker: Worker, clock: Clock) -> None:
    # given
    owner = worker.supervisor._owner
    clock.now += 60
    worker.supervisor._answer(steward.ENLISTED, owner)

    # when
    worker.dies(worker.one("steward"))
    worker.start_what_is_due()

    # then
    assert worker.heard_by("steward", steward.DISPATCHER)[-1] == (steward.DISPATCHER, owner, False)
    assert worker.heard_by("dispatcher", dispatcher.STEWARD)
    assert worker.events()[-1][1]["role"] == "steward"


def test_a_worker_whose_lease_was_lost_ends_its_dispatcher(worker: Worker) -> None:
    # when
    worker.supervisor._answer(steward.LOST, worker.supervisor._owner)

    # then
    assert worker.one("dispatcher").signals == [signal.SIGKILL]
    assert [child.signals for child in worker.of_role("child")] == [[], []]


# Signals


def test_term_drains_once_however_often_it_comes_together(worker: Worker, clock: Clock) -> None:
    # when
    worker.gets(signal.SIGTERM)
    clock.now += SAME_REQUEST / 2
    worker.gets(signal.SIGTERM)

    # then
    assert worker.seconds_left() == PATIENCE - SAME_REQUEST / 2
    assert worker.heard_by("dispatcher", dispatcher.DRAIN) == [(dispatcher.DRAIN,)]
    assert worker.events() == [("worker_stopping", {"name": "w", "timeout": PATIENCE})]


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_whoever_asks_a_second_time_does_not_wait(worker: Worker, clock: Clock, again: int) -> None:
    # given
    worker.gets(signal.SIGTERM)
    clock.now += 1

    # when
    worker.gets(again)

    # then
    assert worker.seconds_left() == 0
    assert [facts["timeout"] for _, facts in worker.events()] == [PATIENCE, 0.0]


def test_quit_does_not_wait(worker: Worker) -> None:
    # when
    worker.gets(signal.SIGQUIT)

    # then
    assert worker.seconds_left() == 0
    assert worker.events() == [("worker_stopping", {"name": "w", "timeout": 0.0})]


def test_hup_starts_anew_after_draining(worker: Worker) -> None:
    # when
    worker.gets(signal.SIGHUP)

    # then
    assert worker.supervisor.wants_restart
    assert worker.seconds_left() == PATIENCE


def test_a_stop_after_hup_is_for_good_and_keeps_the_time_to_drain(worker: Worker, clock: Clock) -> None:
    # given
    worker.gets(signal.SIGHUP)
    clock.now += 1

    # when
    worker.gets(signal.SIGTERM)

    # then
    assert not worker.supervisor.wants_restart
    assert worker.seconds_left() == PATIENCE - 1

    # when
    clock.now += 1
    worker.gets(signal.SIGTERM)

    # then
    assert worker.seconds_left() == 0


def test_hup_revives_no_worker_that_was_told_to_stop(worker: Worker, clock: Clock) -> None:
    # given
    worker.gets(signal.SIGTERM)
    clock.now += 1

    # when
    worker.gets(signal.SIGHUP)

    # then
    assert not worker.supervisor.wants_restart
    assert worker.seconds_left() == PATIENCE - 1


def test_usr2_is_passed_on_to_every_process(worker: Worker) -> None:
    # when
    worker.gets(signal.SIGUSR2)

    # then
    assert [one.signals for one in (*worker.of_role("child"), worker.one("steward"), worker.one("dispatcher"))] == [
        [signal.SIGUSR2]
    ] * (2 + CHILDREN)
    assert worker.seconds_left() is None


# The end


def test_the_steward_is_the_last_to_be_told_to_stop(worker: Worker) -> None:
    # given
    worker.gets(signal.SIGTERM)

    # when
    for child in worker.of_role("child"):
        worker.dies(child)

    # then
    assert [words[2] for words in worker.heard_by("dispatcher", dispatcher.DIED)] == ["stopped", "stopped"]
    assert worker.heard_by("steward", steward.STOP) == []

    # when
    worker.dies(worker.one("dispatcher"))

    # then
    assert worker.heard_by("steward", steward.STOP) == [(steward.STOP,)]

    # when
    worker.dies(worker.one("steward"))

    # then
    assert not worker.supervisor._family
    assert not worker.supervisor._restarts


def test_who_dies_while_the_worker_stops_is_not_followed(worker: Worker) -> None:
    # given
    worker.gets(signal.SIGTERM)

    # when
    worker.dies(worker.one("child"))
    worker.dies(worker.one("dispatcher"))

    # then
    assert not worker.supervisor._restarts


def test_a_steward_that_dies_while_the_worker_stops_is_followed_by_one_without_a_clock(
    worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has to give back what is left; sending more is not its task."""
    # given
    begun: list[Options] = []
    monkeypatch.setattr(supervising, "Steward", lambda _end, _slots, options: begun.append(options))
    clock.now += 60
    worker.gets(signal.SIGTERM)

    # when
    worker.dies(worker.one("steward"))
    worker.start_what_is_due()

    # then
    (successor,) = worker.of_role("steward")
    with suppress(AttributeError):
        successor.run()  # the pretended steward does nothing
    assert [options.beat for options in begun] == [False]


def test_a_worker_that_is_stopped_while_its_dispatcher_is_away_ends_its_children(worker: Worker) -> None:
    # given
    worker.dies(worker.one("dispatcher"))
    for child in worker.of_role("child"):
        child.signals.clear()

    # when
    worker.gets(signal.SIGTERM)

    # then
    assert [child.signals for child in worker.of_role("child")] == [[signal.SIGKILL]] * CHILDREN


def test_work_was_abandoned_also_if_a_child_only_waited_to_store_its_result(worker: Worker) -> None:
    # given
    worker.supervisor._slots.begin(1, 7)
    worker.supervisor._slots.end(1)
    worker.gets(signal.SIGTERM)

    # when
    worker.overdue(0.0)

    # then
    assert worker.supervisor._abandoned


@pytest.mark.parametrize("role", ["dispatcher", "steward"])
def test_a_process_that_does_not_turn_its_loop_is_killed_and_the_reason_told(worker: Worker, role: str) -> None:
    # given
    stalled = worker.one(role)
    others = [one for one in worker.supervisor._family if one is not stalled]
    beat = worker.supervisor._slots.beat if role == "steward" else worker.supervisor._slots.beat_as_steward

    # when
    for _ in range(int(STALLED) + 2):
        worker.clock.now += 1.0
        beat()
        worker.supervisor._kill_stalled(worker.clock.now)

    # then
    assert stalled.signals[:1] == [signal.SIGKILL]
    assert all(not other.signals for other in others if isinstance(other, Played))

    # when
    worker.dies(stalled)
    worker.clock.now += 1.0
    worker.start_what_is_due()

    # then
    assert (
        "process_died",
        {"role": role, "pid": stalled.pid, "cause": "silent for 45 s, and killed"},
    ) in worker.events()


@pytest.mark.parametrize("job", [0, 7])
def test_children_that_are_too_late_are_killed_and_work_was_abandoned_if_one_was_at_it(
    worker: Worker, job: int
) -> None:
    # given
    if job:
        worker.supervisor._slots.begin(1, job)
    worker.gets(signal.SIGTERM)

    # when
    worker.overdue(-0.1)

    # then
    assert [child.signals for child in worker.of_role("child")] == [[], []]

    # when
    worker.overdue(0.0)

    # then
    assert [child.signals for child in worker.of_role("child")] == [[signal.SIGKILL]] * CHILDREN
    assert worker.supervisor._abandoned == bool(job)


def test_a_dispatcher_that_hangs_is_killed_and_then_the_steward(worker: Worker) -> None:
    # given
    worker.gets(signal.SIGTERM)
    for child in worker.of_role("child"):
        worker.dies(child)

    # when
    worker.overdue(GRACE)

    # then
    assert worker.one("dispatcher").signals == [signal.SIGKILL]
    assert worker.one("steward").signals == []
    assert worker.supervisor._abandoned

    # when
    worker.overdue(2 * GRACE)

    # then
    assert worker.one("steward").signals == [signal.SIGKILL]
