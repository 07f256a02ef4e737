"""What a history tells of each task and of each fault, put together and indexed. Pure."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.history import Event
from tests.chaos.kinds import FAILURE, KINDS, WORKER_LOST, Kind

#: Seconds after the end of a task within which its result is stored, or its process was killed.
UNSETTLED: Final = 2.0
#: Seconds for which a child may outlive its dispatcher.
AFTERMATH: Final = 1.0
#: A fault that lasted longer than the first number reaches the second one further: workers notice its end only when
#: they next try, a third of a lease or one pause of a back-off later.
LASTING: Final = 1.0
LONG_AFTERMATH: Final = 5.0
#: A way of ending.
TIME_LIMIT: Final = "time limit"

FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something was broken between `since` and `until`: see `tests.chaos.faults.base.Struck`."""

    kind: str
    since: float
    until: float
    victims: frozenset[int] = frozenset()
    workers: frozenset[int] = frozenset()
    everywhere: bool = False

    @property
    def aftermath(self) -> float:
        return LONG_AFTERMATH if self.until - self.since > LASTING else AFTERMATH


@dataclass(slots=True, kw_only=True)
class Execution:
    """A task was started by a process of a worker."""

    pid: int
    worker: int
    start: float
    attempt: int = 1
    finish: float | None = None
    settled: float | None = None
    #: How it was about to end its process; empty if it was not.
    ending: str = ""

    @property
    def is_fatal(self) -> bool:
        """Whether its death counts as a crash: a task that is killed at its time limit has failed, and that is all."""
        return bool(self.ending) and self.ending != TIME_LIMIT

    @property
    def end(self) -> float:
        """The moment from which on nothing that happens to its process matters to it."""
        if self.settled is not None:
            return self.settled
        return FOREVER if self.finish is None else self.finish + UNSETTLED


class _Spans:
    """Spans of time, and whether one of them overlaps another one."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._longest = 0.0
        self._is_sorted = True

    def add(self, since: float, until: float) -> None:
        self._spans.append((since, until))
        self._longest = max(self._longest, until - since)
        self._is_sorted = False

    def overlap(self, start: float, end: float) -> bool:
        if not self._is_sorted:
            self._spans.sort()
            self._is_sorted = True
        first = bisect_left(self._spans, (start - self._longest, 0.0))
        last = bisect_right(self._spans, (end, FOREVER))
        return any(until >= start for _, until in self._spans[first:last])


class Faults:
    """All faults, found by whom they hit. `endings` are pid and span of processes that end by what their task does."""

    def __init__(self, faults: Iterable[Fault], endings: Iterable[tuple[int, float, float]] = ()) -> None:
        self._of_pid: defaultdict[int, _Spans] = defaultdict(_Spans)
        self._ending: defaultdict[int, _Spans] = defaultdict(_Spans)
        self._of_worker: defaultdict[int, _Spans] = defaultdict(_Spans)
        self._of_all = _Spans()
        self._struck = _Spans()
        for fault in faults:
            self._enter(fault)
        for pid, since, until in endings:
            self._ending[pid].add(since, until)

    def _enter(self, fault: Fault) -> None:
        reach = fault.until + fault.aftermath
        for pid in fault.victims:
            self._of_pid[pid].add(fault.since, fault.until)
        for worker in fault.workers:
            self._of_worker[worker].add(fault.since, reach)
        if fault.everywhere:
            self._of_all.add(fault.since, reach)
        self._struck.add(fault.since, reach)

    def have_hit(self, execution: Execution, *, before: float = FOREVER) -> bool:
        """Tell whether a fault, or another task of its process, can be the reason why it came to nothing."""
        start, end = execution.start, min(execution.end, before)
        of_pid, of_worker = self._of_pid.get(execution.pid), self._of_worker.get(execution.worker)
        others = None if execution.ending else self._ending.get(execution.pid)
        return any(spans.overlap(start, end) for spans in (of_pid, of_worker, others, self._of_all) if spans)

    def have_struck(self, since: float, until: float = FOREVER) -> bool:
        """Tell whether a fault hit anybody in that time."""
        return self._struck.overlap(since, until)


@dataclass(slots=True, kw_only=True)
class Trace:
    """All that is known of one task."""

    token: str
    task_id: str = ""
    route: str = ""
    kind: Kind = KINDS["work"]
    attempts: int = 1
    promise: str = "unknown"
    asked: float = 0.0
    state: str | None = None
    value: object = None
    is_dead: bool = False
    #: The start marks with which it was given up: each is of a start whose end nobody saw, or that never came about.
    marks: int = 0
    executions: list[Execution] = field(default_factory=list)

    def by_attempt(self) -> Iterator[tuple[int, list[Execution]]]:
        """Yield the executions of each attempt, in order."""
        if len(self.executions) == 1:
            yield self.executions[0].attempt, self.executions
            return
        found: defaultdict[int, list[Execution]] = defaultdict(list)
        for execution in self.executions:
            found[execution.attempt].append(execution)
        yield from sorted(found.items())

    @property
    def error(self) -> str:
        """The class of the exception that it failed with."""
        return str(self.value[0]) if self.state == FAILURE and isinstance(self.value, list) and self.value else ""

    @property
    def is_given_up(self) -> bool:
        return self.error == WORKER_LOST

    @property
    def finished(self) -> int:
        return sum(execution.finish is not None for execution in self.executions)


class Traces:
    """Puts events together, whatever order they come in."""

    def __init__(self) -> None:
        self.by_token: dict[str, Trace] = {}
        self.faults: list[Fault] = []
        self.endings: list[tuple[int, float, float]] = []
        self.seen: list[tuple[str, str, object]] = []
        self.last_asked = 0.0
        #: Somebody sends by a broker that is not the database, which knows each message once.
        self.may_have_copies = False
        self._by_id: dict[str, Trace] = {}
        self._ends: list[tuple[float, str, str, int, int]] = []
        self._finals: list[tuple[str, str, object]] = []
        self._dead: list[tuple[str, int]] = []

    def put(self, event: Event) -> bool:
        """Take an event in. False: it is of no kind that is known here."""
        handler = _HANDLERS.get(event["event"])
        if handler:
            handler(self, event)
        return handler is not None

    def complete(self) -> None:
        """Join what could be joined only with all events at hand."""
        for trace in self.by_token.values():
            trace.executions.sort(key=lambda execution: execution.start)
        self._ends.sort()
        for end in self._ends:
            self._join_end(*end)
        for task_id, state, value in self._finals:
            if found := self._by_id.get(task_id):
                found.state, found.value = state, value
        for task_id, marks in self._dead:
            if found := self._by_id.get(task_id):
                found.is_dead, found.marks = True, marks
        self._ends, self._finals, self._dead = [], [], []

    def by_id(self, task_id: str) -> Trace | None:
        return self._by_id.get(task_id)

    # -- one event

    def _of(self, token: str) -> Trace:
        found = self.by_token.get(token)
        if found is None:
            found = self.by_token[token] = Trace(token=token)
        return found

    def _identify(self, task_id: str, token: str) -> Trace:
        trace = self._by_id[task_id] = self._of(token)
        trace.task_id = task_id
        return trace

    def _note_asked(self, event: Event) -> None:
        at, route, kind, attempts = event["at"], event["route"], KINDS[event["kind"]], event["attempts"]
        self.last_asked = max(self.last_asked, at)
        for token in event["tokens"]:
            trace = self._of(token)
            trace.asked, trace.route, trace.kind, trace.attempts = at, route, kind, attempts

    def _note_sending(self, event: Event) -> None:
        self.may_have_copies |= event["broker"] != "django"

    def _note_raised(self, event: Event) -> None:
        for token in event["tokens"]:
            self._of(token).promise = "raised"

    def _note_sent(self, event: Event) -> None:
        for task_id, token in event["pairs"]:
            self._identify(task_id, token).promise = event["event"]

    def _note_started(self, event: Event) -> None:
        execution = Execution(pid=event["pid"], worker=event["worker"], start=event["at"], attempt=event["attempt"])
        self._identify(event["id"], event["token"]).executions.append(execution)

    def _note_end(self, event: Event) -> None:
        self._ends.append((event["at"], event["event"], event["id"], event["pid"], event.get("attempt", 0)))

    def _note_ending(self, event: Event) -> None:
        self._ends.append((event["at"], event["how"], event["id"], event["pid"], 0))
        self.endings.append((event["pid"], event["at"], event["until"]))

    def _note_fault(self, event: Event) -> None:
        fault = Fault(
            kind=event["kind"],
            since=event["since"],
            until=event["until"],
            victims=frozenset(event["victims"]),
            workers=frozenset(event["workers"]),
            everywhere=event["everywhere"],
        )
        self.faults.append(fault)

    def _note_seen(self, event: Event) -> None:
        self.seen += [(task_id, state, value) for task_id, state, value in event["results"]]

    def _note_final(self, event: Event) -> None:
        self._finals.append((event["id"], event["state"], event["value"]))

    def _note_dead(self, event: Event) -> None:
        self._dead.append((event["id"], event["starts"] if event["reason"].startswith("started ") else 0))

    def _join_end(self, at: float, name: str, task_id: str, pid: int, attempt: int) -> None:
        execution = self._running(at, task_id, pid, attempt)
        if execution is None and name == "settled":  # by a steward
            execution = self._running(at, task_id, 0, attempt)
        if execution is None:
            return
        if name == "finished":
            execution.finish = at
        elif name == "settled":
            execution.settled = at
        else:
            execution.ending = name

    def _running(self, at: float, task_id: str, pid: int, attempt: int) -> Execution | None:
        """Return the latest execution before the event, by that process, and of that attempt; 0: whatever it is."""
        trace = self._by_id.get(task_id)
        for execution in reversed(trace.executions if trace else ()):
            if execution.start <= at and pid in {0, execution.pid} and attempt in {0, execution.attempt}:
                return execution
        return None


_HANDLERS: Final = {
    "sending": Traces._note_sending,
    "asked": Traces._note_asked,
    "raised": Traces._note_raised,
    "confirmed": Traces._note_sent,
    "rolled_back": Traces._note_sent,
    "started": Traces._note_started,
    "finished": Traces._note_end,
    "settled": Traces._note_end,
    "ending": Traces._note_ending,
    "fault": Traces._note_fault,
    "seen": Traces._note_seen,
    "final": Traces._note_final,
    "dead": Traces._note_dead,
}
