"""The public API as mypy sees it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USES = Path(__file__).with_name("uses_of_tasks.py")
MARK = re.compile(r"\s*# type: ignore\[([a-z-]+)\]")
FOUND = re.compile(r"uses_of_tasks\.py:(\d+): error: .*\[([a-z-]+)\]$", re.MULTILINE)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[int, str]]:
    """The errors that mypy finds once the marks are gone, as line and kind."""
    unmarked = tmp_path_factory.mktemp("typing") / USES.name
    unmarked.write_text(MARK.sub("", USES.read_text(encoding="utf-8")), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-pretty", "--show-error-codes", str(unmarked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return {(int(line), kind) for line, kind in FOUND.findall(done.stdout)}


def marked() -> set[tuple[int, str]]:
    lines = enumerate(USES.read_text(encoding="utf-8").splitlines(), 1)
    return {(number, mark.group(1)) for number, line in lines if (mark := MARK.search(line))}


def test_wrong_uses_are_refused_and_right_ones_are_not(found: set[tuple[int, str]]) -> None:
    assert found == marked()


def test_there_are_wrong_uses_to_find() -> None:
    assert len(marked()) >= 15
