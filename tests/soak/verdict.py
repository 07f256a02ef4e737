"""What may be more at the end than after the first tasks, how much, and why. Everything else is growth, and fails."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.soak import feed
from tests.soak.run import Outcome, Plan
from tests.soak.sample import Sample
from tests.soak.storage import QUEUE, RESULTS

KIB = 1024
MIB = 1024 * KIB

#: KiB that one process may gain. The allocators of Python and C, and the buffers of psycopg and SQLite, settle within
#: some 100,000 tasks at what the largest group of jobs or results needed: measured, 1 to 3 MiB. In a million tasks four
#: bytes leaked by the dispatcher for each, or 16 by a child, are more than this.
MEMORY = 4 * KIB
#: KiB more on SQLite, each connection to which keeps so much of the file: after 10,000 tasks it is not that large.
PAGE_CACHE = 2000
#: What is opened once: descriptors, threads, connections, channels, queues. None may be added.
NONE = 0
#: Bytes. On SQLite a page that is free is used at once, so an empty table has a page for itself and one an index; a
#: little more is left where rows of scheduled messages were the last to go.
PAGES = 64 * KIB
#: The log of SQLite is written anew from its beginning after each checkpoint, at 1,000 pages of 4 KiB. Who reads
#: meanwhile puts that off.
LOG = 64 * MIB
#: On PostgreSQL what a deleted row has left is used again after a vacuum. For so many seconds nobody may come to do it:
#: the steward looks every two, and rests twenty times as long as the vacuum before took, which was up to 0.25 s.
UNVACUUMED = 8.0
#: Bytes besides, for the table and for each of its indexes: of the rows of 20,000 tasks, at 1.1 KiB and 0.15 KiB each.
#: So many may wait, 10,000, or have left too few dead rows to be worth a vacuum, 5,000; and pages may be half full.
STANDING = 24 * MIB
STANDING_IN_INDEX = 4 * MIB
#: How much of a result row's bytes at first it may be at the end. The pages of trees that are filled in random order
#: are between half and completely full, in a wave: 4,000 rows are one point of it, 400,000 another.
BYTES_A_RESULT = 1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One figure: what it was after the first tasks, what it is at the end, and the most that it may be."""

    name: str
    first: float
    end: float
    most: float

    @property
    def is_kept(self) -> bool:
        """Tell whether it is."""
        return self.end <= self.most

    def __str__(self) -> str:
        first, end, most = (f"{value:,.0f}" for value in (self.first, self.end, self.most))
        return f"{self.name}: {first} after the first tasks, {end} at the end, at most {most}"


def bounds(outcome: Outcome, plan: Plan) -> list[Bound]:
    """Return all figures that are judged."""
    first, end = outcome.labelled("first"), outcome.labelled("end")
    return [
        *_of_processes(first, end),
        *_of_servers(first, end),
        *_of_queue(outcome, first, end),
        *_of_results(first, end),
        *_of_counts(outcome, plan),
    ]


def _of_processes(first: Sample, end: Sample) -> Iterator[Bound]:
    memory = MEMORY + (PAGE_CACHE if end.stored.file else 0)
    for role, before in first.processes.items():
        after = end.processes[role]
        yield _grown(f"memory of the {role} alone, KiB", before.uss, after.uss, memory)
        yield _grown(f"descriptors of the {role}", before.descriptors, after.descriptors, NONE)
        yield _grown(f"threads of the {role}", before.threads, after.threads, NONE)


def _of_servers(first: Sample, end: Sample) -> Iterator[Bound]:
    yield _grown("connections to the database", first.stored.connections, end.stored.connections, NONE)
    for name, before in first.rabbitmq.items():
        yield _grown(f"{name} on RabbitMQ", before, end.rabbitmq[name], NONE)


def _of_queue(outcome: Outcome, first: Sample, end: Sample) -> Iterator[Bound]:
    """Judge the table of messages and each of its indexes; on SQLite what its log holds, too."""
    pace = end.tasks / outcome.seconds
    for name, before in first.stored.sizes[QUEUE].items():
        standing = STANDING if name == QUEUE else STANDING_IN_INDEX
        allowed = PAGES if end.stored.file else before / first.tasks * pace * UNVACUUMED + standing
        yield _grown(f"bytes of {name}", before, end.stored.sizes[QUEUE][name], allowed)
    if end.stored.file:
        yield _grown("bytes of SQLite's log", first.stored.log, end.stored.log, LOG)


def _of_results(first: Sample, end: Sample) -> Iterator[Bound]:
    """Results are kept, so it is the bytes of one that must not grow."""
    before, after = (sum(at.stored.sizes[RESULTS].values()) / at.stored.rows for at in (first, end))
    yield Bound(name="bytes of a result with its indexes", first=before, end=after, most=before * BYTES_A_RESULT)


def _of_counts(outcome: Outcome, plan: Plan) -> Iterator[Bound]:
    """A soak that lost or repeated tasks has measured something else."""
    thousands = plan.tasks // feed.THOUSAND
    off = {
        "tasks that the history has too many or too few": outcome.done + outcome.failed - plan.tasks,
        "failures that it has too many or too few": outcome.failed - thousands * feed.FAILING,
        "retries that it has too many or too few": outcome.retried - thousands * feed.RETRIED,
        "exit code": outcome.exit_code,
        "warnings and errors in the log": outcome.complaints,
    }
    for name, count in off.items():
        yield Bound(name=name, first=0, end=abs(count), most=0)


def _grown(name: str, first: float, end: float, allowed: float) -> Bound:
    return Bound(name=name, first=first, end=end, most=first + allowed)
