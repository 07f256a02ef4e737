"""How many messages a worker holds."""

from itertools import pairwise

from celery.worker.window import INTERVAL, MOST, MOST_BYTES, PER_CHILD, Window


def _pass_rounds(window: Window, *, settled: int, rounds: int) -> list[int]:
    """Let time pass at a pace of so many jobs a look; return the sizes on the way."""
    now = window._looked_at
    sizes = []
    for _ in range(rounds):
        window.note_settled(settled)
        now += INTERVAL
        window.adapt(now)
        sizes.append(window.size)
    return sizes


def test_it_begins_with_two_a_child() -> None:
    assert Window(4).size == 4 * PER_CHILD


def test_without_children_it_is_not_empty() -> None:
    assert Window(0).size == PER_CHILD


def test_it_grows_with_the_pace_by_doubling_at_most() -> None:
    # given
    window = Window(2)

    # when
    sizes = [window.size, *_pass_rounds(window, settled=1000, rounds=20)]

    # then
    assert sizes == sorted(sizes)
    assert all(after <= 2 * before for before, after in pairwise(sizes))
    assert sizes[-1] == MOST


def test_it_shrinks_to_its_smallest_when_nothing_is_settled() -> None:
    # given
    window = Window(2)
    _pass_rounds(window, settled=1000, rounds=20)

    # when
    _pass_rounds(window, settled=0, rounds=500)

    # then
    assert window.size == window.smallest


def test_slow_tasks_leave_it_small() -> None:
    # given
    window = Window(2)

    # when
    _pass_rounds(window, settled=0, rounds=10)
    window.note_settled(1)
    _pass_rounds(window, settled=0, rounds=10)

    # then
    assert window.size == window.smallest


def test_it_does_not_look_before_its_interval_is_over() -> None:
    # given
    window = Window(2)
    window.note_settled(1000)

    # when
    window.adapt(window._looked_at + INTERVAL / 2)

    # then
    assert window.size == window.smallest


def test_large_bodies_bound_it_by_bytes() -> None:
    # given
    window = Window(2)
    for _ in range(2000):
        window.note_body(5 * 1024 * 1024)

    # when
    _pass_rounds(window, settled=1000, rounds=50)

    # then
    assert window.size * 5 * 1024 * 1024 <= MOST_BYTES


def test_large_bodies_leave_at_least_the_smallest() -> None:
    # given
    window = Window(8)
    for _ in range(2000):
        window.note_body(MOST_BYTES)

    # when
    _pass_rounds(window, settled=1000, rounds=50)

    # then
    assert window.size == window.smallest
