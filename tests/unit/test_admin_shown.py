"""celery/admin/shown.py: texts for people."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from celery.admin import shown
from celery.models import Message
from celery.moments import as_stored


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


def test_in_the_hour_that_comes_twice_a_moment_of_the_second_is_not_an_hour_off(settings: Settings) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"
    now = datetime.now(UTC)
    due = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)

    with timezone.override("UTC"):
        assert shown.moment(as_stored(due)) == "2026-10-25 01:30:00"
        assert shown.moment(as_stored(due - timedelta(hours=1))) == "2026-10-25 00:30:00"
    assert shown.ago(as_stored(now - timedelta(seconds=7230))) == "2 h ago"


@pytest.mark.parametrize(
    ("text", "seen"),
    [("[1]", "[\n  1\n]"), ("no json", "no json"), ("NaN", "NaN"), ('"\\u00e9"', '"é"')],
)
def test_json_is_laid_out_and_all_else_is_as_it_is(text: str, seen: str) -> None:
    assert shown.pretty(text) == seen


def test_twenty_levels_are_laid_out_and_deeper_ones_are_as_they_are() -> None:
    twenty = "[" * 20 + "{}" + "]" * 20

    assert shown.pretty("[" * 19 + "1" + "]" * 19).count("\n") == 38
    assert shown.pretty(f"[{twenty}]") == f"[{twenty}]"
    assert shown.pretty('{"a":' * 22 + "1" + "}" * 22).count("\n") == 0


def test_a_text_that_is_cut_in_any_case_is_not_laid_out() -> None:
    """Lines at 900 levels have 1,800 blanks each: 200 kB of text became 180 MB."""
    many = json.dumps([1] * shown.LONGEST_TEXT)
    deep = "[" * 900 + many + "]" * 900

    assert shown.pretty(many) is many
    assert shown.pretty(deep) is deep


@pytest.mark.parametrize("levels", range(1, 40, 3))
def test_no_text_becomes_more_than_fifty_times_as_long(levels: int) -> None:
    room = (shown.LONGEST_TEXT - 2 * levels) // 2
    text = "[" * levels + ",".join("1" * room) + "]" * levels

    assert len(shown.pretty(text)) <= 50 * shown.LONGEST_TEXT


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
