import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import pytest

from celery.backends.base import Result
from celery.progress import watched
from celery.result import TaskSetResult
from tests.memory_backend import MemoryBackend


class Screen(io.StringIO):
    """A terminal that keeps all that was drawn."""

    def isatty(self) -> bool:
        return True


@contextmanager
def on_a_terminal() -> Iterator[Screen]:
    """Let standard error be a terminal. It is no fixture, since pytest puts its own back before the test begins."""
    with redirect_stderr(Screen()) as screen:
        yield screen


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> TaskSetResult[int]:
    """A set of three, of which the last has failed."""
    backend = MemoryBackend()
    monkeypatch.setattr("celery.backends.default", lambda: backend)
    backend.mark_as_done("a", 1)
    backend.mark_as_done("b", 2)
    backend.mark_as_failure("c", KeyError("door"))
    return TaskSetResult("5e7", "abc")


def test_the_bar_shows_count_and_rate(results: TaskSetResult[int]) -> None:
    results.subtask_ids.remove("c")

    with on_a_terminal() as screen:
        assert results.join(progress=True) == [1, 2]

    last = screen.getvalue().rstrip().rpartition("\r")[2]
    assert "2/2" in last
    assert "tasks/s" in last
    assert "failed=0" in last


def test_the_bar_shows_failures_and_ends_with_them(results: TaskSetResult[int]) -> None:
    with on_a_terminal() as screen, pytest.raises(KeyError):
        results.join(progress=True)

    last = screen.getvalue().rstrip().rpartition("\r")[2]
    assert "3/3" in last
    assert "failed=1" in last
    assert screen.getvalue().endswith("\n")


def test_all_results_pass() -> None:
    arrivals = [Result(task_id=task_id, state="DONE") for task_id in "abc"]

    with on_a_terminal():
        assert list(watched(arrivals, 3)) == arrivals


def test_nothing_is_shown_where_there_is_no_terminal(
    results: TaskSetResult[int], capsys: pytest.CaptureFixture[str]
) -> None:
    results.subtask_ids.remove("c")

    assert results.join(progress=True) == [1, 2]

    assert capsys.readouterr() == ("", "")


def test_without_being_asked_for_nothing_is_shown(results: TaskSetResult[int]) -> None:
    results.subtask_ids.remove("c")

    with on_a_terminal() as screen:
        results.join()

    assert screen.getvalue() == ""


def test_the_bar_has_no_thread(results: TaskSetResult[int]) -> None:
    results.subtask_ids.remove("c")
    before = threading.enumerate()

    with on_a_terminal() as screen:
        results.join(progress=True)

    assert screen.getvalue()
    assert threading.enumerate() == before


def test_without_tqdm_it_says_what_to_install(results: TaskSetResult[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.delitem(sys.modules, "celery.progress")

    with pytest.raises(ImportError, match=r"pip install tqdm, or this package with its extra 'progress'"):
        results.join(progress=True)


def test_a_terminal_that_says_it_has_no_columns_gets_a_bar_too(
    results: TaskSetResult[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terminals without a size, such as those of `script`, say 0: tqdm would draw nothing there."""
    results.subtask_ids.remove("c")
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda _=1: os.terminal_size((0, 0)))

    with on_a_terminal() as screen:
        results.join(progress=True)

    assert "2/2" in screen.getvalue()
