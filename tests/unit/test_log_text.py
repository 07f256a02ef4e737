"""celery/log/text.py: a record is one line, whatever is in it; the lines of a traceback stay lines."""

import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery.log.text import TextFormatter, escape_arguments, printable, refuse_format

FORGED = "x\n[2026-11-22 10:00:00,000: INFO/child-1] Task fake[1] done\x1b[31m"
ESCAPED = r"x\n[2026-11-22 10:00:00,000: INFO/child-1] Task fake[1] done\x1b[31m"


def record(message: str, *args: Any, exc_info: Any = None) -> logging.LogRecord:
    return logging.LogRecord("celery.task", logging.ERROR, __file__, 7, message, args, exc_info)


class TestPrintable:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Zoë's café: 20 \N{EURO SIGN}, C:\\new \N{BRIDGE AT NIGHT}", None),
            ("", None),
            ("a\r\nb\tc\0\x7f", r"a\r\nb\tc\x00\x7f"),
            ("\x1b]0;title\x07\x9b31m", r"\x1b]0;title\x07\x9b31m"),
            ("a\N{LINE SEPARATOR}b\x85c", r"a\u2028b\x85c"),
            ("pay\N{ZERO WIDTH SPACE}\N{RIGHT-TO-LEFT OVERRIDE}", r"pay\u200b\u202e"),
            ("\udcff", r"\udcff"),
        ],
    )
    def test_what_does_not_print_becomes_its_escape(self, text: str, expected: str | None) -> None:
        assert printable(text) == (text if expected is None else expected)

    @given(st.text())
    def test_any_text_is_one_line_that_can_be_written(self, text: str) -> None:
        shown = printable(text)

        assert shown.isprintable()
        assert len(shown.splitlines()) <= 1
        assert shown.encode().decode() == shown
        assert printable(shown) == shown


class TestTheFormatter:
    def test_a_message_writes_no_line_of_its_own(self) -> None:
        line = TextFormatter("[%(levelname)s] %(message)s").format(record("Task %s: %s", FORGED, ValueError(FORGED)))

        assert line == f"[ERROR] Task {ESCAPED}: {ESCAPED}"

    def test_a_traceback_keeps_its_lines(self) -> None:
        # given
        try:
            int("money")
        except ValueError:
            told = record("refused\n", exc_info=sys.exc_info())

        # when
        lines = TextFormatter("%(message)s").format(told).splitlines()

        # then
        assert lines[:2] == ["refused\\n", "Traceback (most recent call last):"]
        assert lines[-1] == "ValueError: invalid literal for int() with base 10: 'money'"

    def test_what_the_format_itself_has_stays(self) -> None:
        assert TextFormatter("\x1b[1m%(name)s\x1b[0m\n\t%(message)s").format(record("told")) == (
            "\x1b[1mcelery.task\x1b[0m\n\ttold"
        )

    def test_what_others_make_of_the_record_is_not_ours_to_change(self) -> None:
        told = record("a\nb")

        TextFormatter("%(message)s").format(told)

        assert logging.Formatter("%(message)s").format(told) == "a\nb"


class TestTheFilter:
    def test_words_in_a_sentence_are_escaped_and_numbers_stay(self) -> None:
        told = record("Task %s done in %.1f s, %d.", FORGED, 0.25, 7)

        assert escape_arguments(told)
        assert told.getMessage() == f"Task {ESCAPED} done in 0.2 s, 7."

    @pytest.mark.parametrize("args", [(), ({"name": "pay"},)])
    def test_what_has_no_words_is_left_alone(self, args: tuple[Any, ...]) -> None:
        told = record("%(name)s told" if args else "100% told", *args)

        assert escape_arguments(told)
        assert told.getMessage() == ("pay told" if args else "100% told")


class TestRefuseFormat:
    @pytest.mark.parametrize(
        "template", ["xml", "%(message)", "%(user)s %(message)s", "%(message)d", "%(lineno)99999999999999999999d"]
    )
    def test_what_can_make_no_line_is_refused_with_the_reason(self, template: str) -> None:
        with pytest.raises(ValueError, match=r"\w"):
            refuse_format(template)

    def test_every_field_that_each_line_has_may_be_asked_for(self) -> None:
        refuse_format("%(asctime)s %(levelname)s %(processName)s %(process)d %(name)s %(lineno)d %(message)s")
