"""The soak's judgement on made-up figures: it sees what grows, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from tests.soak import feed, report
from tests.soak.processes import Held
from tests.soak.run import COMPLAINT, Outcome, Plan
from tests.soak.sample import Clock, Sample
from tests.soak.storage import Stored
from tests.soak.verdict import MEMORY, MIB, PAGE_CACHE, PAGES, STANDING, UNVACUUMED, bounds

PLAN = Plan(tasks=1_000_000)
QUEUE = {"celery_message": 10 * MIB, "celery_message_ready": MIB}
HELD = Held(pid=1, pss=12_000, uss=10_000, descriptors=20, threads=2)


def sample(label: str, *, held: Held = HELD, rabbitmq: int = 3, **stored: Any) -> Sample:
    known: dict[str, Any] = {"rows": 4000 if label == "first" else 400_000, "connections": 6}
    known["sizes"] = {"celery_message": QUEUE, "celery_taskmeta": {"celery_taskmeta": known["rows"] * 450}}
    return Sample(
        label=label,
        tasks=10_000 if label == "first" else PLAN.tasks,
        seconds=100.0,
        waiting=0,
        processes={"dispatcher": held},
        stored=Stored(**known | stored),
        rabbitmq={"connections": rabbitmq},
    )


def outcome(end: Sample, **counts: Any) -> Outcome:
    known: dict[str, Any] = {"done": 970_000, "failed": 30_000, "retried": 20_000, "exit_code": 0, "complaints": 0}
    file: dict[str, Any] = {"file": end.stored.file}
    return Outcome(samples=[sample("first", **file), end], seconds=100.0, **known | counts)


def broken(judged: Outcome) -> list[str]:
    return [bound.name for bound in bounds(judged, PLAN) if not bound.is_kept]


def sizes(queue: int, results: int = 450) -> dict[str, dict[str, int]]:
    return {
        "celery_message": QUEUE | {"celery_message": queue},
        "celery_taskmeta": {"celery_taskmeta": results * 400_000},
    }


def test_a_worker_that_is_as_it_was_passes() -> None:
    assert broken(outcome(sample("end"))) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"uss": HELD.uss + MEMORY + 1}, "memory of the dispatcher alone, KiB"),
        ({"descriptors": 21}, "descriptors of the dispatcher"),
        ({"threads": 3}, "threads of the dispatcher"),
    ],
)
def test_a_process_that_holds_more_is_named(changes: dict[str, int], name: str) -> None:
    assert broken(outcome(sample("end", held=replace(HELD, **changes)))) == [name]


def test_on_sqlite_each_process_may_keep_pages_of_the_file() -> None:
    full = replace(HELD, uss=HELD.uss + MEMORY + PAGE_CACHE)

    assert broken(outcome(sample("end", held=full, file=1))) == []
    assert broken(outcome(sample("end", held=full))) == ["memory of the dispatcher alone, KiB"]


def test_connections_that_are_left_open_are_seen() -> None:
    assert broken(outcome(sample("end", connections=7, rabbitmq=4))) == [
        "connections to the database",
        "connections on RabbitMQ",
    ]


def test_a_table_may_hold_what_is_written_until_the_next_vacuum_and_no_more() -> None:
    pace, bytes_a_task = PLAN.tasks / 100, 10 * MIB / 10_000
    until_then = int(10 * MIB + bytes_a_task * pace * UNVACUUMED + STANDING)

    assert broken(outcome(sample("end", sizes=sizes(until_then)))) == []
    assert broken(outcome(sample("end", sizes=sizes(until_then + 1024)))) == ["bytes of celery_message"]


def test_on_sqlite_pages_are_used_again_at_once() -> None:
    assert broken(outcome(sample("end", sizes=sizes(10 * MIB + PAGES), file=1))) == []
    assert broken(outcome(sample("end", sizes=sizes(10 * MIB + PAGES + 1), file=1))) == ["bytes of celery_message"]


def test_results_may_become_many_but_not_large() -> None:
    assert broken(outcome(sample("end", sizes=sizes(10 * MIB, 640)))) == ["bytes of a result with its indexes"]


@pytest.mark.parametrize(
    ("counts", "number"),
    [
        ({"done": 969_999}, 1),
        ({"done": 970_001}, 1),
        ({"done": 970_001, "failed": 29_999}, 1),
        ({"retried": 20_001}, 1),
        ({"exit_code": 3}, 1),
        ({"complaints": 1}, 1),
    ],
)
def test_a_soak_that_lost_or_repeated_tasks_fails(counts: dict[str, int], number: int) -> None:
    assert len(broken(outcome(sample("end"), **counts))) == number


def test_the_failures_that_were_asked_for_are_no_complaints() -> None:
    start = "[2026-11-22 17:00:00,000: ERROR/child 1] "

    assert not COMPLAINT.match(f"{start}Task soak.failing[7] ended as FAILURE: number 3 is refused")
    assert COMPLAINT.match(f"{start}Task soak.stored[7] ended as FAILURE: of itself")
    assert COMPLAINT.match(f"{start}The child with pid 7 died (SIGSEGV).")


def test_the_shares_make_a_thousand() -> None:
    assert sum(share for _, share, _ in feed.KINDS) + feed.LATER == feed.THOUSAND


def test_looking_takes_no_time() -> None:
    moments = iter([1.0, 3.0, 10.0, 14.0])
    clock = Clock(lambda: next(moments))

    with clock:
        pass
    with clock:
        pass

    assert clock.seconds == 6.0


def test_the_report_says_what_grew_and_by_how_much() -> None:
    judged = outcome(sample("end", connections=7))

    text = report.summary(judged, PLAN, bounds(judged, PLAN))

    assert "1,000,000 tasks in 100.0 s, 10,000/s" in text
    assert "GREW  connections to the database: 6 after the first tasks, 7 at the end, at most 6" in text
    assert len(report.line(judged.samples[1]).split()) == len(report.HEADER) + 1
