import logging
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.dispatch import Signal

from celery import log, signals, states
from celery.log import emergency_error, setup_logger


class TestEmergencyError:
    def test_writes_a_line_with_time_and_pid(self, tmp_path: Path) -> None:
        emergency_error(str(tmp_path / "log"), "the disk is on fire")
        emergency_error(tmp_path / "log", "still")

        first, second = (tmp_path / "log").read_text().splitlines()
        assert re.fullmatch(
            rf"\[\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\S*: EMERGENCY/{os.getpid()}\] the disk is on fire", first
        )
        assert second.endswith("still")

    def test_without_a_file_it_writes_to_standard_error(self, capfd: pytest.CaptureFixture[str]) -> None:
        emergency_error(None, "the disk is on fire")

        assert capfd.readouterr().err.endswith("the disk is on fire\n")

    @pytest.mark.parametrize("path", ["/nonexistent/log", "/", "odd\0path", "x" * 5000])
    def test_a_file_that_cannot_be_written_is_replaced_by_standard_error(
        self, path: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        emergency_error(path, "the disk is on fire")

        assert "the disk is on fire" in capfd.readouterr().err

    def test_a_full_disk_is_replaced_by_standard_error(self, capfd: pytest.CaptureFixture[str]) -> None:
        emergency_error("/dev/full", "the disk is full")

        assert "the disk is full" in capfd.readouterr().err

    def test_a_pipe_that_nobody_reads_is_not_waited_for(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        os.mkfifo(tmp_path / "log")

        emergency_error(tmp_path / "log", "nobody listens")

        assert "nobody listens" in capfd.readouterr().err

    def test_text_that_utf_8_cannot_carry_is_escaped(self, tmp_path: Path) -> None:
        emergency_error(tmp_path / "log", "lone \ud800")

        assert (tmp_path / "log").read_text().endswith("lone \\ud800\n")

    def test_uses_nothing_of_logging(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("logging.Logger.handle", lambda *_: pytest.fail("it logged"))
        monkeypatch.setattr("sys.stderr", None)

        emergency_error(tmp_path / "log", "broken")

        assert (tmp_path / "log").read_text()


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


class TestLogFile:
    @pytest.fixture
    def path(self, root: logging.Logger, tmp_path: Path) -> Path:
        """The file that is logged to."""
        setup_logger("INFO", str(tmp_path / "log"), "%(message)s").info("first")
        return tmp_path / "log"

    @pytest.mark.parametrize("is_told", [True, False])
    def test_one_that_was_moved_away_is_opened_anew(self, path: Path, root: logging.Logger, is_told: bool) -> None:
        path.rename(path.with_name("log.1"))

        if is_told:
            log.reopen()
        root.info("second")

        assert path.with_name("log.1").read_text() == "first\n"
        assert path.read_text() == "second\n"

    def test_one_that_was_replaced_is_opened_anew(self, path: Path, root: logging.Logger) -> None:
        path.rename(path.with_name("log.1"))
        path.write_text("made by another program\n")

        root.info("second")

        assert path.read_text() == "made by another program\nsecond\n"

    def test_one_whose_folder_is_gone_is_kept_until_it_is_there_again(
        self, root: logging.Logger, tmp_path: Path
    ) -> None:
        # given
        folder, away = tmp_path / "folder", tmp_path / "away"
        folder.mkdir()
        setup_logger("INFO", str(folder / "log"), "%(message)s").info("first")

        # when
        folder.rename(away)
        root.info("second")

        # then
        assert (away / "log").read_text() == "first\nsecond\n"

        # when
        folder.mkdir()
        root.info("third")

        # then
        assert (folder / "log").read_text() == "third\n"
        assert (away / "log").read_text() == "first\nsecond\n"

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
