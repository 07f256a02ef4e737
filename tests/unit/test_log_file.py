"""celery/log/file.py: whatever happens to the file, lines are whole and no process ends of it."""

import logging
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery.log.file import LogFile, emergency_error


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


class Log:
    """A log file, and a logger that writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handler = LogFile(path)
        self.handler.setFormatter(logging.Formatter("%(message)s"))

    def info(self, message: str) -> None:
        self.handler.handle(logging.LogRecord("celery", logging.INFO, __file__, 1, message, None, None))

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """A log with one line."""
    (tmp_path / "folder").mkdir()
    made = Log(tmp_path / "folder" / "log")
    made.info("first")
    yield made
    made.handler.close()


class TestRotation:
    @pytest.mark.parametrize("is_told", [True, False])
    def test_one_that_was_moved_away_is_opened_anew(self, log: Log, is_told: bool) -> None:
        old = log.path.rename(log.path.with_name("log.1"))

        if is_told:
            log.handler.reopenIfNeeded()
            assert log.lines() == []
        log.info("second")

        assert old.read_text() == "first\n"
        assert log.lines() == ["second"]

    def test_one_that_was_replaced_is_opened_anew(self, log: Log) -> None:
        log.path.rename(log.path.with_name("log.1"))
        log.path.write_text("made by another program\n")

        log.info("second")

        assert log.lines() == ["made by another program", "second"]

    def test_one_that_was_emptied_in_place_is_written_from_its_beginning(self, log: Log) -> None:
        """As by copytruncate of logrotate."""
        os.truncate(log.path, 0)

        log.info("second")

        assert log.path.read_bytes() == b"second\n"

    def test_the_descriptor_stays_the_same(self, log: Log) -> None:
        """Another thread may be writing to it, and stacks are dumped there."""
        assert log.handler.stream is not None
        descriptor = log.handler.stream.fileno()
        log.path.unlink()

        log.handler.reopenIfNeeded()

        assert log.handler.stream.fileno() == descriptor
        assert os.path.samestat(os.fstat(descriptor), log.path.stat())
        assert not os.get_inheritable(descriptor)

    def test_one_whose_folder_is_gone_is_kept_until_it_is_there_again(self, log: Log) -> None:
        # given
        away = log.path.parent.with_name("away")

        # when
        log.path.parent.rename(away)
        log.info("second")
        log.info("third")

        # then
        first, reason, *rest = (away / "log").read_text().splitlines()
        assert (first, rest) == ("first", ["second", "third"])
        assert reason == (
            f"The log file {log.path} cannot be opened anew: No such file or directory. Lines go where they went."
        )

        # when
        log.path.parent.mkdir()
        log.info("fourth")

        # then
        assert log.lines() == ["fourth"]
        assert (away / "log").read_text().endswith("third\n")

    def test_one_that_may_not_be_written_is_not_taken(self, log: Log) -> None:
        old = log.path.rename(log.path.with_name("log.1"))
        log.path.mkdir()  # a file without permission is none for root

        log.info("second")

        assert "cannot be opened anew: Is a directory" in old.read_text()
        assert old.read_text().endswith("second\n")

    def test_a_line_after_the_end_is_written_too(self, log: Log) -> None:
        log.handler.close()

        log.info("second")

        assert log.lines() == ["first", "second"]


class TestTrouble:
    @pytest.fixture
    def full(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        """Have no room on the disk until `undo`."""

        def refuse(descriptor: int, data: bytes) -> int:
            if descriptor == 2:
                return write(descriptor, data)
            raise OSError(28, "No space left on device")

        write = os.write
        monkeypatch.setattr("os.write", refuse)
        return monkeypatch

    def test_lines_without_room_are_counted_and_the_first_one_is_told(
        self, log: Log, full: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        # when
        for number in range(3):
            log.info(str(number))
        full.undo()
        log.info("second")
        log.info("third")

        # then
        assert log.lines() == [
            "first",
            "3 lines before this one are lost: they could not be written.",
            "second",
            "third",
        ]
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        assert f"the log file {log.path} cannot be written: No space left on device. Its lines are lost." in error

    def test_a_line_that_was_cut_is_ended_before_the_next(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        # given
        write, room = os.write, [3, 0]

        def cut(descriptor: int, data: bytes) -> int:
            if descriptor != 2 and not (left := room.pop(0)):
                raise OSError(28, "No space left on device")
            return write(descriptor, data if descriptor == 2 else data[:left])

        with monkeypatch.context() as disk:
            disk.setattr("os.write", cut)
            log.info("second")

        # when
        log.info("third")

        # then
        assert log.lines() == ["first", "sec", "1 lines before this one are lost: they could not be written.", "third"]

    def test_a_real_full_disk_ends_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        log = Log(Path("/dev/full"))

        log.info("lost")
        log.info("lost, too")
        log.handler.close()

        assert capfd.readouterr().err.count("No space left on device") == 1

    def test_text_that_utf_8_cannot_carry_is_escaped(self, log: Log, capfd: pytest.CaptureFixture[str]) -> None:
        log.info("lone \ud800, and caf\u00e9")

        assert log.lines() == ["first", "lone \\ud800, and caf\u00e9"]
        assert capfd.readouterr().err == ""

    def test_a_line_with_wrong_arguments_is_told_as_logging_does(
        self, log: Log, capfd: pytest.CaptureFixture[str]
    ) -> None:
        record = logging.LogRecord("celery", logging.INFO, __file__, 1, "%d", ("word",), None)

        log.handler.handle(record)
        log.info("second")

        assert log.lines() == ["first", "second"]
        assert "Logging error" in capfd.readouterr().err


def test_lines_of_many_writers_do_not_mix(log: Log) -> None:
    # given
    others = [Log(log.path) for _ in range(4)]
    texts = [letter * 20_000 for letter in "abcd"]

    # when
    threads = [
        threading.Thread(target=lambda one=one, text=text: [one.info(text) for _ in range(20)])
        for one, text in zip(others, texts, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others:
        one.handler.close()

    # then
    assert sorted(log.lines()) == sorted(["first", *(text for text in texts for _ in range(20))])


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o640), (0o077, 0o600), (0o000, 0o640)])
def test_the_mode_of_a_new_file_is_tight(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        LogFile(tmp_path / "log").close()
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == mode


def test_the_mode_of_a_file_that_is_there_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    (tmp_path / "log").chmod(0o644)

    LogFile(tmp_path / "log").close()

    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o644
