"""Copies of one message: one at a time, whoever asks, and none is forgotten."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery.message import Delivery
from celery.worker.crew import Held
from celery.worker.twins import Twins


def _held(number: int, task_id: str = "same id") -> Held:
    return Held(number, Delivery(task_id, 1, "celery", 0, "", b"{}", 0, (1, number), suspect=True), 0.0)


def _arrive(twins: Twins, held: Held) -> bool:
    """Come in as a suspect; true if it has to wait."""
    if twins.holds_back(held):
        return True
    twins.enter(held)
    return False


@pytest.fixture
def twins() -> Twins:
    return Twins()


def test_a_suspect_goes_on_while_nothing_with_its_id_is_in_hand(twins: Twins) -> None:
    # given
    twins.enter(_held(1, "another id"))

    # then
    assert not twins.holds_back(_held(2))


def test_a_suspect_waits_while_its_id_is_in_hand(twins: Twins) -> None:
    # given
    first, second = _held(1), _held(2)
    twins.enter(first)

    # then
    assert twins.holds_back(second)

    # when
    following = twins.leave(first)

    # then
    assert following is second


def test_those_that_wait_go_on_in_their_turn_and_one_at_a_time(twins: Twins) -> None:
    # given
    copies = [_held(number) for number in range(4)]
    assert [_arrive(twins, held) for held in copies] == [False, True, True, True]

    # when
    turns = [twins.leave(held) for held in copies]

    # then
    assert turns == [*copies[1:], None]


def test_what_follows_is_in_hand_itself(twins: Twins) -> None:
    # given
    first, second, third = (_held(number) for number in range(3))
    twins.enter(first)
    twins.holds_back(second)

    # when
    twins.leave(first)

    # then
    assert twins.holds_back(third)
    assert twins.leave(second) is third


def test_a_suspect_waits_for_every_copy_in_hand(twins: Twins) -> None:
    """Copies that are no suspects do not wait, so there may be several in hand."""
    # given
    first, second, suspect = (_held(number) for number in range(3))
    twins.enter(first)
    twins.enter(second)
    twins.holds_back(suspect)

    # then
    assert twins.leave(second) is None
    assert twins.leave(first) is suspect


def test_those_of_another_id_are_no_reason_to_go_on(twins: Twins) -> None:
    # given
    mine, another = _held(1), _held(2, "another id")
    twins.enter(mine)
    twins.enter(another)
    twins.holds_back(_held(3))

    # then
    assert twins.leave(another) is None


def test_all_that_wait_are_let_go_at_once_and_are_in_hand_then(twins: Twins) -> None:
    # given
    first, second, third = (_held(number) for number in range(3))
    twins.enter(first)
    twins.holds_back(second)
    twins.holds_back(third)

    # when
    waiting = twins.let_go(lambda _: True)

    # then
    assert waiting == [second, third]
    assert twins.let_go(lambda _: True) == []
    assert [twins.leave(held) for held in (third, first, second)] == [None, None, None]
    assert not twins.holds_back(_held(4))


def test_some_of_those_that_wait_are_let_go_and_the_others_keep_their_turn(twins: Twins) -> None:
    # given
    first, second, third = (_held(number) for number in range(3))
    twins.enter(first)
    twins.holds_back(second)
    twins.holds_back(third)

    # when
    leaving = twins.let_go(lambda held: held is second)

    # then
    assert leaving == [second]
    assert twins.leave(second) is None
    assert twins.leave(first) is third


@pytest.mark.parametrize(("row_id", "is_needless"), [(0, True), (7, True), (8, False)])
def test_a_copy_that_is_parked_in_the_row_of_another_or_in_none_has_no_turn(
    twins: Twins, row_id: int, is_needless: bool
) -> None:
    # given
    first, second = _held(1), _held(2)
    twins.enter(first)
    twins.holds_back(second)
    first.delivery = first.delivery._replace(row_id=7)
    second.delivery = second.delivery._replace(row_id=row_id)

    # when
    assert not twins.drop_needless(first)
    assert twins.drop_needless(second) is is_needless

    # then
    assert twins.leave(first) is (None if is_needless else second)


def test_of_two_waiting_copies_in_one_row_one_has_its_turn(twins: Twins) -> None:
    # given
    first, second, third = (_held(number) for number in range(3))
    twins.enter(first)
    for copy in (second, third):
        twins.holds_back(copy)
        copy.delivery = copy.delivery._replace(row_id=7)

    # when
    assert twins.drop_needless(second)
    assert not twins.drop_needless(third)

    # then
    assert twins.leave(first) is third


@given(ids=st.lists(st.sampled_from("abc"), max_size=20), choices=st.randoms(use_true_random=False))
def test_every_suspect_has_its_turn_and_never_two_of_one_id(ids: list[str], choices: Random) -> None:
    # given
    twins = Twins()
    in_hand: list[Held] = []
    done: list[Held] = []
    arriving = [_held(number, task_id) for number, task_id in enumerate(ids)]

    # when
    while arriving or in_hand:
        if arriving and (not in_hand or choices.random() < 0.5):
            held = arriving.pop(0)
            if not _arrive(twins, held):
                in_hand.append(held)
        else:
            held = in_hand.pop(choices.randrange(len(in_hand)))
            done.append(held)
            if following := twins.leave(held):
                in_hand.append(following)
        working = [held.delivery.task_id for held in in_hand]
        assert len(working) == len(set(working))

    # then
    assert sorted(held.number for held in done) == list(range(len(ids)))
    for task_id in "abc":
        numbers = [held.number for held in done if held.delivery.task_id == task_id]
        assert numbers == sorted(numbers)
