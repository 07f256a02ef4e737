"""The checker: reads a history and says what was promised and not kept. Pure: events in, a verdict out.

Invariants, and the names under which a breach is reported:

lost         a confirmed task has no stored result, and no message either
stuck        it has no stored result, and something is left that could still run it
unrun        it has a result, but was never seen to finish
wrong        its result is not what the task returned
failed       it is a FAILURE although fewer than `CRASHES` faults hit its executions
revoked      a task of a transaction that was rolled back ran, or has a result
phantom      something ran that nobody had asked for
repeated     it ran again without a cause: the execution before was not hit by a fault
left         something is left over at the end, a worker did not heal, or a kind of fault never hit

A task whose sending raised is indeterminate: it may have a result or not, but if it ran it has to end like any other.

When is a second execution explained? If a fault *hit* the execution before it, that is if

- the fault killed the process that ran it, or that worker's dispatcher or supervisor (which ends all its children);
- it did so while the execution ran or its result was not yet stored: between the start, and the moment at which the
  child said that the result is durable; where the child never said so, `UNSETTLED` seconds after the end;
- and it did so before the next execution began: causes come first.

Children outlive their dispatcher until the supervisor has noticed, so a fault on a dispatcher reaches `AFTERMATH`
seconds further: it also hits what such an orphan starts meanwhile. That others declared a living worker lost explains
nothing: a false alarm is a defect of its own. Nor does the death of a steward, which holds no message that runs.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.history import Event, in_order

#: Seconds after the end of a task within which its result is stored, or its process was killed.
UNSETTLED = 2.0
#: Seconds for which a child may outlive its dispatcher.
AFTERMATH = 1.0
#: Faults on one task after which it may be given up (the default of CELERY_CRASH_LIMIT).
CRASHES = 3

DONE, FAILURE = "DONE", "FAILURE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something was broken between `since` and `until`: see `tests.chaos.faults.base.Struck`."""

    kind: str
    since: float
    until: float
    victims: frozenset[int]
    workers: frozenset[int]
    everywhere: bool = False


@dataclass(slots=True, kw_only=True)
class Execution:
    """A task was started by a process of a worker."""

    pid: int
    worker: int
    start: float
    finish: float | None = None
    settled: float | None = None

    def is_hit_by(self, fault: Fault, *, before: float = float("inf")) -> bool:
        """Tell whether `fault` can be the reason why this execution came to nothing."""
        takes_worker = fault.everywhere or self.worker in fault.workers
        if not takes_worker and self.pid not in fault.victims:
            return False
        reach = fault.until + (AFTERMATH if takes_worker else 0.0)
        return reach >= self.start and fault.since <= min(self._end(), before)

    def _end(self) -> float:
        if self.settled is not None:
            return self.settled
        return float("inf") if self.finish is None else self.finish + UNSETTLED


@dataclass(slots=True, kw_only=True)
class Trace:
    """All that is known of one task."""

    token: str
    task_id: str = ""
    route: str = ""
    promise: str = "unknown"
    state: str | None = None
    value: object = None
    executions: list[Execution] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A promise that was not kept."""

    kind: str
    token: str = ""
    task_id: str = ""
    text: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.kind}:", self.token, self.task_id, self.text) if part)


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What the checker found."""

    promises: Counter[str]
    executions: int
    explained: int
    given_up: int
    faults: Counter[str]
    moments: Counter[str]
    missed: int
    takeovers: int
    problems: list[Problem]

    @property
    def kinds(self) -> Counter[str]:
        return Counter(problem.kind for problem in self.problems)


def check(events: Iterable[Event]) -> Verdict:
    """Return the verdict on a history."""
    return _Checker(in_order(events)).verdict()


class _Checker:
    def __init__(self, events: list[Event]) -> None:
        self._by_name: defaultdict[str, list[Event]] = defaultdict(list)
        for event in events:
            self._by_name[event["event"]].append(event)
        self._faults = [_fault(event) for event in self._by_name["fault"]]
        self._traces = _Traces(self._by_name).collected
        self._is_something_waiting = any(event["what"] == "message" for event in self._by_name["left"])
        self._explained = 0

    def verdict(self) -> Verdict:
        problems = [*self._of_surroundings()]
        for trace in self._traces.values():
            problems += self._of_trace(trace)
        traces = self._traces.values()
        return Verdict(
            promises=Counter(trace.promise for trace in traces),
            executions=sum(len(trace.executions) for trace in traces),
            explained=self._explained,
            given_up=sum(trace.state == FAILURE for trace in traces),
            faults=Counter(fault.kind for fault in self._faults),
            moments=Counter(event["moment"] for event in self._by_name["fault"] if event["moment"]),
            missed=len(self._by_name["missed"]),
            takeovers=len(self._by_name["took_over"]),
            problems=problems,
        )

    def _of_surroundings(self) -> Iterator[Problem]:
        for event in self._by_name["left"]:
            yield Problem(kind="left", text=f"{event['what']}: {event['text']}")

    def _of_trace(self, trace: Trace) -> Iterator[Problem]:
        for kind, text in self._breaches(trace):
            yield Problem(kind=kind, token=trace.token, task_id=trace.task_id, text=text)

    def _breaches(self, trace: Trace) -> Iterator[tuple[str, str]]:
        yield from self._repetitions(trace)
        if trace.promise == "unknown" and not trace.route:
            yield "phantom", f"{len(trace.executions)} executions"
        elif trace.promise == "rolled_back":
            if trace.executions or trace.state:
                yield "revoked", f"{len(trace.executions)} executions, state {trace.state}"
        elif trace.promise == "confirmed" or trace.executions or trace.state:
            yield from self._ends(trace)

    def _ends(self, trace: Trace) -> Iterator[tuple[str, str]]:
        times = f"{trace.route}, {len(trace.executions)} executions, {_ended(trace)} finished"
        if trace.state is None:
            yield "stuck" if self._is_something_waiting else "lost", times
        elif trace.state == FAILURE:
            hits = self._hits(trace)
            if hits < CRASHES:
                yield "failed", f"{times}, {hits} hit by faults: {trace.value}"
        elif trace.state != DONE or trace.value != trace.token:
            yield "wrong", f"{trace.state}: {trace.value!r}"
        elif not _ended(trace):
            yield "unrun", times

    def _hits(self, trace: Trace) -> int:
        return sum(any(execution.is_hit_by(fault) for fault in self._faults) for execution in trace.executions)

    def _repetitions(self, trace: Trace) -> Iterator[tuple[str, str]]:
        for first, second in pairwise(trace.executions):
            if any(first.is_hit_by(fault, before=second.start) for fault in self._faults):
                self._explained += 1
            else:
                yield "repeated", f"{_described(first)}; again {_described(second)}"


class _Traces:
    """Puts the events of each task together."""

    def __init__(self, by_name: Mapping[str, list[Event]]) -> None:
        self.collected: dict[str, Trace] = {}
        self._by_id: dict[str, Trace] = {}
        self._note_promises(by_name)
        for event in by_name["started"]:
            self._note_start(event)
        for name in ("finished", "settled"):
            self._note_ends(name, by_name[name])
        for event in by_name["final"]:
            if trace := self._by_id.get(event["id"]):
                trace.state, trace.value = event["state"], event["value"]

    def _of(self, token: str) -> Trace:
        return self.collected.setdefault(token, Trace(token=token))

    def _identify(self, task_id: str, token: str) -> Trace:
        trace = self._by_id[task_id] = self._of(token)
        trace.task_id = task_id
        return trace

    def _note_promises(self, by_name: Mapping[str, list[Event]]) -> None:
        for event in by_name["asked"]:
            for token in event["tokens"]:
                self._of(token).route = event["route"]
        for event in by_name["raised"]:
            for token in event["tokens"]:
                self._of(token).promise = "raised"
        for event in (*by_name["confirmed"], *by_name["rolled_back"]):
            for task_id, token in event["pairs"]:
                self._identify(task_id, token).promise = event["event"]

    def _note_start(self, event: Event) -> None:
        execution = Execution(pid=event["pid"], worker=event["worker"], start=event["at"])
        self._identify(event["id"], event["token"]).executions.append(execution)

    def _note_ends(self, name: str, events: Iterable[Event]) -> None:
        for event in events:
            execution = self._running(event)
            if execution and name == "finished":
                execution.finish = event["at"]
            elif execution:
                execution.settled = event["at"]

    def _running(self, event: Event) -> Execution | None:
        """Return the latest execution by that process before the event."""
        trace = self._by_id.get(event["id"])
        candidates = trace.executions if trace else []
        mine = [one for one in candidates if one.pid == event["pid"] and one.start <= event["at"]]
        return mine[-1] if mine else None


def _fault(event: Event) -> Fault:
    return Fault(
        kind=event["kind"],
        since=event["since"],
        until=event["until"],
        victims=frozenset(event["victims"]),
        workers=frozenset(event["workers"]),
        everywhere=event["everywhere"],
    )


def _ended(trace: Trace) -> int:
    return sum(execution.finish is not None for execution in trace.executions)


def _described(execution: Execution) -> str:
    end = "unfinished" if execution.finish is None else f"to {execution.finish:.3f}"
    stored = "" if execution.settled is None else f", stored {execution.settled:.3f}"
    return f"pid {execution.pid} of worker {execution.worker} from {execution.start:.3f} {end}{stored}"
