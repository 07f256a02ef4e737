"""The dispatcher's connection to the broker: lost once, told once, tried ever more seldom."""

import logging
import selectors
from collections.abc import Collection, Iterator

import pytest

from celery.broker.base import Consumer
from celery.message import Delivery
from celery.worker import intake
from celery.worker.crew import Held
from celery.worker.intake import FIRST_PAUSE, LONGEST_PAUSE, Intake


class Away(OSError):
    """The broker does not answer."""


class Fickle(Consumer):
    """Connects, and then refuses whatever is asked, until it is healed."""

    errors = (Away,)

    def __init__(self) -> None:
        self.is_healed = False
        self.connects = 0
        self.reconciled: list[list[int]] = []
        self.says = "wrong kind of value"

    def connect(self, rows_in_hand: Collection[int] = ()) -> None:
        self.connects += 1

    def give_back_all_but(self, rows_in_hand: Collection[int]) -> None:
        self.reconciled.append(list(rows_in_hand))

    def fileno(self) -> int:
        return -1

    def take(self, limit: int) -> list[Delivery]:
        if not self.is_healed:
            raise Away(self.says)
        return []

    def next_poll(self) -> float:
        return 1.0

    def close(self) -> None:
        """Nothing is open."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(intake, "time", made)
    return made


@pytest.fixture
def fickle() -> Fickle:
    return Fickle()


@pytest.fixture
def taking(fickle: Fickle) -> Iterator[Intake]:
    with selectors.DefaultSelector() as selector:
        yield Intake(fickle, selector, {}, on_connect=lambda: None, on_loss=lambda: None)


def pauses(taking: Intake, clock: Clock, number: int) -> list[float]:
    """Look as often, each time when it is due, and return the pauses between."""
    found = []
    for _ in range(number):
        taking.take(clock.now, free=1, window=1)
        found.append(taking.sleep(free=1, window=1))
        clock.now += found[-1]
    return found


def test_the_loss_is_told_on_one_line_with_the_place(
    taking: Intake, fickle: Fickle, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fickle.place = "the shop"
    fickle.says = "consuming input failed:\n\tserver closed the connection"

    taking.take(clock.now, free=1, window=1)

    (line,) = caplog.messages
    assert line.endswith("trying until it is: the shop: consuming input failed: server closed the connection")


def test_a_broker_that_takes_connections_and_refuses_all_else_is_tried_ever_more_seldom(
    taking: Intake, clock: Clock
) -> None:
    found = pauses(taking, clock, 12)

    assert found[:3] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE])
    assert found[-1] == pytest.approx(LONGEST_PAUSE)


def test_its_loss_is_told_once_and_its_recovery_once(
    taking: Intake, fickle: Fickle, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    caplog.set_level(logging.WARNING, "celery.worker")
    pauses(taking, clock, 5)

    # when
    fickle.is_healed = True
    pauses(taking, clock, 3)

    # then
    lost, again = caplog.messages
    assert "not reachable; trying until it is: wrong kind of value" in lost
    assert again == "Connected to the broker again, after 6.2 s."
    assert fickle.connects == 6


def test_after_a_recovery_the_pauses_begin_anew(taking: Intake, fickle: Fickle, clock: Clock) -> None:
    pauses(taking, clock, 5)
    fickle.is_healed = True
    pauses(taking, clock, 1)
    fickle.is_healed = False

    assert pauses(taking, clock, 1) == pytest.approx([FIRST_PAUSE])


def test_what_was_taken_without_our_knowledge_is_looked_for_now_and_then(fickle: Fickle, clock: Clock) -> None:
    # given
    fickle.is_healed = True
    held = {1: _held(row_id=5), 2: _held(row_id=0)}
    with selectors.DefaultSelector() as selector:
        taking = Intake(fickle, selector, held, on_connect=lambda: None, on_loss=lambda: None)

        # when
        for _ in range(2 * int(intake.RECONCILE_AFTER) + 1):
            taking.take(clock.now, free=1, window=1)
            clock.now += 1.0

    # then
    assert fickle.reconciled == [[5], [5], [5]]


def _held(row_id: int) -> Held:
    delivery = Delivery("id", 1, "celery", 0, "", b"", row_id, None)
    return Held(1, delivery, 0.0)
