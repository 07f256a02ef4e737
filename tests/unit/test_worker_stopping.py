"""What the signals so far have asked of the worker."""

import signal

import pytest

from celery.worker.stopping import SAME_REQUEST, Stopping

LATER = SAME_REQUEST + 0.1
TERM, INT, QUIT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP


def asked(*requests: tuple[int, float]) -> Stopping:
    """Return what signals at such seconds come to, with 25 seconds to drain."""
    stopping = Stopping(25)
    for number, at in requests:
        stopping.ask(number, at)
    return stopping


def test_nobody_has_asked_yet() -> None:
    assert (asked().deadline, asked().wants_restart) == (None, False)


@pytest.mark.parametrize(
    ("requests", "deadline", "wants_restart"),
    [
        ([(TERM, 1)], 26, False),
        ([(INT, 1)], 26, False),
        ([(QUIT, 1)], 1, False),
        ([(HUP, 1)], 26, True),
        ([(TERM, 1), (TERM, 1 + LATER)], 1 + LATER, False),
        ([(TERM, 1), (TERM, 1.1)], 26, False),
        ([(TERM, 1), (INT, 1.1)], 1.1, False),
        ([(TERM, 1), (QUIT, 2)], 2, False),
        ([(TERM, 1), (HUP, 2)], 26, False),
        ([(HUP, 1), (HUP, 2)], 26, True),
        ([(HUP, 1), (TERM, 2)], 26, False),
        ([(HUP, 1), (TERM, 2), (TERM, 2 + LATER)], 2 + LATER, False),
        ([(HUP, 1), (QUIT, 2)], 2, False),
    ],
)
def test_signals_come_to_an_end_and_perhaps_a_new_start(
    requests: list[tuple[int, float]], deadline: float, wants_restart: bool
) -> None:
    stopping = asked(*requests)

    assert (stopping.deadline, stopping.wants_restart) == (deadline, wants_restart)


def test_stopping_begins_once() -> None:
    stopping = Stopping(25)

    assert [stopping.ask(number, at) for at, number in enumerate((HUP, TERM, TERM, QUIT))] == [
        True,
        False,
        False,
        False,
    ]
