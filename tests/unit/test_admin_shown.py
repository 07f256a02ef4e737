"""celery/admin/shown.py: texts for people."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from celery.admin import shown
from celery.models import Message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\ntwo", "one two"),
        ("", ""),
        ("x" * 120, "x" * 120),
        ("x" * 121, f"{'x' * 120}…"),
        ("a\0\ud800", "a\N{SYMBOL FOR NULL}\\ud800"),
    ],
)
def test_a_cell_is_one_line(text: str, line: str) -> None:
    assert shown.cell(text) == line


def test_a_text_keeps_its_lines_and_loses_what_no_page_can_carry() -> None:
    assert shown.cut("a\nb\0\ud800") == "a\nb\N{SYMBOL FOR NULL}\\ud800"


@pytest.mark.parametrize(("seconds", "words"), [(-7530, "2 h 5 min ago"), (7230, "in 2 h")])
def test_moments_are_told_from_here(seconds: float, words: str) -> None:
    assert shown.ago(timezone.now() + timedelta(seconds=seconds)) == words


def test_a_moment_is_told_to_the_second() -> None:
    assert shown.moment(datetime(2026, 3, 1, 12, 4, 5, 999, tzinfo=UTC)) == "2026-03-01 12:04:05"
    assert shown.moment_and_age(datetime(2026, 3, 1, tzinfo=UTC)).startswith("2026-03-01 00:00:00, ")
    assert (shown.moment(None), shown.moment_and_age(None)) == ("-", "-")


def test_a_naive_moment_is_one_of_djangos_zone() -> None:
    naive = timezone.make_naive(timezone.now(), timezone.get_default_timezone())

    assert shown.ago(naive - timedelta(seconds=7230)) == "2 h ago"


@pytest.mark.parametrize(
    ("text", "seen"),
    [("[1]", "[\n  1\n]"), ("no json", "no json"), ("NaN", "NaN"), ('"\\u00e9"', '"é"')],
)
def test_json_is_laid_out_and_all_else_is_as_it_is(text: str, seen: str) -> None:
    assert shown.pretty(text) == seen


def test_a_value_whose_repr_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown._value(Odd()) == "<Odd that cannot be shown: RuntimeError>"


def test_a_body_that_came_as_text_is_read() -> None:
    message = Message(body='{"task": "t", "id": "a", "args": [1]}')

    assert shown.arguments(message) == "1"


def test_a_message_of_protocol_2_is_read() -> None:
    message = Message(body=b"[[1], {}, {}]", headers='{"task": "t", "id": "a"}')

    assert shown.arguments(message) == "1"
