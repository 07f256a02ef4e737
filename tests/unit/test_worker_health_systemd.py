"""celery/worker/health/systemd.py: what is told to systemd, when, and that nothing ever waits for it."""

import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from celery.worker.health.systemd import (
    EXTEND_PAUSE,
    EXTENSION,
    LONGEST_STATUS,
    LONGEST_TURN,
    MICROSECONDS,
    STATUS_PAUSE,
    VARIABLES,
    Notifier,
)


class Ear:
    """What systemd is here: a socket of datagrams."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(0)

    def heard(self) -> list[str]:
        """Return what was said since the last call."""
        found = []
        try:
            while True:
                found.append(self.socket.recv(65536).decode())
        except BlockingIOError:
            return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: that of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="c") as name:
        yield Path(name)


@pytest.fixture
def ear(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    """The systemd that started us."""
    ear = Ear(str(folder / "notify"))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
    yield ear
    ear.socket.close()


@pytest.fixture
def notifier(ear: Ear) -> Iterator[Notifier]:
    notifier = Notifier()
    yield notifier
    notifier.close(hand_down=False)


@pytest.fixture
def watched(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notifier]:
    """A notifier of a service with WatchdogSec=10."""
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    notifier = Notifier()
    yield notifier
    notifier.close(hand_down=False)


class TestWithoutSystemd:
    @pytest.fixture
    def alone(self, monkeypatch: pytest.MonkeyPatch) -> Notifier:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        return Notifier()

    def test_everything_is_harmless(self, alone: Notifier) -> None:
        alone.ready()
        alone.reloading()
        alone.stopping()
        alone.be_alive(1.0)
        alone.show("fine", 1.0)
        alone.extend(1.0)
        alone.flush()
        alone.close(hand_down=True)

        assert alone.descriptors() == []
        assert alone.watchdog == 0.0

    def test_a_watchdog_without_a_socket_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        monkeypatch.setenv("WATCHDOG_USEC", "10000000")

        assert Notifier().watchdog == 0.0

    @pytest.mark.parametrize("address", ["vsock:2:9999", "relative/path", "/there/is/nothing"])
    def test_an_address_that_cannot_be_used_is_warned_of_once(
        self, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)

        with caplog.at_level(logging.WARNING, "celery.worker"):
            notifier = Notifier()
            notifier.ready()
            notifier.show("fine", 1.0)

        assert len(caplog.records) == 1
        assert address in caplog.text
        assert "systemd is told nothing" in caplog.text
        notifier.close(hand_down=False)


class TestMessages:
    def test_each_state_is_one_datagram(self, notifier: Notifier, ear: Ear) -> None:
        notifier.ready()
        notifier.stopping()

        assert ear.heard() == ["READY=1", "STOPPING=1"]

    def test_reloading_names_its_moment_in_the_same_datagram(self, notifier: Notifier, ear: Ear) -> None:
        notifier.reloading()

        (message,) = ear.heard()
        state, moment = message.splitlines()
        assert state == "RELOADING=1"
        assert moment.removeprefix("MONOTONIC_USEC=").isdigit()

    def test_an_abstract_address_begins_with_a_zero_byte(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # given
        name = f"celery-test-{os.getpid()}"
        ear = Ear(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")

        # when
        notifier = Notifier()
        notifier.ready()

        # then
        assert ear.heard() == ["READY=1"]
        notifier.close(hand_down=False)
        ear.socket.close()

    def test_a_systemd_that_reads_nothing_is_not_waited_for_and_hears_all_later(
        self, notifier: Notifier, ear: Ear
    ) -> None:
        # given
        said = 0
        while not notifier._waiting:
            notifier.say(f"X_NUMBER={said}")
            said += 1

        # when
        notifier.stopping()
        before = ear.heard()
        notifier.flush()

        # then
        assert [*before, *ear.heard()] == [*(f"X_NUMBER={number}" for number in range(said)), "STOPPING=1"]

    def test_what_is_said_again_and_again_is_not_kept_for_a_systemd_that_reads_nothing(
        self, watched: Notifier, ear: Ear
    ) -> None:
        # given
        while not watched._waiting:
            watched.say("X_FULL=1")
        watched.ready()
        waiting = list(watched._waiting)

        # when
        for turn in range(100):
            watched.be_alive(100.0 + turn)
            watched.show(f"turn {turn}", 100.0 + turn)
            watched.extend(100.0 + turn)

        # then
        assert list(watched._waiting) == waiting
        ear.heard()
        watched.flush()
        watched.be_alive(200.0)
        assert ear.heard() == ["X_FULL=1", "READY=1", "WATCHDOG=1"]

    def test_a_systemd_that_has_gone_harms_nothing(self, notifier: Notifier, ear: Ear) -> None:
        ear.socket.close()

        notifier.stopping()
        notifier.flush()

        assert not notifier._waiting

    def test_nothing_is_said_after_the_end(self, notifier: Notifier, ear: Ear) -> None:
        notifier.close(hand_down=False)

        notifier.ready()

        assert ear.heard() == []
        assert notifier.descriptors() == []


class TestStatus:
    def test_it_is_shown_when_it_has_changed_and_not_too_often(self, notifier: Notifier, ear: Ear) -> None:
        notifier.show("one", 100.0)
        notifier.show("two", 100.0 + STATUS_PAUSE / 2)
        notifier.show("three", 100.0 + STATUS_PAUSE)
        notifier.show("three", 100.0 + 3 * STATUS_PAUSE)

        assert ear.heard() == ["STATUS=one", "STATUS=three"]

    def test_no_queue_of_an_odd_name_says_something_else(self, notifier: Notifier, ear: Ear) -> None:
        notifier.show("queues: a\nSTOPPING=1\x1b, \N{BRIDGE AT NIGHT}\ud800", 100.0)

        assert ear.heard() == ["STATUS=queues: a STOPPING=1 , \N{BRIDGE AT NIGHT} "]

    def test_it_is_cut_to_a_line_that_can_be_read(self, notifier: Notifier, ear: Ear) -> None:
        notifier.show("q" * 10_000, 100.0)

        assert ear.heard() == ["STATUS=" + "q" * LONGEST_STATUS]


class TestWatchdog:
    def test_a_sign_of_life_comes_by_half_of_the_time_at_the_latest(self, watched: Notifier, ear: Ear) -> None:
        moments = []
        now = 100.0
        while now < 130.0:
            watched.be_alive(now)
            moments += [now] * len(ear.heard())
            now += LONGEST_TURN

        assert max(later - earlier for earlier, later in pairwise(moments)) <= 10 / 2
        assert len(moments) < 15

    def test_a_loop_that_turns_quickly_says_it_no_more_often(self, watched: Notifier, ear: Ear) -> None:
        for turn in range(300):
            watched.be_alive(100.0 + turn / 100)

        assert ear.heard() == ["WATCHDOG=1"]

    def test_a_short_watchdog_gets_a_sign_each_turn(self, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        notifier = Notifier()

        for turn in range(4):
            notifier.be_alive(100.0 + turn * LONGEST_TURN)

        assert ear.heard() == ["WATCHDOG=1"] * 4
        notifier.close(hand_down=False)

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({"WATCHDOG_USEC": "10000000"}, 10.0),
            ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
            ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, 0.0),
            ({"WATCHDOG_USEC": "soon"}, 0.0),
            ({"WATCHDOG_USEC": "-1"}, 0.0),
            ({}, 0.0),
        ],
    )
    def test_only_a_watchdog_that_waits_for_this_process_is_obeyed(
        self, ear: Ear, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: float
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        notifier = Notifier()
        notifier.be_alive(100.0)

        assert notifier.watchdog == expected
        assert ear.heard() == (["WATCHDOG=1"] if expected else [])
        notifier.close(hand_down=False)


def test_more_time_is_asked_for_again_and_again_while_it_lasts(notifier: Notifier, ear: Ear) -> None:
    for turn in range(5):
        notifier.extend(100.0 + turn * EXTEND_PAUSE / 2)

    assert ear.heard() == [f"EXTEND_TIMEOUT_USEC={int(EXTENSION * MICROSECONDS)}"] * 3


def test_programs_of_tasks_do_not_learn_how_to_speak_in_our_name(watched: Notifier) -> None:
    assert not set(VARIABLES) & set(os.environ)


def test_the_program_that_follows_in_this_process_speaks_on(watched: Notifier, ear: Ear, folder: Path) -> None:
    # when
    watched.close(hand_down=True)

    # then
    assert {name: os.environ[name] for name in VARIABLES} == {
        "NOTIFY_SOCKET": str(folder / "notify"),
        "WATCHDOG_USEC": "10000000",
        "WATCHDOG_PID": str(os.getpid()),
    }


def test_a_worker_that_ends_leaves_nothing_in_the_environment(watched: Notifier) -> None:
    watched.close(hand_down=False)

    assert not set(VARIABLES) & set(os.environ)
