"""Default keyword arguments reach those who accept them, and nobody else."""

import logging
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from celery.arguments import NAMES, with_defaults, without_defaults
from celery.task import Task, task

DEFAULTS = {"task_id": "id", "task_name": "shop.add", "logfile": None, "loglevel": logging.WARNING}


@pytest.fixture(autouse=True)
def _level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("celery"), "level", logging.WARNING)


def plain(x: int) -> None: ...
def greedy(x: int, **kwargs: Any) -> None: ...
def named(x: int, task_id: str = "", loglevel: int = 0) -> None: ...
def only_by_keyword(x: int, *, task_name: str) -> None: ...
def only_by_position(task_id: str, /, x: int = 0) -> None: ...
def many(*args: int) -> None: ...
def decorated(x: int, **kwargs: Any) -> None: ...
def decorated_and_named(x: int, task_id: str, **kwargs: Any) -> None: ...


class Greedy(Task):
    def run(self, x: int, **kwargs: Any) -> None: ...


@dataclass
class Unhashable:
    """Equal to others of its kind, and so without a hash."""

    def __call__(self, x: int, task_id: str = "") -> None: ...


class Named(Task):
    def run(self, x: int, logfile: str | None = "none") -> None: ...


class Hidden:
    """Nobody can say what it takes, as of some callables of C."""

    __signature__ = "none"

    def __call__(self, x: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (plain, set()),
        (greedy, NAMES),
        (named, {"task_id", "loglevel"}),
        (only_by_keyword, {"task_name"}),
        (only_by_position, set()),
        (many, set()),
        (Greedy(), NAMES),
        (Named(), {"logfile"}),
        (operator.neg, set()),
        (Hidden(), set()),
        (dict.fromkeys, set()),
    ],
)
def test_a_callable_gets_what_it_accepts(function: Callable[..., Any], names: set[str]) -> None:
    kwargs = with_defaults(function, (1,), {}, task_id="id", task_name="shop.add")

    assert kwargs == {name: DEFAULTS[name] for name in names}


def test_a_callable_without_a_hash_gets_them_too() -> None:
    assert with_defaults(Unhashable(), (1,), {}, task_id="id", task_name="n") == {"task_id": "id"}


def test_a_function_under_the_decorator_gets_what_it_names_and_no_more() -> None:
    """Its ``**kwargs`` are its author's: the classic arguments would come as a surprise."""
    sent = {"by": "me"}

    assert with_defaults(task(name="a")(decorated), (1,), sent, task_id="id", task_name="n") == sent
    assert with_defaults(task(name="b")(decorated_and_named), (1,), sent, task_id="id", task_name="n") == {
        "by": "me",
        "task_id": "id",
    }


def test_what_the_call_says_wins() -> None:
    assert with_defaults(named, (1,), {"task_id": "mine", "loglevel": 3}, task_id="id", task_name="n") == {
        "task_id": "mine",
        "loglevel": 3,
    }


def test_a_position_that_the_call_fills_is_not_filled_again() -> None:
    assert with_defaults(named, (1, "mine"), {}, task_id="id", task_name="n") == {"loglevel": logging.WARNING}


def test_what_was_added_is_taken_off_again() -> None:
    given = with_defaults(greedy, (1,), {"y": 2}, task_id="id", task_name="shop.add")

    assert without_defaults(given, task_id="id", task_name="shop.add") == {"y": 2}


def test_what_only_looks_like_it_stays() -> None:
    assert without_defaults({"task_id": "mine"}, task_id="id", task_name="n") == {"task_id": "mine"}
