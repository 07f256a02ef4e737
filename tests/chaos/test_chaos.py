"""The checker on planted histories, and the whole check on planted faults in the product."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.chaos import mutants
from tests.chaos.checker import Verdict, check
from tests.chaos.history import Event
from tests.shop.daemon import ROOT

SECONDS = 20
#: What each mutant has to be caught by.
BREACHES = {
    "ack_before_store": "lost",
    "drop_thousandth": "lost",
    "ownership_ignored": "repeated",
}


def asked(name: str = "t", route: str = "delay", at: float = 0.0) -> Event:
    return {"at": at, "event": "asked", "tokens": [name], "route": route}


def promised(promise: str = "confirmed", name: str = "t", at: float = 0.1) -> Event:
    return {"at": at, "event": promise, "pairs": [[f"id-{name}", name]]}


def raised(name: str = "t") -> Event:
    return {"at": 0.1, "event": "raised", "tokens": [name], "error": "BrokerUnreachable: ..."}


def started(at: float, pid: int = 11, worker: int = 1, name: str = "t") -> Event:
    return {"at": at, "event": "started", "id": f"id-{name}", "token": name, "pid": pid, "worker": worker}


def finished(at: float, pid: int = 11, name: str = "t") -> Event:
    return {"at": at, "event": "finished", "id": f"id-{name}", "pid": pid}


def settled(at: float, pid: int = 11, name: str = "t") -> Event:
    return {"at": at, "event": "settled", "id": f"id-{name}", "pid": pid, "state": "DONE"}


def final(state: str = "DONE", value: object = "t", name: str = "t") -> Event:
    return {"at": 99.0, "event": "final", "id": f"id-{name}", "state": state, "value": value}


def fault(at: float, kind: str = "child", victims: tuple[int, ...] = (11,), *, everywhere: bool = False) -> Event:
    workers = [] if kind in {"child", "steward"} else [1]
    facts = {"kind": kind, "victims": list(victims), "workers": workers, "since": at - 0.01, "moment": ""}
    return {"at": at, "event": "fault", "until": at, "everywhere": everywhere, **facts}


def left(what: str = "message") -> Event:
    return {"at": 98.0, "event": "left", "what": what, "text": "..."}


def breaches(*events: Event) -> list[str]:
    return [problem.kind for problem in check(events).problems]


def run_of(pid: int, start: float) -> list[Event]:
    return [started(start, pid), finished(start + 0.1, pid), settled(start + 0.2, pid)]


SENT = [asked(), promised()]


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
        assert breaches(*SENT, *run_of(11, 1.0), final(value="u")) == ["wrong"]
        assert breaches(*SENT, *run_of(11, 1.0), final(state="RETRY")) == ["wrong"]

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
        verdict = check([*SENT, started(1.0), fault(1.5, kind), *run_of(12, 2.0), final()])

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
        assert breaches(*SENT, started(1.0), *run_of(12, 1.2), fault(1.5), final()) == ["repeated"]

    def test_a_fault_on_somebody_else_explains_nothing(self) -> None:
        first, second = [started(1.0)], run_of(12, 2.0)

        assert breaches(*SENT, *first, fault(1.5, victims=(13,)), *second, final()) == ["repeated"]
        assert breaches(*SENT, *first, fault(1.5, "steward", victims=(14,)), *second, final()) == ["repeated"]

    def test_a_fault_on_another_worker_explains_nothing(self) -> None:
        elsewhere = started(1.0, worker=2)

        assert breaches(*SENT, elsewhere, fault(1.5, "supervisor", (1,)), *run_of(12, 2.0), final()) == ["repeated"]

    def test_a_fault_that_missed_explains_nothing(self) -> None:
        missed = {"at": 1.5, "event": "missed", "kind": "child", "since": 1.4}
        verdict = check([*SENT, started(1.0), missed, *run_of(12, 2.0), final()])

        assert [problem.kind for problem in verdict.problems] == ["repeated"]
        assert verdict.missed == 1

    def test_what_an_orphan_starts_after_its_dispatcher_died_is_explained(self) -> None:
        assert breaches(*SENT, fault(1.0, "dispatcher", (9,)), started(1.3), *run_of(12, 3.0), final()) == []
        assert breaches(*SENT, fault(1.0, "dispatcher", (9,)), started(2.3), *run_of(12, 3.0), final()) == ["repeated"]

    def test_every_further_execution_needs_a_cause_of_its_own(self) -> None:
        thrice = [started(1.0), fault(1.5), started(2.0, 12), *run_of(13, 3.0)]

        assert breaches(*SENT, *thrice, final()) == ["repeated"]
        assert breaches(*SENT, *thrice, fault(2.5, victims=(12,)), final()) == []


class TestATaskThatWasGivenUp:
    def test_three_faults_on_it_excuse_a_failure(self) -> None:
        hits = [event for n in (1, 2, 3) for event in (started(n, 10 + n), fault(n + 0.5, victims=(10 + n,)))]

        assert breaches(*SENT, *hits, final("FAILURE", "WorkerLost()")) == []

    def test_fewer_do_not(self) -> None:
        assert breaches(*SENT, final("FAILURE", "WorkerLost()")) == ["failed"]
        assert breaches(*SENT, started(1.0), fault(1.5), final("FAILURE", "WorkerLost()")) == ["failed"]


# -- the product, damaged


@pytest.fixture(scope="module")
def outputs(postgres_url: str) -> Iterator[dict[str, tuple[int, str]]]:
    """Exit code and output of a short run with each mutant. They run side by side: each has a database of its own."""
    with ExitStack() as stack:
        runs = {name: stack.enter_context(_started(name)) for name in BREACHES}
        texts = {name: run.communicate()[0] for name, run in runs.items()}
        yield {name: (run.returncode, texts[name]) for name, run in runs.items()}


def _started(mutant: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.chaos", f"--seconds={SECONDS}", "--place=postgresql", "--seed=1"]
    return subprocess.Popen(
        [*command, f"--mutant={mutant}"],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_every_mutant_is_expected_to_be_caught() -> None:
    assert sorted(BREACHES) == mutants.NAMES


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("mutant", sorted(BREACHES))
def test_a_planted_fault_is_caught(mutant: str, outputs: dict[str, tuple[int, str]]) -> None:
    code, output = outputs[mutant]

    assert code == 1, output
    assert re.search(rf"^  {BREACHES[mutant]}: ", output, re.MULTILINE), output
