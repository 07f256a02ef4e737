"""celery/bin/autoreload.py: what becomes of the worker when a file changes, it ends, or somebody presses Ctrl-C."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.utils.autoreload import BaseReloader, file_changed

from celery.bin import autoreload
from celery.bin.autoreload import GRACE, LONGEST_DRAIN, Watch, folders


class Worker:
    """A process that ends by the signals in `ends_by`."""

    def __init__(self, ends_by: dict[int, int]) -> None:
        self.ends_by = ends_by
        self.returncode: int | None = None
        self.heard: list[int] = []
        self.waits: list[float | None] = []

    def send_signal(self, number: int) -> None:
        self.heard.append(number)
        if self.returncode is None:
            self.returncode = self.ends_by.get(number)

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self.waits.append(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("celeryd", timeout or 0.0)
        return self.returncode


class Stage:
    """A reloader whose ticks do what a test says, and the workers that were started."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.while_starting: list[Any] = []
        self.calls: list[dict[str, Any]] = []
        self.ends_by: dict[int, int] = {signal.SIGTERM: 0, signal.SIGINT: 0}
        self.watched: list[tuple[Path, str]] = []
        self.acts: list[Any] = []

    def start(self, command: list[str], **options: Any) -> Worker:
        self.calls.append({"command": command, **options})
        self.workers.append(Worker(self.ends_by))
        for act in self.while_starting:
            act()
        return self.workers[-1]

    def watch_dir(self, folder: Path, pattern: str) -> None:
        self.watched.append((folder, pattern))

    def tick(self) -> Iterator[None]:
        for act in self.acts:
            act()
            yield

    def change(self, name: str = "tasks.py") -> None:
        """Have a file change, as a reloader says so."""
        answers = file_changed.send(sender=self, file_path=Path(name))
        assert any(answer for _, answer in answers)  # else Django's reloader ends the process


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage()
    before = {number: signal.getsignal(number) for number in (*autoreload.ENDING, *autoreload.PASSED_ON)}
    monkeypatch.setattr("django.utils.autoreload.get_reloader", lambda: made)
    monkeypatch.setattr(autoreload, "folders", lambda: [(Path("/project"), "**/*.py")])
    monkeypatch.setattr(subprocess, "Popen", made.start)
    yield made
    file_changed.disconnect(dispatch_uid="celery.autoreload")
    for number, handler in before.items():
        signal.signal(number, handler)


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_worker_is_the_same_command_line_as_the_child_of_a_reloader(stage: Stage) -> None:
    # when
    Watch(2.0).run()

    # then
    (call,) = stage.calls
    assert call["command"] == [sys.executable, *sys.orig_argv[1:]]
    assert call["env"]["RUN_MAIN"] == "true"
    assert stage.watched[0] == (Path("/project"), "**/*.py")  # Django adds templates and translations


def test_a_change_ends_the_worker_and_starts_the_next(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    # given
    stage.acts = [lambda: None, stage.change, lambda: None, press_ctrl_c]

    # when
    code = Watch(2.0).run()

    # then
    first, second = stage.workers
    assert (first.heard, first.waits) == ([signal.SIGTERM], [2.0])
    assert second.heard == [signal.SIGINT]
    assert code == 0
    assert "tasks.py has changed: the worker starts anew." in caplog.text or caplog.messages == []


def test_changes_at_one_moment_are_one(stage: Stage) -> None:
    def save_all() -> None:
        stage.change("models.py")
        stage.change("tasks.py")

    stage.acts = [save_all, lambda: None]

    Watch(2.0).run()

    assert len(stage.workers) == 2


@pytest.mark.parametrize(
    ("ends_by", "heard", "waits"),
    [
        ({signal.SIGQUIT: 3}, [signal.SIGTERM, signal.SIGQUIT], [2.0, GRACE]),
        ({signal.SIGKILL: -9}, [signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL], [2.0, GRACE, None]),
    ],
)
def test_a_worker_that_is_busy_is_told_more_and_more_clearly(
    stage: Stage, ends_by: dict[int, int], heard: list[int], waits: list[float | None]
) -> None:
    stage.ends_by = ends_by
    stage.acts = [stage.change]

    Watch(2.0).run()

    assert (stage.workers[0].heard, stage.workers[0].waits) == (heard, waits)
    assert len(stage.workers) == 2


def test_a_worker_that_cannot_start_is_tried_again_after_the_next_change(stage: Stage) -> None:
    # given
    def fail() -> None:
        stage.workers[-1].returncode = 1

    stage.acts = [fail, lambda: None, lambda: None, stage.change, press_ctrl_c]

    # when
    code = Watch(2.0).run()

    # then
    first, second = stage.workers
    assert first.heard == []
    assert second.heard == [signal.SIGINT]
    assert code == 0


def test_a_worker_that_was_told_to_stop_by_others_is_the_end(stage: Stage) -> None:
    # given
    def end() -> None:
        stage.workers[-1].returncode = 0

    stage.acts = [end, lambda: pytest.fail("it goes on")]

    # then
    assert Watch(2.0).run() == 0


@pytest.mark.parametrize(("returned", "code"), [(0, 0), (3, 3), (-9, 137)])
def test_it_ends_with_the_code_of_the_worker(stage: Stage, returned: int, code: int) -> None:
    stage.ends_by = {signal.SIGTERM: returned}
    stage.acts = [lambda: signal.raise_signal(signal.SIGTERM), lambda: pytest.fail("it goes on")]

    assert Watch(2.0).run() == code
    assert stage.workers[0].waits == [None]  # it drains as long as it may


@pytest.mark.parametrize(
    ("number", "heard"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGQUIT, signal.SIGQUIT),
        (signal.SIGHUP, signal.SIGTERM),
        (signal.SIGUSR1, signal.SIGUSR1),
        (signal.SIGUSR2, signal.SIGUSR2),
    ],
)
def test_signals_are_passed_on(stage: Stage, number: int, heard: int) -> None:
    """But for HUP, with which a terminal goes: it would have the worker start anew."""
    stage.ends_by = {heard: 0}
    stage.acts = [lambda: signal.raise_signal(number)]

    Watch(2.0).run()

    assert stage.workers[0].heard == [heard]


@pytest.mark.parametrize(
    ("number", "heard"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGQUIT, signal.SIGQUIT),
        (signal.SIGHUP, signal.SIGTERM),
    ],
)
def test_a_worker_that_is_just_being_started_is_told_of_the_end_too(stage: Stage, number: int, heard: int) -> None:
    """The process is there already, and nobody knows it yet."""
    # given
    stage.ends_by = {heard: 0}
    stage.while_starting = [lambda: signal.raise_signal(number)]
    stage.acts = [lambda: None, lambda: pytest.fail("it goes on")]

    # then
    assert Watch(2.0).run() == 0
    assert stage.workers[0].heard == [heard]


def test_a_worker_that_follows_another_is_told_of_the_end_too(stage: Stage) -> None:
    """The signal comes after the one before it has ended."""

    # given
    def change() -> None:
        stage.change()
        stage.while_starting = [lambda: signal.raise_signal(signal.SIGTERM)]

    stage.acts = [change, lambda: None, lambda: pytest.fail("it goes on")]

    # then
    assert Watch(2.0).run() == 0
    assert [worker.heard for worker in stage.workers] == [[signal.SIGTERM], [signal.SIGTERM]]


def test_nothing_is_started_when_it_ends_while_a_worker_drains(stage: Stage) -> None:
    # given
    def change_and_ctrl_c() -> None:
        stage.change()
        press_ctrl_c()

    stage.acts = [change_and_ctrl_c, lambda: pytest.fail("it goes on")]

    # then
    assert Watch(2.0).run() == 0
    assert len(stage.workers) == 1


@pytest.mark.parametrize(("drain", "patience"), [(25.0, LONGEST_DRAIN), (0.5, 0.5)])
def test_a_change_waits_for_tasks_two_seconds_or_less(
    monkeypatch: pytest.MonkeyPatch, drain: float, patience: float
) -> None:
    monkeypatch.setattr("django.db.connections.close_all", lambda: None)
    monkeypatch.setattr(autoreload, "Watch", lambda seconds: SimpleNamespace(run=lambda: seconds))

    assert autoreload.run(drain) == patience


def test_the_projects_own_code_is_watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given
    configs = [SimpleNamespace(path="/project/shop"), SimpleNamespace(path="/venv/lib/site-packages/django/admin")]
    settings = SimpleNamespace(__file__="/project/config/settings.py")
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)
    monkeypatch.setitem(sys.modules, "config.settings", settings)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "config.settings")

    # then
    assert folders() == [(Path("/project/shop"), "**/*.py"), (Path("/project/config"), "*.py")]


def test_djangos_reloader_has_what_is_used_of_it() -> None:
    """It is no public interface: a new Django may change it."""
    assert callable(BaseReloader.watch_dir)
    assert callable(BaseReloader.tick)
    assert "notify_file_changed" in vars(BaseReloader)
