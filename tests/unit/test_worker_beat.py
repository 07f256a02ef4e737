"""The steward's part in periodic tasks."""

import socket
from typing import Any

import pytest

from celery import backends
from celery.broker import store
from celery.worker import channel
from celery.worker.beat import Beat
from celery.worker.chore import Chore
from celery.worker.options import Options
from celery.worker.slots import Slots
from celery.worker.steward import EVENT, Steward


class Status:
    """A backend that keeps periodic tasks and says when the next one is due."""

    def __init__(self) -> None:
        self.looks = 0

    def run_periodic_tasks(self) -> float:
        self.looks += 1
        return 1.25


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Status:
    made = Status()
    monkeypatch.setattr(backends, "default_periodic_status", lambda: made)
    return made


class TestBeat:
    def test_it_waits_as_long_as_the_backend_says(self, status: Status) -> None:
        after: list[int] = []

        assert Beat(after=lambda: after.append(status.looks)).step() == 1.25
        assert after == [1]

    def test_told_to_rest_it_sends_nothing_more(self, status: Status) -> None:
        beat = Beat(after=lambda: None)

        beat.rest()

        assert beat.step() == float("inf")
        assert status.looks == 0


class FakeStore:
    """Enlists everybody."""

    def enlist(self, *_: Any, **__: Any) -> None: ...


@pytest.fixture
def steward(monkeypatch: pytest.MonkeyPatch) -> Steward:
    return made(monkeypatch, beat=True)


def made(monkeypatch: pytest.MonkeyPatch, *, beat: bool) -> Steward:
    """Return a steward that serves a dispatcher and has not yet enlisted."""
    monkeypatch.setattr(store, "of", lambda _: FakeStore())
    monkeypatch.setattr(channel, "tell", lambda *_, **__: True)
    options = Options(name="me", queues=("celery",), children=1, drain_timeout=25, beat=beat)
    with socket.socket() as control:
        found = Steward(control, Slots(1), options)
    found._serve("a" * 32, is_new=True)
    return found


def chore(steward: Steward, name: str) -> Chore:
    return next(each for each in steward._chores if each.name == name)


class TestTheSteward:
    def test_it_sends_nothing_before_it_is_enlisted(self, steward: Steward, status: Status) -> None:
        chore(steward, "Periodic tasks").run_if_due()
        assert status.looks == 0

        steward._enlist()
        chore(steward, "Periodic tasks").at = 0.0
        chore(steward, "Periodic tasks").run_if_due()
        assert status.looks == 1

    def test_the_relay_moves_at_once_what_was_sent(self, steward: Steward, status: Status) -> None:
        steward._enlist()
        chore(steward, "Relay").at = float("inf")

        chore(steward, "Periodic tasks").run_if_due()

        assert chore(steward, "Relay").at == 0.0
        names = [each.name for each in steward._chores]
        assert names.index("Periodic tasks") < names.index("Relay")

    def test_a_worker_that_is_stopping_sends_nothing_more(self, steward: Steward, status: Status) -> None:
        steward._enlist()

        steward._hear(EVENT, ["worker_stopping", {}], [])

        chore(steward, "Periodic tasks").run_if_due()
        assert status.looks == 0

    def test_other_events_do_not_stop_it(self, steward: Steward, status: Status) -> None:
        steward._enlist()

        steward._hear(EVENT, ["process_died", {}], [])

        chore(steward, "Periodic tasks").run_if_due()
        assert status.looks == 1

    def test_without_beat_there_is_no_such_chore(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "Periodic tasks" not in [each.name for each in made(monkeypatch, beat=False)._chores]
