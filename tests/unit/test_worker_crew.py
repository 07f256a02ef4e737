"""The children as the dispatcher sees them, on real sockets whose other end nobody reads but the test."""

from collections.abc import Iterator
from contextlib import ExitStack
from socket import socket  # noqa: TC003 - a type among types, read like all imports

import pytest

from celery.message import Delivery
from celery.worker import channel, job
from celery.worker.crew import DEEPEST, Crew, Held, Member


class Desk:
    """A crew, and the ends where its children would sit."""

    def __init__(self, children: int, stack: ExitStack) -> None:
        self.crew = Crew()
        self.ends: list[socket] = []
        self._number = 0
        for index in range(children):
            ours, theirs = channel.pair()
            member = Member(index, 1000 + index, ours, theirs.dup())
            self.crew.members[index] = member
            self.ends.append(theirs)
            stack.callback(theirs.close)
            stack.callback(member.close)

    def jobs(self, count: int) -> list[Held]:
        return [self.one() for _ in range(count)]

    def one(self, body: bytes = b"{}") -> Held:
        self._number += 1
        return Held(self._number, Delivery(f"id {self._number}", 1, "celery", 0, "", body), 0.0)

    def loads(self) -> list[int]:
        return [len(member.held) for member in self.crew.members.values()]

    def start_one(self, index: int) -> int:
        """Be the child: receive a job and return its number."""
        received = channel.receive(self.ends[index], wait=False)
        assert received is not None
        return job.unpack(received[0]).number

    def answer(self, index: int, *numbers: int, answer: int = job.SETTLE) -> None:
        channel.send(self.ends[index], [job.pack_answers([(number, answer) for number in numbers])])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _numbers(jobs: object) -> list[int]:
    return [held.number for held in jobs]  # type: ignore[attr-defined]


def test_jobs_go_to_the_child_with_the_fewest(stack: ExitStack) -> None:
    # given
    desk = Desk(3, stack)

    # when
    left = desk.crew.deal(desk.jobs(7))

    # then
    assert list(left) == []
    assert sorted(desk.loads()) == [2, 2, 3]


def test_a_single_child_gets_jobs_in_their_order(stack: ExitStack) -> None:
    # given
    desk = Desk(1, stack)

    # when
    desk.crew.deal(desk.jobs(5))

    # then
    assert [desk.start_one(0) for _ in range(5)] == [1, 2, 3, 4, 5]


def test_without_children_all_jobs_are_left(stack: ExitStack) -> None:
    # given
    desk = Desk(0, stack)
    jobs = desk.jobs(3)

    # when
    left = desk.crew.deal(jobs)

    # then
    assert list(left) == jobs


def test_what_no_child_can_take_now_is_left_in_order(stack: ExitStack) -> None:
    # given
    desk = Desk(2, stack)

    # when
    left = desk.crew.deal(desk.jobs(2 * DEEPEST + 10))

    # then
    assert max(desk.loads()) <= DEEPEST
    assert _numbers(left) == list(range(sum(desk.loads()) + 1, 2 * DEEPEST + 11))


def test_a_child_whose_socket_is_full_is_passed_over(stack: ExitStack) -> None:
    # given
    desk = Desk(2, stack)
    while channel.send(desk.crew.members[0].end, [bytes(10)]):
        pass

    # when
    left = desk.crew.deal(desk.jobs(4))

    # then
    assert list(left) == []
    assert desk.loads() == [0, 4]


def test_a_child_that_is_gone_is_passed_over(stack: ExitStack) -> None:
    # given
    desk = Desk(2, stack)
    desk.ends[0].close()
    desk.crew.members[0]._recall.close()

    # when
    left = desk.crew.deal(desk.jobs(4))

    # then
    assert list(left) == []
    assert desk.loads() == [0, 4]


def test_only_what_is_not_started_comes_back(stack: ExitStack) -> None:
    # given
    desk = Desk(1, stack)
    desk.crew.deal(desk.jobs(4))
    desk.start_one(0)

    # when
    back = desk.crew.take_back_all()

    # then
    assert _numbers(back) == [2, 3, 4]
    assert list(desk.crew.members[0].held) == [1]


def test_a_large_job_comes_back_too(stack: ExitStack) -> None:
    # given
    desk = Desk(1, stack)
    large = desk.one(bytes(5 * 1024 * 1024))
    desk.crew.deal([large])

    # when
    back = desk.crew.take_back_all()

    # then
    assert back == [large]


def test_answers_are_heard_in_their_order(stack: ExitStack) -> None:
    # given
    desk = Desk(1, stack)

    # when
    desk.answer(0, 1, 2)
    desk.answer(0, 3, answer=job.UNRUN)

    # then
    member = desk.crew.members[0]
    assert member.answers() == [(1, job.SETTLE), (2, job.SETTLE), (3, job.UNRUN)]
    assert member.answers() == []


def test_answers_of_a_child_that_died_are_heard(stack: ExitStack) -> None:
    # given
    desk = Desk(1, stack)
    desk.answer(0, 1)

    # when
    desk.ends[0].close()

    # then
    assert desk.crew.members[0].answers() == [(1, job.SETTLE)]


# Levelling


def test_half_of_the_busiest_goes_to_one_that_has_nothing(stack: ExitStack) -> None:
    # given
    desk = Desk(1, stack)
    desk.crew.deal(desk.jobs(9))
    desk.start_one(0)
    idle = Desk(2, stack).crew.members[1]
    desk.crew.members[1] = idle

    # when
    back = desk.crew.level()

    # then
    assert _numbers(back) == [2, 3, 4, 5]
    assert len(desk.crew.members[0].held) == 5


def test_nothing_is_levelled_while_all_are_busy(stack: ExitStack) -> None:
    # given
    desk = Desk(2, stack)
    desk.crew.deal(desk.jobs(9))

    # then
    assert desk.crew.level() == []


def test_a_job_that_runs_is_not_taken_away(stack: ExitStack) -> None:
    # given
    desk = Desk(2, stack)
    desk.crew.deal(desk.jobs(1))

    # then
    assert desk.crew.level() == []


def test_nothing_is_levelled_without_children(stack: ExitStack) -> None:
    assert Desk(0, stack).crew.level() == []


# Alone


def test_a_child_without_jobs_is_set_aside_at_once(stack: ExitStack) -> None:
    # given
    desk = Desk(2, stack)

    # when
    member, cleared = desk.crew.clear_one()

    # then
    assert member is not None
    assert cleared == []
    desk.crew.deal(desk.jobs(6))
    assert sorted(desk.loads()) == [0, 6]
    assert not member.held


def test_a_busy_child_is_cleared_and_gets_nothing_else_meanwhile(stack: ExitStack) -> None:
    # given
    desk = Desk(1, stack)
    desk.crew.deal(desk.jobs(4))
    running = desk.start_one(0)

    # when
    member, cleared = desk.crew.clear_one()

    # then
    assert member is None
    assert _numbers(cleared) == [2, 3, 4]
    assert list(desk.crew.deal(cleared)) == cleared

    # when
    desk.answer(0, running)
    (only,) = desk.crew.members.values()
    for number, _ in only.answers():
        del only.held[number]

    # then
    assert desk.crew.clear_one() == (only, [])


def test_nobody_is_cleared_while_all_children_work_alone(stack: ExitStack) -> None:
    # given
    desk = Desk(1, stack)
    desk.crew.clear_one()

    # then
    assert desk.crew.clear_one() == (None, [])


def test_a_suspect_clears_one_busy_child_and_not_one_after_the_other(stack: ExitStack) -> None:
    # given
    desk = Desk(2, stack)
    desk.crew.deal(desk.jobs(8))
    desk.start_one(0)
    desk.start_one(1)

    # when
    for _ in range(3):
        _, cleared = desk.crew.clear_one()
        desk.crew.deal(cleared)

    # then
    assert [member.works_alone for member in desk.crew.members.values()].count(None) == 1
