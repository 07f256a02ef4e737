"""The checker: reads a history and says what was promised and not kept. Pure: events in, a verdict out.

Invariants, and the names under which a breach is reported:

lost         a confirmed task has no final result, and no message either
stuck        it has no final result, and something is left that could still run it
unrun        it has a result, but was never seen to finish; or an attempt before its last one never ran
wrong        its result is not what its kind comes to, or is of an execution that nobody saw
failed       it is a FAILURE although fewer than `CRASHES` faults hit its executions
overtried    it killed more processes than `CRASHES`, in executions that no fault hit
unburied     it was given up, and no dead message is kept
revoked      a task of a transaction that was rolled back ran, or has a result
phantom      something ran that nobody had asked for
repeated     it ran again without a cause: the execution before was not hit by a fault
twice        a task that runs at most once ran again, whatever the cause
overwritten  its result is that of an execution that finished after another one was settled
changed      a result was final, and then another one
late         a result was stored more than `BOUND` seconds after the last fault
left         something is left over at the end, a worker did not heal, or a kind of fault never hit

A task whose sending raised is indeterminate: it may have a result or not, but if it ran it has to end like any other.
The same holds for one of which nobody knows whether it was sent.

When is a second execution of one attempt explained? If a fault *hit* the execution before it, that is if

- the fault killed the process that ran it, or that worker's dispatcher or supervisor (which ends all its children), or
  it was everywhere; a task that ends its process is such a fault for whatever that process has not stored yet;
- it did so while the execution ran or its result was not yet stored: between the start, and the moment at which the
  child said that the result is durable; where the child never said so, `UNSETTLED` seconds after the end;
- and it did so before the next execution began: causes come first.

Children outlive their dispatcher until the supervisor has noticed, so a fault on a dispatcher reaches `AFTERMATH`
seconds further: it also hits what such an orphan starts meanwhile. That others declared a living worker lost explains
nothing: a false alarm is a defect of its own. Nor does the death of a steward, which holds no message that runs.

Where the broker is not the database, a fault while a message is sent, relayed or held may leave two copies of it. A
copy is recognised by the result of the other one. So if there is none yet, or never will be since results of the task
are ignored, any fault since it was asked for explains a second execution; these are counted apart, as `unrecognised`.

A task that runs at most once may come to a FAILURE, or to nothing at all, if a fault hit it or struck before it began:
it was "cut short". All these numbers are in `traces`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Final

from tests.chaos.history import Event
from tests.chaos.kinds import DONE, FAILURE
from tests.chaos.traces import Execution, Faults, Trace, Traces

#: Faults on one task after which it may be given up (the default of CELERY_CRASH_LIMIT).
CRASHES: Final = 3
#: Seconds after the last fault within which every result is stored.
BOUND: Final = 60.0

Breaches = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A promise that was not kept."""

    kind: str
    token: str = ""
    task_id: str = ""
    text: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.kind}:", self.token, self.task_id, self.text) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How long something took, in seconds."""

    count: int
    least: float
    median: float
    most: float


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What the checker found in one part of a run; `total` adds up several."""

    promises: Counter[str] = field(default_factory=Counter)
    #: Tasks by what they do.
    tasks: Counter[str] = field(default_factory=Counter)
    executions: int = 0
    explained: int = 0
    #: Attempts after the first one.
    retried: int = 0
    given_up: int = 0
    #: Processes that tasks ended themselves.
    deaths: int = 0
    #: Tasks that run at most once and were cut short by a fault.
    cut_short: int = 0
    #: Executions of a second copy of a message, at a time when no result told that it was one.
    unrecognised: int = 0
    #: Messages that a worker with a wrong clock had put off: nobody waits for an hour here.
    postponed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    takeovers: int = 0
    #: Seconds until every worker settled tasks again, by the kind of fault.
    healing: dict[str, list[float]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def kinds(self) -> Counter[str]:
        return Counter(problem.kind for problem in self.problems)

    @property
    def recoveries(self) -> dict[str, Span]:
        """How long workers took to recover, by the kind of fault."""
        return {
            kind: Span(count=len(all_), least=min(all_), median=median(all_), most=max(all_))
            for kind, all_ in sorted(self.healing.items())
        }


def check(events: Iterable[Event]) -> Verdict:
    """Return the verdict on a history; its events may come in any order, and are not kept."""
    return _Checker(events).verdict


def total(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the sum of the verdicts on several parts."""
    whole = Verdict()
    for one in verdicts:
        for name in ("promises", "tasks", "faults", "moments"):
            getattr(whole, name).update(getattr(one, name))
        for name in (
            "executions",
            "explained",
            "retried",
            "given_up",
            "deaths",
            "cut_short",
            "unrecognised",
            "postponed",
            "missed",
            "takeovers",
        ):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        for kind, seconds in one.healing.items():
            whole.healing.setdefault(kind, []).extend(seconds)
        whole.problems += one.problems
    return whole


class _Checker:
    def __init__(self, events: Iterable[Event]) -> None:
        self.verdict = Verdict()
        self._left: list[Event] = []
        self._traces = Traces()
        self._read(events)
        self._traces.complete()
        self._faults = Faults(self._traces.faults, self._traces.endings)
        self._calm = max([self._traces.last_asked, *(fault.until for fault in self._traces.faults)])
        self._is_something_waiting = any(event["what"] == "message" for event in self._left)
        self._judge()

    def _read(self, events: Iterable[Event]) -> None:
        healing: defaultdict[str, list[float]] = defaultdict(list)
        for event in events:
            name = event["event"]
            self._traces.put(event)
            if name == "left":
                self._left.append(event)
            elif name == "missed":
                self.verdict.missed += 1
            elif name == "postponed":
                self.verdict.postponed += event["count"]
            elif name == "took_over":
                self.verdict.takeovers += 1
            elif name == "healed":
                healing[event["kind"]].append(event["seconds"])
            elif name == "fault":
                self.verdict.faults[event["kind"]] += 1
                self.verdict.moments.update([event["moment"]] if event["moment"] else [])
        self.verdict.healing = dict(healing)

    def _judge(self) -> None:
        for event in self._left:
            self.verdict.problems.append(Problem(kind="left", text=f"{event['what']}: {event['text']}"))
        for trace in self._traces.by_token.values():
            self._count(trace)
            for kind, text in self._breaches(trace):
                self.verdict.problems.append(Problem(kind=kind, token=trace.token, task_id=trace.task_id, text=text))
        self._judge_what_was_seen()

    def _count(self, trace: Trace) -> None:
        verdict = self.verdict
        verdict.promises[trace.promise] += 1
        verdict.tasks[trace.kind.name] += 1
        verdict.executions += len(trace.executions)
        verdict.retried += sum(execution.attempt > 1 for execution in trace.executions)
        verdict.deaths += sum(execution.is_fatal for execution in trace.executions)
        verdict.given_up += trace.is_given_up

    def _judge_what_was_seen(self) -> None:
        for task_id, state, value in self._traces.seen:
            trace = self._traces.by_id(task_id)
            if trace and (trace.state, trace.value) != (state, value):
                text = f"{state} {value!r} became {trace.state} {trace.value!r}"
                self.verdict.problems.append(Problem(kind="changed", token=trace.token, task_id=task_id, text=text))

    # -- one task

    def _breaches(self, trace: Trace) -> Breaches:
        yield from self._repetitions(trace)
        if trace.promise == "unknown" and not trace.route:
            yield "phantom", f"{len(trace.executions)} executions"
        elif trace.promise == "rolled_back":
            if trace.executions or trace.state:
                yield "revoked", f"{len(trace.executions)} executions, state {trace.state}"
        elif trace.promise == "confirmed" or trace.executions or trace.state:
            yield from self._ends(trace)

    def _repetitions(self, trace: Trace) -> Breaches:
        if not trace.executions or (len(trace.executions) == 1 and trace.executions[0].attempt == 1):  # nearly all
            return
        for _, executions in trace.by_attempt():
            for first, second in pairwise(executions):
                if trace.kind.is_at_most_once:
                    yield "twice", f"{_described(first)}; again {_described(second)}"
                elif first.is_fatal or self._faults.have_hit(first, before=second.start):
                    self.verdict.explained += 1
                elif self._may_be_copies(trace, first, second):
                    self.verdict.unrecognised += 1
                else:
                    yield "repeated", f"{_described(first)}; again {_described(second)}"
        attempts = {execution.attempt for execution in trace.executions}
        if skipped := set(range(1, max(attempts))) - attempts:
            yield "unrun", f"attempts {sorted(skipped)} of {max(attempts)}"

    def _may_be_copies(self, trace: Trace, first: Execution, second: Execution) -> bool:
        """Tell whether two copies of the message existed, and the second one could not be recognised as such."""
        was_open = not trace.kind.is_stored or first.end >= second.start
        return self._traces.may_have_copies and was_open and self._faults.have_struck(trace.asked, second.start)

    def _ends(self, trace: Trace) -> Breaches:
        if trace.state not in {DONE, FAILURE}:
            yield from self._missing(trace)
        elif trace.is_given_up:
            yield from self._given_up(trace)
        else:
            yield from self._result(trace)
        if (settled := max((one.settled or 0.0 for one in trace.executions), default=0.0)) > self._calm + BOUND:
            yield "late", f"stored {settled - self._calm:.1f} s after the last fault"

    def _missing(self, trace: Trace) -> Breaches:
        if not trace.kind.is_stored and trace.finished:
            return
        if trace.kind.is_at_most_once and self._was_cut_short(trace):
            self.verdict.cut_short += 1
            return
        stored = f", stored: {trace.state}" if trace.state else ""
        yield "stuck" if self._is_something_waiting else "lost", f"{_times(trace)}{stored}"

    def _given_up(self, trace: Trace) -> Breaches:
        if trace.kind.is_at_most_once:
            yield from self._abandoned(trace)
            return
        hits = sum(one.is_fatal or self._faults.have_hit(one) for one in trace.executions)
        if self._faults.have_struck(trace.asked):
            hits += max(trace.marks - len(trace.executions), 0)
        alone = sum(one.is_fatal and not self._faults.have_hit(one) for one in trace.executions)
        if hits < CRASHES:
            yield "failed", f"{_times(trace)}, {hits} hit by faults: {trace.value}"
        if alone > CRASHES:
            yield "overtried", f"{_times(trace)}, {alone} of which ended their process with no fault near"
        if not trace.is_dead:
            yield "unburied", _times(trace)

    def _abandoned(self, trace: Trace) -> Breaches:
        if any(one.is_fatal for one in trace.executions):
            return
        if self._was_cut_short(trace):
            self.verdict.cut_short += 1
        else:
            yield "failed", f"{_times(trace)}, none hit by a fault: {trace.value}"

    def _was_cut_short(self, trace: Trace) -> bool:
        if trace.executions:
            return any(self._faults.have_hit(one) for one in trace.executions)
        return self._faults.have_struck(trace.asked)

    def _result(self, trace: Trace) -> Breaches:
        kind = trace.kind
        if not kind.is_stored or trace.state != kind.state or trace.error != kind.error:
            yield "wrong", f"{_times(trace)}: {trace.state} {trace.value!r}"
        elif kind.is_told_by_others:
            if not trace.executions:
                yield "unrun", _times(trace)
        elif not trace.finished:
            yield "unrun", _times(trace)
        else:
            yield from self._winner(trace)

    def _winner(self, trace: Trace) -> Breaches:
        """Judge the execution whose result is stored."""
        winner = next((one for one in trace.executions if _is_result_of(trace, one)), None)
        if winner is None or winner.attempt != trace.attempts:
            whose = f"attempt {winner.attempt}" if winner else "no execution that was seen"
            yield "wrong", f"{_times(trace)}: {trace.value!r} is of {whose}"
            return
        for other in trace.executions:
            is_final = other.settled is not None and other.attempt >= winner.attempt
            if other is not winner and is_final and (other.settled or 0.0) < (winner.finish or 0.0):
                yield "overwritten", f"{_described(other)}; then {_described(winner)}"


def _is_result_of(trace: Trace, execution: Execution) -> bool:
    wanted = [trace.token, execution.pid, execution.start]
    found = trace.value if isinstance(trace.value, list) else []
    return found[-3:] == wanted


def _times(trace: Trace) -> str:
    return f"{trace.kind.name} by {trace.route}, {len(trace.executions)} executions, {trace.finished} finished"


def _described(execution: Execution) -> str:
    attempt = f"attempt {execution.attempt}, " if execution.attempt > 1 else ""
    ending = f" ({execution.ending})" if execution.ending else ""
    end = "unfinished" if execution.finish is None else f"to {execution.finish:.3f}"
    stored = "" if execution.settled is None else f", stored {execution.settled:.3f}"
    where = f"pid {execution.pid} of worker {execution.worker}"
    return f"{attempt}{where} from {execution.start:.3f} {end}{ending}{stored}"
