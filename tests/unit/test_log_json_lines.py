"""celery/log/json_lines.py: one object a line, whatever is in it."""

import json
import logging
import math
import re
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery.log.json_lines import JSONFormatter


def line(message: str = "told", *args: Any, level: int = logging.INFO, exc_info: Any = None, **extra: Any) -> str:
    record = logging.LogRecord("celery.task", level, __file__, 7, message, args, exc_info)
    for name, value in extra.items():
        setattr(record, name, value)
    return JSONFormatter().format(record)


def fields(*args: Any, **extra: Any) -> Any:
    return json.loads(line(*args, **extra), parse_constant=pytest.fail)


def test_a_line_says_when_who_and_what() -> None:
    found = fields("Task %s done in %.1f s.", "shop.add", 0.25)

    assert list(found) == ["time", "level", "logger", "process", "pid", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["time"])).total_seconds()) < 60
    assert (found["level"], found["logger"]) == ("INFO", "celery.task")
    assert found["message"] == "Task shop.add done in 0.2 s."


def test_whatever_the_line_has_besides_is_a_field() -> None:
    found = fields(task_id="id-1", runtime=0.5, attempt=2, is_late=True, queues=("a", "b"), until=None)

    assert (found["task_id"], found["runtime"], found["attempt"]) == ("id-1", 0.5, 2)
    assert (found["is_late"], found["queues"], found["until"]) == (True, ["a", "b"], None)


def test_a_runtime_has_no_digits_beyond_the_microsecond() -> None:
    found = fields(runtime=0.123456789012345678, length=0.123456789)

    assert (found["runtime"], found["length"]) == (0.123457, 0.123456789)
    assert fields(runtime=7)["runtime"] == 7


def test_a_field_that_is_called_like_one_of_ours_gets_an_underscore() -> None:
    found = fields(time="soon", pid="mine")

    assert (found["time_"], found["pid_"]) == ("soon", "mine")
    assert found["time"].startswith("20")
    assert isinstance(found["pid"], int)


def test_an_exception_is_its_traceback() -> None:
    try:
        int("no \ud800 money")
    except ValueError:
        found = fields(exc_info=sys.exc_info())

    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert found["exception"].endswith(": 'no \\ud800 money'")


def test_a_stack_is_a_field() -> None:
    assert fields(stack_info="Stack: ...")["stack"] == "Stack: ..."


class Colour(IntEnum):
    RED = 1


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no")


class Sly(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no")


def circle() -> list[Any]:
    found: list[Any] = []
    found += [found, {"again": found}]
    return found


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two\nlines", "two\nlines"),
        ("lone \ud800", "lone \\ud800"),
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \\xff"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (2**53, 2**53),
        (2**53 + 1, str(2**53 + 1)),
        (10**5000, "<int>"),
        (Decimal("1.5"), "1.5"),
        (Colour.RED, 1),
        (datetime(2026, 11, 1, tzinfo=UTC), "2026-11-01T00:00:00+00:00"),
        (date(2026, 11, 1), "2026-11-01"),
        ({(1, 2): {3}, "\ud800": ()}, {"(1, 2)": [3], "\\ud800": []}),
        (Mute(), "<Mute>"),
        ([Mute()], ["<Mute>"]),
        (Sly(), "{}"),
        (ValueError("no"), "no"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_become_something_that_json_has(value: Any, shown: Any) -> None:
    assert fields(odd=value)["odd"] == shown


def test_a_value_that_contains_itself_ends_somewhere() -> None:
    assert len(line(odd=circle())) < 10_000


@pytest.mark.parametrize(
    ("message", "args", "shown"),
    [("%d", ("word",), "%d ('word',)"), ("%s", (Mute(),), "%s <tuple>"), ("50 %", (), "50 %")],
)
def test_a_message_whose_arguments_do_not_fit_is_shown_with_them(message: str, args: Any, shown: str) -> None:
    assert fields(message, *args)["message"].startswith(shown.partition(" <tuple>")[0])


@given(
    st.text(),
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name not in vars(logging.makeLogRecord({}))),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        ),
    ),
)
def test_any_line_is_one_line_that_any_program_can_read(message: str, extra: dict[str, Any]) -> None:
    written = line(message.replace("%", "%%"), **extra)

    assert written.isascii()
    assert "\n" not in written
    for text in strings(json.loads(written, parse_constant=pytest.fail)):
        text.encode("utf-8")


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []
