import os
import re
from pathlib import Path

import pytest

from celery.log import emergency_error


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
