"""celery/worker/health/__init__.py: which state a worker is in, whether it is alive, and who is told of it."""

import json
import os
import selectors
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from celery import states
from celery.worker import health as watching
from celery.worker import slots as sharing
from celery.worker.health import LONGEST_SILENCE, Health
from celery.worker.health.listener import HANDED_DOWN
from celery.worker.health.systemd import VARIABLES
from celery.worker.options import Options
from celery.worker.slots import Slots

CHILDREN = 4
WATCHDOG = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Worker:
    """The health of a worker, with somebody who pings, and a systemd that listens."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self.path = str(folder / "s")
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(folder / "notify"))
        self.systemd.settimeout(0)
        self.slots = Slots(CHILDREN)
        self.slots.beat()
        self.options = Options(
            name="w", queues=("celery", "mail"), children=CHILDREN, drain_timeout=25.0, socket=self.path
        )
        self.health = Health(self.options, self.slots)
        self._heard: list[str] = []
        self.selector = selectors.DefaultSelector()
        self.health.watch(self.selector)

    def after(self, seconds: float, *, is_silent: bool = False) -> None:
        """Let so much time pass, in which the supervisor turns, and the dispatcher unless it `is_silent`."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + 1.0, end)
            if not is_silent:
                self.slots.beat()
            self.health.turn(self.clock.now)
            self._hear()

    def said(self) -> list[str]:
        """Return what systemd has heard since the last call, line by line."""
        self._hear()
        found, self._heard = self._heard, []
        return found

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self._heard += self.systemd.recv(65536).decode().splitlines()

    def pinged(self) -> dict[str, object]:
        """Return the answer to a ping."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.connect(self.path)
            for key, _ in self.selector.select(0):
                key.data()
            answer: dict[str, object] = json.loads(caller.recv(65536))
            return answer

    def close(self) -> None:
        self.health.close()
        self.systemd.close()
        self.selector.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watching, "time", clock)
    monkeypatch.setattr(sharing, "time", clock)
    return clock


@pytest.fixture
def worker(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    for name in (*VARIABLES, HANDED_DOWN):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(prefix="c") as folder:
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
        monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG * 1_000_000)))
        worker = Worker(Path(folder), clock)
        worker.said()
        yield worker
        worker.close()


class TestAPing:
    def test_it_tells_what_a_worker_is_and_does(self, worker: Worker) -> None:
        # given
        worker.health.note_ready()
        worker.slots.begin(0, 7)
        worker.slots.begin(3, 8)
        worker.slots.count(0, states.DONE, 0.1)
        worker.slots.count(1, states.FAILURE, 0.1)
        worker.clock.now += 0.25

        # when
        answer = worker.pinged()

        # then
        since = datetime.fromisoformat(str(answer.pop("since")))
        assert since.utcoffset() is not None
        assert answer == {
            "name": "w",
            "pid": os.getpid(),
            "state": "ready",
            "is_alive": True,
            "silence": 0.25,
            "children": CHILDREN,
            "busy": 2,
            "done": 2,
            "queues": ["celery", "mail"],
            "status": "2 of 4 children busy, 2 tasks done, queues: celery, mail",
        }

    def test_a_worker_starts_and_is_ready_when_it_takes_messages(self, worker: Worker) -> None:
        assert worker.pinged()["state"] == "starting"

        worker.health.note_ready()

        assert worker.pinged()["state"] == "ready"

    def test_a_word_of_readiness_that_comes_late_changes_no_end(self, worker: Worker) -> None:
        worker.health.note_stopping(worker.clock.now + 25)
        worker.health.note_ready()

        assert worker.pinged()["state"] == "stopping"
        assert "READY=1" not in worker.said()

    @pytest.mark.parametrize(("silence", "is_alive"), [(LONGEST_SILENCE, True), (LONGEST_SILENCE + 1, False)])
    @pytest.mark.parametrize("state", ["starting", "ready"])
    def test_a_dispatcher_may_be_silent_for_so_long(
        self, worker: Worker, state: str, silence: float, *, is_alive: bool
    ) -> None:
        # given
        if state == "ready":
            worker.health.note_ready()

        # when
        worker.after(silence, is_silent=True)

        # then
        assert worker.pinged()["is_alive"] is is_alive
        assert worker.pinged()["silence"] == silence

    def test_a_worker_that_drains_is_alive_whatever_the_dispatcher_says(self, worker: Worker) -> None:
        worker.health.note_stopping(worker.clock.now + 3600)
        worker.after(3600, is_silent=True)

        assert worker.pinged()["is_alive"] is True

    @pytest.mark.parametrize("state", ["stopping", "reloading"])
    def test_a_worker_that_drains_says_how_long_it_may(self, worker: Worker, state: str) -> None:
        # given
        worker.slots.begin(2, 5)
        note = worker.health.note_stopping if state == "stopping" else worker.health.note_reloading

        # when
        note(worker.clock.now + 25)
        worker.clock.now += 10

        # then
        assert worker.pinged()["state"] == state
        assert worker.pinged()["status"] == "1 task still running, 15 s left, 0 tasks done"


class TestSystemd:
    def test_it_is_told_of_readiness_once(self, worker: Worker) -> None:
        worker.health.note_ready()
        worker.health.note_ready()

        assert worker.said() == ["READY=1"]

    def test_it_gets_signs_of_life_while_both_loops_turn(self, worker: Worker) -> None:
        worker.health.note_ready()
        worker.after(WATCHDOG)

        assert worker.said().count("WATCHDOG=1") >= 2

    def test_it_gets_none_once_the_dispatcher_is_silent_for_as_long_as_it_waits(self, worker: Worker) -> None:
        # given
        worker.health.note_ready()
        worker.after(WATCHDOG, is_silent=True)
        assert "WATCHDOG=1" in worker.said()

        # when
        worker.after(2 * WATCHDOG, is_silent=True)

        # then
        assert "WATCHDOG=1" not in worker.said()

    def test_a_long_watchdog_does_not_hide_a_silence(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        with tempfile.TemporaryDirectory(prefix="c") as folder:
            # given
            monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
            monkeypatch.setenv("WATCHDOG_USEC", "600000000")
            worker = Worker(Path(folder), clock)
            worker.health.note_ready()
            worker.after(LONGEST_SILENCE, is_silent=True)
            worker.said()

            # when
            worker.after(1000, is_silent=True)

            # then
            assert "WATCHDOG=1" not in worker.said()
            worker.close()

    def test_it_sees_a_line_for_people(self, worker: Worker) -> None:
        # given
        worker.after(5)
        worker.health.note_ready()
        worker.slots.begin(0, 7)

        # when
        worker.after(5)

        # then
        assert [line for line in worker.said() if line.startswith("STATUS=")] == [
            "STATUS=takes no messages yet",
            "STATUS=1 of 4 children busy, 0 tasks done, queues: celery, mail",
        ]

    def test_a_worker_that_stops_says_so_once_and_asks_for_time_until_it_has_ended(self, worker: Worker) -> None:
        # given
        worker.health.note_ready()

        # when
        worker.health.note_stopping(worker.clock.now + 25)
        worker.health.note_stopping(worker.clock.now)
        worker.after(30, is_silent=True)

        # then
        said = worker.said()
        assert said.count("STOPPING=1") == 1
        assert sum(line.startswith("EXTEND_TIMEOUT_USEC=") for line in said) >= 10
        assert "WATCHDOG=1" in said

    def test_a_worker_that_waits_for_its_broker_asks_for_time_to_start(self, worker: Worker) -> None:
        worker.after(100)

        assert len([line for line in worker.said() if line.startswith("EXTEND_TIMEOUT_USEC=")]) > 40

    def test_one_whose_dispatcher_is_stuck_gets_no_more_time_to_start(self, worker: Worker) -> None:
        worker.after(WATCHDOG, is_silent=True)
        worker.said()

        worker.after(100, is_silent=True)

        assert not [line for line in worker.said() if line.startswith("EXTEND_TIMEOUT_USEC=")]

    def test_no_time_is_asked_for_by_a_worker_that_works(self, worker: Worker) -> None:
        worker.health.note_ready()
        worker.after(30)

        assert not [line for line in worker.said() if line.startswith("EXTEND_TIMEOUT_USEC=")]

    def test_a_worker_that_starts_anew_says_so_and_leaves_all_to_the_next_program(self, worker: Worker) -> None:
        # given
        worker.health.note_ready()
        worker.said()

        # when
        worker.health.note_reloading(worker.clock.now + 25)
        worker.health.close(is_restarting=True)

        # then
        state, moment, sign_of_life = worker.said()
        assert (state, sign_of_life) == ("RELOADING=1", "WATCHDOG=1")
        assert moment.startswith("MONOTONIC_USEC=")
        assert {*VARIABLES, HANDED_DOWN} - set(os.environ) == {"WATCHDOG_PID"}
        assert Path(worker.path).is_socket()

        # when
        again = Health(worker.options, worker.slots)
        again.note_ready()

        # then
        assert worker.said() == ["WATCHDOG=1", "READY=1"]
        again.close()
        assert not Path(worker.path).exists()

    def test_a_worker_that_shall_stop_after_all_says_that_too(self, worker: Worker) -> None:
        worker.health.note_ready()
        worker.health.note_reloading(worker.clock.now + 25)

        worker.health.note_stopping(worker.clock.now + 25)

        assert "STOPPING=1" in worker.said()
        assert worker.pinged()["state"] == "stopping"


def test_a_forked_process_can_close_all_that_is_open(worker: Worker) -> None:
    assert len(worker.health.descriptors()) == 2

    for end in worker.health.descriptors():
        end.close()

    assert Path(worker.path).is_socket()


def test_nobody_to_hear_it_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    options = Options(name="w", queues=("celery",), children=1, drain_timeout=25.0)

    # when
    health = Health(options, Slots(1))
    with selectors.DefaultSelector() as selector:
        health.watch(selector)
        assert not selector.get_map()
    health.turn(1.0)
    health.note_ready()
    health.note_reloading(2.0)
    health.note_stopping(2.0)
    health.turn(3.0)

    # then
    assert health.descriptors() == []
    health.close()
    health.close(is_restarting=True)
