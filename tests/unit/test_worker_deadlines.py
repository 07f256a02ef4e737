"""What the options of a database become; tests/contract/test_deadlines.py asks real ones."""

from typing import Any

import pytest

from celery.worker.deadlines import ANSWER, CONNECT, bounded
from celery.worker.watchdog import STALLED


@pytest.mark.parametrize(
    ("vendor", "given", "expected"),
    [
        ("mysql", {}, {"connect_timeout": CONNECT, "read_timeout": ANSWER, "write_timeout": ANSWER}),
        (
            "mysql",
            {"read_timeout": 600, "write_timeout": 3, "charset": "utf8mb4"},
            {"connect_timeout": CONNECT, "read_timeout": ANSWER, "write_timeout": 3, "charset": "utf8mb4"},
        ),
        ("postgresql", {"connect_timeout": 0}, {"connect_timeout": CONNECT}),
        ("postgresql", {"connect_timeout": "2"}, {"connect_timeout": "2"}),
        ("postgresql", {"connect_timeout": None}, {"connect_timeout": CONNECT}),
        ("sqlite", {"timeout": 60}, {"timeout": ANSWER}),
        ("sqlite", {"timeout": 3.5}, {"timeout": 3.5}),
        ("sqlite", {}, {}),
        ("oracle", {"threaded": True}, {"threaded": True}),
    ],
)
def test_a_limit_of_the_project_is_kept_where_it_is_shorter(
    vendor: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert bounded(vendor, given) == expected


def test_two_questions_without_an_answer_are_no_death_yet() -> None:
    """A dispatcher that connects, and asks once more, has turned its loop before the watchdog kills it."""
    assert CONNECT + 2 * ANSWER <= STALLED
