"""The dispatcher's errands, on real sockets whose other end is a steward that only listens."""

import socket
from collections.abc import Iterator

import pytest

from celery.message import Delivery
from celery.worker import channel, errands
from celery.worker.crew import Held
from celery.worker.errands import Asked, Errands


class Steward:
    """Hears errands, and answers when the test says so."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def hears(self) -> list[Asked]:
        found = []
        while heard := channel.listen(self.end):
            found.append(Asked(heard[0]))
        return found

    def answer(self, number: int, verdict: str, row_id: int = 0) -> None:
        channel.tell(self.end, number, verdict, row_id)


@pytest.fixture
def asking() -> Iterator[Errands]:
    made = Errands()
    yield made
    made.close()


def _steward(asking: Errands, request: pytest.FixtureRequest) -> Steward:
    ours, theirs = channel.pair()
    request.addfinalizer(theirs.close)
    request.addfinalizer(ours.close)
    asking.connect(ours)
    return Steward(theirs)


def _held(number: int) -> Held:
    return Held(number, Delivery(f"id {number}", 1, "celery", 0, "", b"{}", 7, (1, number), suspect=True), 0.0)


def test_an_errand_is_heard_with_all_that_it_takes(asking: Errands, request: pytest.FixtureRequest) -> None:
    # given
    steward = _steward(asking, request)
    held = _held(3)
    held.marked = True

    # when
    asking.ask(errands.CRASHED, held, "signal 9")
    asking.flush()

    # then
    (asked,) = steward.hears()
    assert (asked.kind, asked.number, asked.marked, asked.detail) == (errands.CRASHED, 3, True, "signal 9")
    assert asked.delivery == held.delivery._replace(tag=None)


def test_an_answer_ends_its_errand(asking: Errands, request: pytest.FixtureRequest) -> None:
    # given
    steward = _steward(asking, request)
    held = _held(3)
    asking.ask(errands.MARK, held)
    asking.flush()
    assert 3 in asking

    # when
    steward.answer(3, errands.RUN, 7)

    # then
    assert asking.answers() == [(errands.MARK, held, errands.RUN, 7)]
    assert (3 in asking, len(asking)) == (False, 0)


def test_errands_wait_for_the_first_steward(asking: Errands, request: pytest.FixtureRequest) -> None:
    # given
    asking.ask(errands.EXAMINE, _held(1))
    asking.flush()

    # when
    steward = _steward(asking, request)

    # then
    assert [asked.number for asked in steward.hears()] == [1]


def test_what_a_steward_left_unanswered_is_asked_of_the_next(asking: Errands, request: pytest.FixtureRequest) -> None:
    # given
    first = _steward(asking, request)
    for number in (1, 2, 3):
        asking.ask(errands.MARK, _held(number))
    asking.flush()
    first.answer(2, errands.RUN)
    asking.answers()

    # when
    second = _steward(asking, request)

    # then
    assert [(asked.kind, asked.number, asked.marked) for asked in second.hears()] == [
        (errands.MARK, 1, False),
        (errands.MARK, 3, False),
    ]


def test_errands_that_a_steward_does_not_take_now_wait_in_their_order(
    asking: Errands, request: pytest.FixtureRequest
) -> None:
    # given
    steward = _steward(asking, request)
    for number in range(1, 2001):
        asking.ask(errands.RELEASE, _held(number))

    # when
    numbers: list[int] = []
    rounds = 0
    while len(numbers) < 2000:
        rounds += 1
        asking.flush()
        heard = steward.hears()
        assert heard
        numbers += [asked.number for asked in heard]

    # then
    assert numbers == list(range(1, 2001))
    assert rounds > 1


def test_the_end_of_a_steward_is_no_obstacle(asking: Errands, request: pytest.FixtureRequest) -> None:
    # given
    steward = _steward(asking, request)
    steward.end.close()

    # when
    asking.ask(errands.MARK, _held(1))
    asking.flush()

    # then
    assert asking.answers() == []
    assert [asked.number for asked in _steward(asking, request).hears()] == [1]
