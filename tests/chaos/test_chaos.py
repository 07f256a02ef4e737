"""The checker on planted histories, and the whole check on planted faults in the product."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import mutants
from tests.chaos.checker import Span, Verdict, check, total
from tests.chaos.history import Event
from tests.chaos.kinds import KINDS
from tests.shop.daemon import ROOT


def asked(name: str = "t", route: str = "delay", kind: str = "work", attempts: int = 1) -> Event:
    return {"at": 0.0, "event": "asked", "tokens": [name], "route": route, "kind": kind, "attempts": attempts}


def sending(broker: str) -> Event:
    return {"at": 0.0, "event": "sending", "name": "p1", "broker": broker}


def promised(promise: str = "confirmed", name: str = "t", at: float = 0.1) -> Event:
    return {"at": at, "event": promise, "pairs": [[f"id-{name}", name]]}


def raised(name: str = "t") -> Event:
    return {"at": 0.1, "event": "raised", "tokens": [name], "error": "BrokerUnreachable: ..."}


def started(at: float, pid: int = 11, worker: int = 1, name: str = "t", attempt: int = 1) -> Event:
    who = {"id": f"id-{name}", "token": name, "attempt": attempt, "pid": pid, "worker": worker}
    return {"at": at, "event": "started", **who}


def finished(at: float, pid: int = 11, name: str = "t") -> Event:
    return {"at": at, "event": "finished", "id": f"id-{name}", "pid": pid}


def settled(at: float, pid: int = 11, name: str = "t", state: str = "DONE", attempt: int = 1) -> Event:
    return {"at": at, "event": "settled", "id": f"id-{name}", "pid": pid, "state": state, "attempt": attempt}


def ending(at: float, pid: int = 11, name: str = "t", how: str = "exit") -> Event:
    return {"at": at, "event": "ending", "id": f"id-{name}", "pid": pid, "how": how, "until": at + 5}


def final(start: float = 1.0, pid: int = 11, name: str = "t") -> Event:
    """The result of an execution."""
    return ended("DONE", name, pid, start, name=name)


def ended(state: str, *value: object, name: str = "t") -> Event:
    return {"at": 99.0, "event": "final", "id": f"id-{name}", "state": state, "value": list(value)}


def lost(name: str = "t") -> Event:
    return ended("FAILURE", "WorkerLost", "work: its process died 3 times", name=name)


def dead(name: str = "t") -> Event:
    return {"at": 99.5, "event": "dead", "id": f"id-{name}", "reason": "...", "crashes": 3, "starts": 0}


def seen(state: str, *value: object, name: str = "t") -> Event:
    return {"at": 50.0, "event": "seen", "results": [[f"id-{name}", state, list(value)]]}


def fault(
    at: float, kind: str = "child", victims: tuple[int, ...] = (11,), *, everywhere: bool = False, until: float = 0
) -> Event:
    workers = [] if kind in {"child", "steward"} else [1]
    facts = {"kind": kind, "victims": list(victims), "workers": workers, "since": at - 0.01, "moment": ""}
    return {"at": at, "event": "fault", "until": until or at, "everywhere": everywhere, **facts}


def healed(seconds: float, kind: str = "child") -> Event:
    return {"at": 1.0, "event": "healed", "kind": kind, "seconds": seconds}


def left(what: str = "message") -> Event:
    return {"at": 98.0, "event": "left", "what": what, "text": "..."}


def breaches(*events: Event) -> list[str]:
    return [problem.kind for problem in check(events).problems]


def run_of(pid: int, start: float, attempt: int = 1, state: str = "DONE") -> list[Event]:
    ends = [finished(start + 0.1, pid), settled(start + 0.2, pid, state=state, attempt=attempt)]
    return [started(start, pid, attempt=attempt), *ends]


SENT = [asked(), promised()]


def sent(kind: str, attempts: int = 1) -> list[Event]:
    return [asked(kind=kind, attempts=attempts), promised()]


class TestEveryPromise:
    def test_a_task_that_ran_once_is_fine(self) -> None:
        verdict: Verdict = check([*SENT, *run_of(11, 1.0), final()])

        assert not verdict.problems
        assert verdict.executions == 1

    def test_events_may_come_in_any_order(self) -> None:
        assert breaches(*reversed([*SENT, *run_of(11, 1.0), final()])) == []

    def test_a_confirmed_task_without_a_result_is_lost(self) -> None:
        assert breaches(*SENT) == ["lost"]
        assert breaches(*SENT, *run_of(11, 1.0)) == ["lost"]

    def test_a_confirmed_task_without_a_result_is_stuck_while_messages_are_left(self) -> None:
        assert sorted(breaches(*SENT, left())) == ["left", "stuck"]

    def test_a_result_without_a_finished_execution_is_told(self) -> None:
        assert breaches(*SENT, started(1.0), final()) == ["unrun"]

    def test_a_result_that_is_not_the_tasks_own_is_told(self) -> None:
        assert breaches(*SENT, *run_of(11, 1.0), ended("DONE", "u", 11, 1.0)) == ["wrong"]

    @pytest.mark.parametrize("what", ["message", "worker", "process", "rest", "gap", "exit"])
    def test_whatever_is_left_over_is_told(self, what: str) -> None:
        assert breaches(*SENT, *run_of(11, 1.0), final(), left(what)) == ["left"]

    def test_what_nobody_asked_for_is_a_phantom(self) -> None:
        assert breaches(started(1.0), final()) == ["phantom"]


class TestATransaction:
    def test_a_rolled_back_task_never_runs(self) -> None:
        assert breaches(asked(), promised("rolled_back")) == []
        assert breaches(asked(), promised("rolled_back"), started(1.0)) == ["revoked"]
        assert breaches(asked(), promised("rolled_back"), final()) == ["revoked"]


class TestATaskWhoseSendingRaised:
    def test_it_may_have_run_or_not(self) -> None:
        assert breaches(asked(), raised()) == []
        assert breaches(asked(), raised(), *run_of(11, 1.0), final()) == []

    def test_if_it_ran_it_has_to_end(self) -> None:
        assert breaches(asked(), raised(), started(1.0)) == ["lost"]


class TestASecondExecution:
    def test_without_a_fault_it_is_a_breach(self) -> None:
        assert breaches(*SENT, *run_of(11, 1.0), *run_of(12, 2.0), final()) == ["repeated"]

    @pytest.mark.parametrize("kind", ["child", "dispatcher", "supervisor", "two workers", "dispatcher and steward"])
    def test_a_fault_during_the_first_one_explains_it(self, kind: str) -> None:
        verdict = check([*SENT, started(1.0), fault(1.5, kind), *run_of(12, 2.0), final(2.0, 12)])

        assert not verdict.problems
        assert verdict.explained == 1

    def test_a_fault_before_the_result_was_stored_explains_it(self) -> None:
        assert breaches(*SENT, started(1.0), finished(1.1), fault(1.12), *run_of(12, 2.0), final()) == []

    def test_a_fault_after_the_result_was_stored_explains_nothing(self) -> None:
        assert breaches(*SENT, *run_of(11, 1.0), fault(1.5), *run_of(12, 2.0), final()) == ["repeated"]

    def test_a_fault_long_after_the_end_explains_nothing(self) -> None:
        assert breaches(*SENT, started(1.0), finished(1.1), fault(9), *run_of(12, 10.0), final()) == ["repeated"]

    def test_a_fault_before_the_first_one_explains_nothing(self) -> None:
        assert breaches(*SENT, fault(0.9), *run_of(11, 1.0), *run_of(12, 2.0), final()) == ["repeated"]

    def test_a_cause_comes_before_its_effect(self) -> None:
        assert breaches(*SENT, started(1.0), *run_of(12, 1.2), fault(1.5), final(1.2, 12)) == ["repeated"]

    def test_a_fault_on_somebody_else_explains_nothing(self) -> None:
        first, second = [started(1.0)], run_of(12, 2.0)

        assert breaches(*SENT, *first, fault(1.5, victims=(13,)), *second, final(2.0, 12)) == ["repeated"]
        assert breaches(*SENT, *first, fault(1.5, "steward", victims=(14,)), *second, final(2.0, 12)) == ["repeated"]

    def test_a_fault_on_another_worker_explains_nothing(self) -> None:
        elsewhere = started(1.0, worker=2)

        events = [elsewhere, fault(1.5, "supervisor", (1,)), *run_of(12, 2.0), final(2.0, 12)]

        assert breaches(*SENT, *events) == ["repeated"]

    def test_a_fault_that_missed_explains_nothing(self) -> None:
        missed = {"at": 1.5, "event": "missed", "kind": "child", "since": 1.4}
        verdict = check([*SENT, started(1.0), missed, *run_of(12, 2.0), final(2.0, 12)])

        assert [problem.kind for problem in verdict.problems] == ["repeated"]
        assert verdict.missed == 1

    def test_what_an_orphan_starts_after_its_dispatcher_died_is_explained(self) -> None:
        struck, again = [*SENT, fault(1.0, "dispatcher", (9,))], [*run_of(12, 3.0), final(3.0, 12)]

        assert breaches(*struck, started(1.3), *again) == []
        assert breaches(*struck, started(2.3), *again) == ["repeated"]

    def test_a_fault_that_lasted_reaches_further(self) -> None:
        struck, again = [*SENT, fault(1.0, "cut", until=6.0)], [*run_of(12, 20.0), final(20.0, 12)]

        assert breaches(*struck, started(10.5), *again) == []
        assert breaches(*struck, started(11.5), *again) == ["repeated"]

    def test_a_fault_everywhere_explains_it_on_any_worker(self) -> None:
        struck = fault(1.5, "steward", (99,), everywhere=True)

        assert breaches(*SENT, started(1.0, worker=7), struck, *run_of(12, 2.0), final(2.0, 12)) == []

    def test_a_short_fault_among_long_ones_is_found(self) -> None:
        others = [fault(at, "cut", (11,), until=at + 30) for at in (300, 200, 100)]

        assert breaches(*SENT, started(1.0), *others, fault(1.5), *run_of(12, 2.0), final(2.0, 12)) == []

    def test_every_further_execution_needs_a_cause_of_its_own(self) -> None:
        thrice = [started(1.0), fault(1.5), started(2.0, 12), *run_of(13, 3.0)]

        assert breaches(*SENT, *thrice, final(3.0, 13)) == ["repeated"]
        assert breaches(*SENT, *thrice, fault(2.5, victims=(12,)), final(3.0, 13)) == []


class TestATaskThatWasGivenUp:
    HITS = tuple(event for n in (1, 2, 3) for event in (started(n, 10 + n), fault(n + 0.5, victims=(10 + n,))))

    def test_three_faults_on_it_excuse_a_failure(self) -> None:
        verdict = check([*SENT, *self.HITS, lost(), dead()])

        assert not verdict.problems
        assert verdict.given_up == 1

    def test_fewer_do_not(self) -> None:
        assert breaches(*SENT, lost(), dead()) == ["failed"]
        assert breaches(*SENT, started(1.0), fault(1.5), lost(), dead()) == ["failed"]

    def test_a_mark_without_an_execution_counts_once_faults_have_struck(self) -> None:
        """Its worker died between the mark and the start."""
        marked = {**dead(), "reason": "started 3 times, and nothing came of it", "starts": 3}
        once = [started(1.0), fault(1.5)]

        assert breaches(*SENT, *once, lost(), marked) == []
        assert breaches(*SENT, lost(), marked) == ["failed"]
        assert breaches(*SENT, *once, lost(), {**marked, "reason": "its process died 3 times"}) == ["failed"]

    def test_its_message_is_kept_as_dead(self) -> None:
        assert breaches(*SENT, *self.HITS, lost()) == ["unburied"]

    def test_another_failure_than_being_lost_is_not_excused(self) -> None:
        assert breaches(*SENT, *self.HITS, ended("FAILURE", "ValueError", "..."), dead()) == ["wrong"]


def deaths(count: int, how: str = "exit") -> list[Event]:
    pids = range(11, 11 + count)
    return [event for pid in pids for event in (started(pid, pid), ending(pid + 0.1, pid, how=how))]


class TestPoison:
    def test_it_is_given_up_after_three_deaths_of_its_own(self) -> None:
        verdict = check([*sent("poison"), *deaths(3), lost(), dead()])

        assert not verdict.problems
        assert verdict.deaths == 3

    def test_fewer_deaths_are_no_reason(self) -> None:
        assert breaches(*sent("poison"), *deaths(2), lost(), dead()) == ["failed"]

    def test_more_deaths_are_too_many(self) -> None:
        assert breaches(*sent("poison"), *deaths(4), lost(), dead()) == ["overtried"]

    def test_a_death_that_a_fault_may_have_hidden_is_not_counted(self) -> None:
        hidden = fault(12.1, "dispatcher", (9,))

        assert breaches(*sent("poison"), *deaths(4), hidden, lost(), dead()) == []

    def test_it_is_never_done(self) -> None:
        assert breaches(*sent("poison"), *run_of(11, 1.0), final()) == ["wrong"]
        assert breaches(*sent("poison"), *deaths(3)) == ["lost"]

    def test_what_dies_once_is_done_the_second_time(self) -> None:
        assert breaches(*sent("poison_once"), *deaths(1), *run_of(14, 14), final(14, 14)) == []
        assert breaches(*sent("poison_once"), *deaths(1), lost(), dead()) == ["failed"]

    def test_it_explains_that_what_its_process_had_not_stored_runs_again(self) -> None:
        events = [*SENT, started(10.9), finished(10.95), *run_of(20, 20), final(20, 20)]
        poison = [started(11, name="p"), ending(11.1, name="p")]

        assert breaches(*events) == ["repeated"]
        assert breaches(*events, asked("p", kind="poison"), *poison) == ["lost"]  # of the poison itself


class TestATimeLimit:
    OVER = ended("FAILURE", "TimeLimitExceeded", "...")

    def test_it_is_the_failure_that_was_to_come(self) -> None:
        assert breaches(*sent("overrun"), *deaths(1, "time limit"), self.OVER) == []

    def test_it_needs_a_start(self) -> None:
        assert breaches(*sent("overrun"), self.OVER) == ["unrun"]

    def test_it_explains_no_second_execution(self) -> None:
        twice = deaths(2, "time limit")

        assert breaches(*sent("overrun"), *twice, self.OVER) == ["repeated"]
        assert breaches(*sent("overrun"), *twice, fault(11.5), self.OVER) == []

    def test_its_end_is_told_by_a_steward(self) -> None:
        told = settled(12.2, pid=99, state="FAILURE")
        late = fault(12.5, "dispatcher", (9,))

        assert breaches(*sent("overrun"), *deaths(2, "time limit"), told, late, self.OVER) == ["repeated"]


class TestATaskThatFailsByItself:
    @pytest.mark.parametrize("kind", ["broken", "leave", "interrupt"])
    def test_its_own_exception_is_its_result(self, kind: str) -> None:
        own = ended("FAILURE", KINDS[kind].error, "t", 11, 1.0)

        assert breaches(*sent(kind), *run_of(11, 1.0, state="FAILURE"), own) == []

    def test_it_is_not_done(self) -> None:
        assert breaches(*sent("broken"), *run_of(11, 1.0), final()) == ["wrong"]

    def test_another_exception_is_wrong(self) -> None:
        other = ended("FAILURE", "OperationalError", "t", 11, 1.0)

        assert breaches(*sent("broken"), *run_of(11, 1.0), other) == ["wrong"]

    def test_it_does_not_end_its_process(self) -> None:
        assert breaches(*sent("leave"), started(1.0), lost(), dead()) == ["failed"]


class TestATaskThatRetries:
    def test_every_attempt_runs_once(self) -> None:
        first, second = run_of(11, 1.0, state="RETRY"), run_of(12, 2.0, attempt=2)
        verdict = check([*sent("retry", attempts=2), *first, *second, final(2.0, 12)])

        assert not verdict.problems
        assert verdict.retried == 1

    def test_an_attempt_that_runs_again_needs_a_cause(self) -> None:
        first, second = run_of(11, 1.0, state="RETRY"), run_of(12, 2.0, attempt=2)
        events = [*sent("retry", attempts=2), *first, *run_of(13, 1.5, state="RETRY"), *second, final(2.0, 12)]

        assert breaches(*events) == ["repeated"]

    def test_no_attempt_is_left_out(self) -> None:
        only = [*sent("retry", attempts=2), *run_of(12, 2.0, attempt=2), final(2.0, 12)]

        assert breaches(*only) == ["unrun"]

    def test_it_is_not_over_before_its_last_attempt(self) -> None:
        early = [*sent("retry", attempts=2), *run_of(11, 1.0), final()]

        assert breaches(*early) == ["wrong"]
        assert breaches(*early[:-1], ended("RETRY", "RetryTask", "...")) == ["lost"]


class TestATaskWhoseResultIsIgnored:
    def test_it_leaves_none(self) -> None:
        assert breaches(*sent("quiet"), *run_of(11, 1.0)) == []
        assert breaches(*sent("quiet"), *run_of(11, 1.0), final()) == ["wrong"]

    def test_it_runs(self) -> None:
        assert breaches(*sent("quiet")) == ["lost"]
        assert breaches(*sent("quiet"), started(1.0)) == ["lost"]


class TestTwoCopiesOfAMessage:
    """The relay lost its connection after publishing, say."""

    SENDING = sending("amqp")
    ELSEWHERE = fault(0.3, "steward", (99,))

    def test_one_that_began_before_the_other_was_stored_could_not_be_recognised(self) -> None:
        both = [*SENT, *run_of(11, 1.0), *run_of(12, 1.1), final()]
        verdict = check([self.SENDING, self.ELSEWHERE, *both])

        assert not verdict.problems
        assert verdict.unrecognised == 1
        assert breaches(self.SENDING, *both) == ["repeated"]
        assert breaches(sending("django"), self.ELSEWHERE, *both) == ["repeated"]

    def test_one_that_began_later_is_recognised(self) -> None:
        later = [*SENT, *run_of(11, 1.0), *run_of(12, 1.3), final()]

        assert breaches(self.SENDING, self.ELSEWHERE, *later) == ["repeated"]

    def test_one_whose_result_is_ignored_never_is(self) -> None:
        later = [*sent("quiet"), *run_of(11, 1.0), *run_of(12, 9.0)]

        assert breaches(self.SENDING, self.ELSEWHERE, *later) == []
        assert breaches(self.SENDING, *later) == ["repeated"]

    def test_only_a_fault_between_asking_and_the_second_start_makes_copies(self) -> None:
        both = [*SENT, *run_of(11, 1.0), *run_of(12, 1.1), final()]
        early, late = (fault(at, "steward", (99,)) for at in (-9.0, 1.15))

        assert breaches(self.SENDING, early, late, *both) == ["repeated"]


class TestATaskThatRunsAtMostOnce:
    def test_it_never_runs_twice_whatever_happens(self) -> None:
        again = [*sent("once"), started(1.0), fault(1.5), *run_of(12, 2.0), final(2.0, 12)]

        assert breaches(*again) == ["twice"]

    def test_a_fault_on_it_may_cut_it_short(self) -> None:
        for end in ([lost()], []):
            verdict = check([*sent("once"), started(1.0), fault(1.5), *end])

            assert not verdict.problems
            assert verdict.cut_short == 1

    def test_a_fault_before_it_began_may_cut_it_short(self) -> None:
        for end in ([lost()], []):
            assert breaches(*sent("once"), fault(1.5, "dispatcher", (9,)), *end) == []

    def test_nothing_else_may(self) -> None:
        assert breaches(*sent("once")) == ["lost"]
        assert breaches(*sent("once"), lost()) == ["failed"]
        assert breaches(*sent("once"), started(1.0), fault(1.5, victims=(12,)), lost()) == ["failed"]
        assert breaches(fault(-9.0), *sent("once")) == ["lost"]

    def test_it_may_end_its_own_process_and_is_told_to_be_lost(self) -> None:
        assert breaches(*sent("poison_at_most_once"), *deaths(1), lost()) == []
        assert breaches(*sent("poison_at_most_once"), *deaths(2), lost()) == ["twice"]


class TestAResult:
    def test_it_is_of_an_execution_that_was_seen(self) -> None:
        assert breaches(*SENT, *run_of(11, 1.0), final(1.0, 12)) == ["wrong"]

    def test_one_that_is_stored_is_not_overwritten(self) -> None:
        old = [started(1.0), fault(1.5, until=7), finished(9.0), settled(9.1)]
        new = run_of(12, 3.0)

        assert breaches(*SENT, *old, *new, final(3.0, 12)) == []
        assert breaches(*SENT, *old, *new, final(1.0, 11)) == ["overwritten"]

    def test_one_that_was_final_does_not_change(self) -> None:
        first, second = [*SENT, started(1.0), finished(1.1)], [fault(1.12), *run_of(12, 2.0), final(2.0, 12)]

        assert breaches(*first, *second, seen("DONE", "t", 12, 2.0)) == []
        assert breaches(*first, *second, seen("DONE", "t", 11, 1.0)) == ["changed"]

    def test_one_that_was_final_does_not_vanish(self) -> None:
        assert breaches(*SENT, *run_of(11, 1.0), seen("DONE", "t", 11, 1.0)) == ["lost", "changed"]

    def test_it_comes_within_a_minute_of_the_last_fault(self) -> None:
        early, late = ([*SENT, fault(1.0), *run_of(12, at), final(at, 12)] for at in (55.0, 75.0))

        assert breaches(*early) == []
        assert breaches(*late) == ["late"]


class TestTheFigures:
    def test_the_times_of_healing_are_told_for_each_kind_of_fault(self) -> None:
        verdict = check([healed(0.3), healed(0.1), healed(0.2), healed(9.0, "supervisor")])

        assert verdict.recoveries == {
            "child": Span(count=3, least=0.1, median=0.2, most=0.3),
            "supervisor": Span(count=1, least=9.0, median=9.0, most=9.0),
        }

    def test_parts_add_up(self) -> None:
        first = check([*SENT, *run_of(11, 1.0), final(), healed(0.1), fault(5.0)])
        second = check([*SENT, healed(0.3)])
        whole = total([first, second])

        assert whole.promises["confirmed"] == 2
        assert whole.executions == 1
        assert whole.faults == {"child": 1}
        assert whole.recoveries["child"].most == 0.3
        assert [problem.kind for problem in whole.problems] == ["lost"]

    def test_a_check_reads_its_events_once(self) -> None:
        assert not check(iter([*SENT, *run_of(11, 1.0), final()])).problems


# -- the product, damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Where a mutant runs, for how many seconds, under which faults, and what it has to be caught by."""

    breach: str
    place: str
    faults: tuple[str, ...]
    seconds: int = 28


TRIALS = {
    "ack_before_store": Trial(breach="lost", place="sqlite", faults=("child",)),
    "drop_thousandth": Trial(breach="lost", place="sqlite", faults=("steward",)),
    "fencing_removed": Trial(breach="overwritten", place="sqlite", faults=("stop: old owner",), seconds=45),
    "lease_ignored": Trial(breach="repeated", place="postgresql", faults=("steward",)),
    "lost_worker_ignored": Trial(breach="stuck", place="sqlite", faults=("supervisor",)),
    "relay_deletes_first": Trial(breach="lost", place="rabbitmq", faults=("steward",)),
    "retry_acked_first": Trial(breach="lost", place="sqlite", faults=("child",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """What a run with a mutant came to: its exit code, how often each promise was broken, and its output."""

    code: int
    breaches: dict[str, int]
    output: str


@pytest.fixture(scope="module")
def caught(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Caught]:
    """Run all mutants side by side: each has workers, servers and a history of its own."""
    folder = tmp_path_factory.mktemp("mutants")
    with ThreadPoolExecutor(len(TRIALS)) as threads:
        return dict(zip(TRIALS, threads.map(lambda name: _tried(name, folder), TRIALS), strict=True))


def _tried(mutant: str, folder: Path) -> Caught:
    trial, report = TRIALS[mutant], folder / f"{mutant}.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "tests.chaos", f"--place={trial.place}", f"--seconds={trial.seconds}", "--seed=1"),
            *(f"--mutant={mutant}", f"--folder={folder / mutant}", f"--report={report}"),
            *(f"--fault={name}" for name in trial.faults),
        ],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    breaches = json.loads(report.read_text())["breaches"] if report.exists() else {}
    return Caught(code=run.returncode, breaches=breaches, output=run.stdout)


def test_every_mutant_is_tried() -> None:
    assert sorted(TRIALS) == mutants.NAMES


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", sorted(TRIALS))
def test_a_planted_fault_is_caught(mutant: str, caught: dict[str, Caught]) -> None:
    found = caught[mutant]

    assert found.code == 1, found.output
    assert found.breaches.get(TRIALS[mutant].breach), found.output
