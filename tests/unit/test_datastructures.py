import pickle
import sys

import pytest

from celery.datastructures import ExceptionInfo, PositionQueue, UnfilledPosition


class TestPositionQueue:
    def test_is_filled_in_any_order(self) -> None:
        queue = PositionQueue(length=3)

        queue[2] = "c"
        queue[0] = None

        assert queue.filled == [None, "c"]
        assert next(iter(queue)) is None
        assert isinstance(queue[1], UnfilledPosition)
        assert queue[1].position == 1

    def test_its_length_is_the_number_of_filled_positions(self) -> None:
        queue = PositionQueue(length=2)

        lengths = [len(queue)]
        for position in (1, 0):
            queue[position] = 0
            lengths.append(len(queue))

        assert lengths == [0, 1, 2]

    def test_shows_which_positions_are_not_filled(self) -> None:
        queue = PositionQueue(length=2)
        queue[0] = "a"

        assert repr(queue) == "['a', <UnfilledPosition: 1>]"

    def test_is_full_when_every_position_has_its_value(self) -> None:
        queue = PositionQueue(length=1)
        assert not queue.full()

        queue[0] = False

        assert queue.full()

    def test_one_without_positions_is_full_from_the_beginning(self) -> None:
        assert PositionQueue(length=0).full()
        assert not PositionQueue(length=0)

    def test_an_empty_one_with_positions_is_true(self) -> None:
        assert PositionQueue(length=1)

    def test_has_the_class_of_its_unfilled_positions(self) -> None:
        assert PositionQueue.UnfilledPosition is UnfilledPosition


def fail() -> None:
    raise ValueError("seven")


def raised() -> ValueError:
    with pytest.raises(ValueError, match="seven") as caught:
        fail()
    return caught.value


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class TestExceptionInfo:
    def test_has_the_exception_and_its_traceback_as_text(self) -> None:
        try:
            fail()
        except ValueError:
            exc_info = sys.exc_info()

        info = ExceptionInfo(exc_info)

        assert info.exception is exc_info[1]
        assert info.traceback.startswith("Traceback (most recent call last):")
        assert 'raise ValueError("seven")' in info.traceback
        assert info.traceback.endswith("ValueError: seven\n")
        assert str(info) == info.traceback
        assert repr(info) == "<ExceptionInfo: ValueError>"

    def test_can_be_made_of_the_exception_alone(self) -> None:
        assert 'raise ValueError("seven")' in ExceptionInfo(raised()).traceback

    def test_a_traceback_that_is_given_as_text_is_kept(self) -> None:
        assert ExceptionInfo(ValueError(), traceback="of elsewhere").traceback == "of elsewhere"

    def test_one_outside_of_an_except_block_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no exception here"):
            ExceptionInfo(sys.exc_info())

    def test_an_exception_that_cannot_say_what_it_is_does_not_fail(self) -> None:
        assert "Mute" in ExceptionInfo(Mute()).traceback

    def test_travels_between_processes(self) -> None:
        info = ExceptionInfo(raised())

        arrived = pickle.loads(pickle.dumps(info))  # noqa: S301 - our own

        assert arrived.traceback == info.traceback
        assert (type(arrived.exception), arrived.exception.args) == (ValueError, ("seven",))
