"""The supervisor's processes: who is there, what they say, and what is said to them. Nothing is forked."""

import selectors
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from celery.worker import channel
from celery.worker.family import Family
from tests.unit.test_worker_supervisor import Played


class Scene:
    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.died: list[Any] = []
        self.words: list[str] = []
        self.family = Family(self.selector, on_death=self.died.append, on_word=self.words.append)

    def launch(self, role: str, index: int = 0) -> tuple[Played, Any]:
        ours, theirs = channel.pair()
        made = Played(role, index, control=ours)
        self.family.launch(made, lambda: None, [])
        return made, theirs

    def turn(self) -> None:
        for key, _ in self.selector.select(0):
            key.data()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    for one in scene.family:
        scene.family.bury(one)
    scene.selector.close()


def test_a_process_closes_what_is_the_supervisors(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    first, first_end = scene.launch("steward")
    closed: list[Any] = []
    start = Played.start

    def note(self: Played, run: Callable[[], None], close_first: Iterable[Any]) -> None:
        closed.extend(close_first)
        start(self, run, closed)

    monkeypatch.setattr(Played, "start", note)

    # when
    second, second_end = scene.launch("dispatcher")

    # then
    assert {first.control, second.control, scene.selector} <= set(closed)
    first_end.close()
    second_end.close()


def test_they_are_found_by_role_and_by_pid(scene: Scene) -> None:
    # given
    children = [scene.launch("child", index) for index in range(2)]
    steward, end = scene.launch("steward")

    # then
    assert scene.family.of_role("child") == [child for child, _ in children]
    assert steward.pid in scene.family
    assert 1 not in scene.family
    assert len(scene.family) == 3
    for theirs in (end, *(its for _, its in children)):
        theirs.close()


def test_signals_reach_a_role_or_all(scene: Scene) -> None:
    # given
    (child, childs), (steward, stewards) = scene.launch("child"), scene.launch("steward")

    # when
    scene.family.kill("child")
    scene.family.signal(signal.SIGUSR2)

    # then
    assert child.signals == [signal.SIGKILL, signal.SIGUSR2]
    assert steward.signals == [signal.SIGUSR2]
    childs.close()
    stewards.close()


def test_what_one_says_is_heard_until_it_hangs_up(scene: Scene) -> None:
    # given
    made, theirs = scene.launch("dispatcher")
    channel.tell(theirs, "ready")

    # when
    scene.turn()

    # then
    assert scene.words == ["ready"]

    # when
    theirs.close()
    scene.turn()

    # then
    assert made.control is None


def test_what_is_said_to_one_that_has_just_died_is_lost_in_silence(scene: Scene) -> None:
    # given
    made, theirs = scene.launch("dispatcher")
    theirs.close()

    # when
    scene.family.tell(made, "drain")

    # then
    assert scene.died == []
