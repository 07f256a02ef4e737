import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from logging.config import dictConfig
from pathlib import Path
from typing import Any

import pytest
from django.dispatch import Signal
from pytest_django import Settings

from celery import log, signals, states
from celery.log import setup_logger


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The logger ``celery`` without handlers; those that a test gives it are closed afterwards."""
    root = logging.getLogger("celery")
    made: list[logging.Handler] = []
    monkeypatch.setattr(root, "handlers", made)
    monkeypatch.setattr(root, "propagate", root.propagate)
    level = root.level
    yield root
    root.setLevel(level)
    for handler in made:
        handler.close()
    for signal in vars(signals).values():
        if isinstance(signal, Signal):
            signal.disconnect(dispatch_uid="celery.log")


class TestSetupLogger:
    def test_without_a_file_it_logs_to_standard_error(
        self, root: logging.Logger, capsys: pytest.CaptureFixture[str]
    ) -> None:
        setup_logger("warning")
        root.warning("told")
        root.info("not told")

        assert "told" in capsys.readouterr().err
        assert log.current_file() is None
        assert log.current_level() == logging.WARNING
        assert not root.propagate

    def test_a_handler_of_the_project_is_used_as_it_is(self, root: logging.Logger) -> None:
        theirs = logging.NullHandler()
        root.addHandler(theirs)

        setup_logger("INFO")

        assert root.handlers == [theirs]
        assert root.propagate

    def test_a_file_is_added_to_a_handler_of_the_project(self, root: logging.Logger, tmp_path: Path) -> None:
        theirs = logging.NullHandler()
        root.addHandler(theirs)

        setup_logger("INFO", str(tmp_path / "log"), "<%(message)s>").info("told")

        assert (tmp_path / "log").read_text() == "<told>\n"
        assert root.handlers[0] is theirs
        assert log.current_file() == str(tmp_path / "log")


class TestTheLoggingOfTheProject:
    """LOGGING and the root logger are left alone, and no line is written twice."""

    @pytest.fixture
    def configured(self, root: logging.Logger) -> Iterator[Callable[..., StringIO]]:
        """Configure logging as Django does of LOGGING, with one handler, and return what that writes to."""
        top = logging.getLogger()
        before = (top.handlers[:], top.level)
        written = StringIO()

        def configure(**loggers: Any) -> StringIO:
            handlers = {"theirs": {"class": "logging.StreamHandler", "stream": written, "formatter": "plain"}}
            formats = {"plain": {"format": "theirs: %(message)s"}}
            dictConfig({"version": 1, "handlers": handlers, "formatters": formats, **loggers})
            return written

        yield configure
        top.handlers[:], top.level = before
        for name in ("celery", "celery.task", "celery.worker"):
            logging.getLogger(name).disabled = False

    def test_a_handler_that_it_gives_us_has_each_line_once(
        self, configured: Callable[..., StringIO], tmp_path: Path
    ) -> None:
        written = configured(loggers={"celery": {"handlers": ["theirs"], "level": "DEBUG"}})

        setup_logger(None, str(tmp_path / "log"), "%(message)s")
        log.task_logger.debug("a line")

        assert written.getvalue() == "theirs: a line\n"
        assert (tmp_path / "log").read_text() == "a line\n"

    def test_the_level_that_it_gives_us_holds_unless_we_are_told_another(
        self, configured: Callable[..., StringIO], settings: Settings
    ) -> None:
        configured(loggers={"celery": {"handlers": ["theirs"], "level": "WARNING"}})

        setup_logger()
        assert log.current_level() == logging.WARNING

        settings.CELERYD_DAEMON_LOG_LEVEL = "INFO"
        setup_logger()
        assert log.current_level() == logging.INFO

        setup_logger("DEBUG")
        assert log.current_level() == logging.DEBUG

    def test_handlers_of_the_root_logger_are_left_alone(
        self, configured: Callable[..., StringIO], capsys: pytest.CaptureFixture[str]
    ) -> None:
        written = configured(root={"handlers": ["theirs"], "level": "ERROR"})

        setup_logger()
        log.logger.error("a line")

        assert written.getvalue() == ""
        assert capsys.readouterr().err.count("a line") == 1
        assert logging.getLogger().level == logging.ERROR

    def test_who_wants_our_lines_in_the_root_logger_gets_them_once(
        self, configured: Callable[..., StringIO], capsys: pytest.CaptureFixture[str], root: logging.Logger
    ) -> None:
        written = configured(root={"handlers": ["theirs"]})
        root.addHandler(logging.NullHandler())

        setup_logger()
        log.logger.error("a line")

        assert written.getvalue() == "theirs: a line\n"
        assert capsys.readouterr().err == ""

    def test_loggers_that_it_disables_are_ours_again(self, configured: Callable[..., StringIO], tmp_path: Path) -> None:
        configured(disable_existing_loggers=True, root={"handlers": ["theirs"]})
        assert log.task_logger.disabled

        setup_logger("INFO", str(tmp_path / "log"), "%(message)s")
        log.task_logger.info("a line")

        assert (tmp_path / "log").read_text() == "a line\n"

    def test_loggers_of_others_stay_disabled(self, configured: Callable[..., StringIO]) -> None:
        other = logging.getLogger("celery_of_others")
        configured(disable_existing_loggers=True)

        setup_logger()

        assert other.disabled


class TestTheFormat:
    @pytest.mark.parametrize("is_said", [True, False])
    def test_json_is_said_or_set(self, root: logging.Logger, tmp_path: Path, settings: Settings, is_said: bool) -> None:
        settings.CELERYD_DAEMON_LOG_FORMAT = "%(message)s" if is_said else "json"

        setup_logger("INFO", str(tmp_path / "log"), "json" if is_said else None).info("told")

        assert json.loads((tmp_path / "log").read_text())["message"] == "told"

    def test_a_line_is_one_line_whatever_a_task_tells(self, root: logging.Logger, tmp_path: Path) -> None:
        setup_logger("INFO", str(tmp_path / "log"), "<%(message)s>")

        logging.getLogger("celery.task.shop.pay").info("first\nsecond \x1b[31m")

        assert (tmp_path / "log").read_text() == "<first\\nsecond \\x1b[31m>\n"


class TestTheStream:
    """What is written without the logging module."""

    @pytest.fixture
    def path(self, root: logging.Logger, tmp_path: Path) -> Path:
        """The file that is logged to."""
        setup_logger("INFO", str(tmp_path / "log"), "%(message)s").info("first")
        return tmp_path / "log"

    def test_one_that_was_moved_away_is_opened_anew_when_that_is_told(self, path: Path) -> None:
        path.rename(path.with_name("log.1"))

        log.reopen()

        assert path.read_text() == ""

    def test_what_needs_a_descriptor_writes_into_the_same_file(self, path: Path) -> None:
        log.write("stacks\n")

        assert log.stream().fileno() > 2
        assert path.read_text() == "first\nstacks\n"

    @pytest.mark.usefixtures("root")
    def test_without_any_handler_standard_error_is_the_file(self) -> None:
        assert log.stream() is sys.stderr


class TestLines:
    """What becomes a line, and how loud it is."""

    @pytest.fixture
    def lines(self, root: logging.Logger, caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
        log.connect()
        root.addHandler(caplog.handler)
        root.propagate = False
        root.setLevel(logging.DEBUG)
        yield caplog
        root.handlers.clear()

    @pytest.mark.parametrize(
        ("reason", "level"), [("", logging.DEBUG), ("no task named 'shop.buy' is registered", logging.WARNING)]
    )
    def test_a_job_that_waits_is_only_told_of_aloud_if_that_is_no_plan_of_its_sender(
        self, lines: pytest.LogCaptureFixture, reason: str, level: int
    ) -> None:
        until = datetime(2026, 11, 1, tzinfo=UTC)

        signals.notify(signals.job_postponed, name="shop.add", task_id="some id", until=until, reason=reason)

        (record,) = lines.records
        assert record.levelno == level
        expected = f"Task shop.add[some id] waits until 2026-11-01T00:00:00+00:00. {reason}"
        assert record.getMessage() == expected

    def test_a_dead_job_without_a_name_is_told_of_too(self, lines: pytest.LogCaptureFixture) -> None:
        signals.notify(signals.job_dead, name="", task_id="some id", reason="it crashed 3 times")

        (record,) = lines.records
        assert record.levelno == logging.ERROR
        assert record.getMessage() == "Task ?[some id] is dead: it crashed 3 times"

    def test_what_is_done_is_no_line_where_that_is_not_wanted(
        self, lines: pytest.LogCaptureFixture, root: logging.Logger
    ) -> None:
        facts = {"name": "shop.add", "task_id": "some id", "state": states.DONE, "runtime": 0.5, "error": ""}

        signals.notify(signals.task_finished, **facts)
        root.setLevel(logging.WARNING)
        signals.notify(signals.task_finished, **facts)

        assert [record.getMessage() for record in lines.records] == ["Task shop.add[some id] done in 0.500 s."]

    def test_a_line_about_a_task_has_fields_for_machines(self, lines: pytest.LogCaptureFixture) -> None:
        # given
        until = datetime(2026, 11, 1, tzinfo=UTC)
        known = {"name": "shop.add", "task_id": "some id"}

        # when
        signals.notify(signals.task_finished, **known, state=states.DONE, runtime=0.5, error="")
        signals.notify(signals.task_finished, **known, state=states.FAILURE, runtime=0.5, error="ValueError")
        signals.notify(signals.task_retried, **known, attempt=2, until=until, error="ValueError")
        signals.notify(signals.job_dead, **known, reason="it crashed")
        signals.notify(signals.job_postponed, **known, until=until, reason="")

        # then
        fields = [vars(record) for record in lines.records]
        assert {(record["task_id"], record["task_name"]) for record in fields} == {("some id", "shop.add")}
        assert [record.get("state") for record in fields] == ["DONE", "FAILURE", "RETRY", None, None]
        assert [record.get("runtime") for record in fields] == [0.5, 0.5, None, None, None]
        assert [record.get("until") for record in fields] == [None, None, until, None, until]

    def test_a_message_forges_no_line_in_a_handler_of_the_project(
        self, lines: pytest.LogCaptureFixture, root: logging.Logger
    ) -> None:
        """Names, ids and errors are what somebody has sent."""
        # given
        until = datetime(2026, 11, 1, tzinfo=UTC)
        odd = "x\n[2026-11-22: INFO/child-1] Task fake[1] done\x1b[31m"
        known = {"name": odd, "task_id": odd}
        theirs, written = logging.StreamHandler(StringIO()), logging.Formatter("theirs: %(message)s")
        theirs.setFormatter(written)
        root.addHandler(theirs)

        # when
        signals.notify(signals.task_finished, **known, state=states.DONE, runtime=0.5, error="")
        signals.notify(signals.task_finished, **known, state=states.FAILURE, runtime=0.5, error=odd)
        signals.notify(signals.task_retried, **known, attempt=2, until=until, error=odd)
        signals.notify(signals.job_dead, **known, reason=odd)
        signals.notify(signals.job_postponed, **known, until=until, reason=odd)
        for name in ("celery.worker", "celery.mail", "celery.broker", "celery.backends"):
            logging.getLogger(name).warning("Task %s[%s] lost its process.", odd, odd)

        # then
        found = theirs.stream.getvalue().splitlines()
        assert len(found) == len(lines.records) == 9
        assert all(line.isprintable() and line.startswith("theirs: Task x\\n[2026") for line in found)
        assert {vars(record)["task_name"] for record in lines.records[:5]} == {odd}  # for machines, as it is

    @pytest.mark.parametrize(
        ("timeout", "text"),
        [
            (25.0, "Worker w stops; running tasks have 25 seconds to finish."),
            (0.0, "Worker w stops at once; running tasks are killed, and given back to their queues."),
        ],
    )
    def test_a_stop_says_what_becomes_of_running_tasks(
        self, lines: pytest.LogCaptureFixture, timeout: float, text: str
    ) -> None:
        signals.notify(signals.worker_stopping, name="w", timeout=timeout)

        assert [record.getMessage() for record in lines.records] == [text]
