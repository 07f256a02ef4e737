"""The peers of the benchmarks: entries, environments, and what their producers share. None of them is installed."""

import ast
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environments
from benchmarks.contender import PROJECTS, Product
from benchmarks.contenders import bodies, producing
from benchmarks.contenders.producing import Order, Wrong, expect, obey, timed_calls, timed_trips, wait_until
from benchmarks.places import parsed
from benchmarks.products import PEERS, PRODUCTS, peers, with_quoted_vhost
from tests.interop import environment

ACTIONS = {"fill", "enqueue_one_by_one", "enqueue_many", "round_trip", "round_trip_polling", "delay_until", "facts"}
SCENARIOS = {"enqueue", "start", "idle"}
TASKS = {"noop", "mark", "pause", "size"}

every_product = pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)


# -- entries


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@every_product
def test_what_a_peer_can_do_is_in_its_producer_and_what_it_cannot_has_a_reason(product: Product) -> None:
    offered = functions(PROJECTS / product.folder / "drive.py") & ACTIONS

    assert offered | set(product.lacks) >= ACTIONS
    assert set(product.lacks) <= ACTIONS | SCENARIOS | {"results", "ignored"}
    assert all(product.lacks.values())


@every_product
def test_a_peer_has_the_tasks_that_are_measured(product: Product) -> None:
    assert functions(PROJECTS / product.folder / "work" / "tasks.py") >= TASKS


@every_product
def test_a_peer_has_as_many_worker_processes_as_it_is_told(product: Product) -> None:
    assert product.one_each or "4" in product.worker(4)


def test_no_two_entries_have_the_same_label() -> None:
    labels = [product.label for product in PRODUCTS.values()]

    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", PEERS)
def test_all_ways_to_set_a_peer_up_share_one_environment(name: str) -> None:
    """Otherwise it would be made anew for each of them, in each round."""
    assert len({product.requirements for product in peers([name])}) == 1


def test_a_peer_is_named_by_its_folder_and_comes_with_all_its_entries() -> None:
    assert [product.label for product in peers(["huey", "dramatiq"])] == [
        "huey, Redis",
        "huey, Redis, notify_result",
        "dramatiq, RabbitMQ + Redis",
    ]


def test_who_is_no_peer_is_told_who_is() -> None:
    with pytest.raises(ValueError, match=r"^no peers: airflow; known: dramatiq, huey, "):
        peers(["huey", "airflow"])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("amqp://guest:guest@127.0.0.1:1//", "amqp://guest:guest@127.0.0.1:1/%2F"),
        ("amqp://127.0.0.1:1", "amqp://127.0.0.1:1/%2F"),
        ("amqp://127.0.0.1:1/", "amqp://127.0.0.1:1/%2F"),
        ("amqp://127.0.0.1:1/%2F", "amqp://127.0.0.1:1/%2F"),
        ("amqp://127.0.0.1:1/shop", "amqp://127.0.0.1:1/shop"),
    ],
)
def test_addresses_of_rabbitmq_are_written_as_other_clients_read_them(ours: str, theirs: str) -> None:
    assert with_quoted_vhost(ours) == theirs


# -- environments


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Which environments are made, in a folder of the test's own; nothing is installed."""
    calls: list[tuple[str, tuple[str, ...]]] = []

    def make(folder: Path, requirements: tuple[str, ...]) -> None:
        folder.mkdir(exist_ok=True)
        calls.append((folder.name, requirements))

    monkeypatch.setattr(environment, "PEERS", tmp_path / ".peers")
    monkeypatch.setattr(environment, "_make", make)
    return calls


def test_an_environment_is_made_once(made: list[Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = (environments.python_of("huey", ("huey==3.*",)) for _ in range(2))

    assert first == second == tmp_path / ".peers" / "huey" / "bin" / "python"
    assert made == [("huey", ("huey==3.*",))]
    assert capfd.readouterr().err == "Making the environment of huey: huey==3.*\n"


def test_another_recipe_makes_the_environment_anew(made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    environments.python_of("huey", ("huey==3.*",))

    environments.python_of("huey", ("huey==4.*",))
    monkeypatch.setattr(sys, "version", "3.99")
    environments.python_of("huey", ("huey==4.*",))

    assert len(made) == 3


def test_an_environment_that_could_not_be_made_is_tried_again(made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, requirements: tuple[str, ...]) -> None:
        raise RuntimeError("no network")

    with monkeypatch.context() as broken:
        broken.setattr(environment, "_make", fail)
        with pytest.raises(RuntimeError, match="no network"):
            environments.python_of("huey", ("huey==3.*",))
    environments.python_of("huey", ("huey==3.*",))

    assert len(made) == 1


def test_environments_are_no_part_of_the_repository(made: list[Any], tmp_path: Path) -> None:
    environments.python_of("huey", ("huey==3.*",))

    assert (tmp_path / ".peers" / ".gitignore").read_text() == "*\n"


# -- producers


def test_each_call_has_its_own_number_or_the_argument_that_was_asked_for() -> None:
    assert [*Order(count=3).arguments()] == [0, 1, 2]
    assert [*Order(count=2, argument="x").arguments()] == ["x", "x"]


def test_the_first_call_is_made_but_not_measured() -> None:
    calls: list[int] = []

    found = timed_calls(calls.append, Order(count=4))

    assert calls == [0, 1, 2, 3]
    assert found["measured"] == 3
    assert found.keys() == {"measured", "seconds", "cpu"}


def test_some_trips_are_made_before_those_that_are_timed() -> None:
    sent: list[int] = []

    def trip(argument: int) -> int:
        sent.append(argument)
        return argument

    assert len(timed_trips(trip, Order(count=3))["times"]) == 3
    assert sent == [*range(producing.WARM_UP), 0, 1, 2]


def test_a_trip_that_brings_back_something_else_is_no_figure() -> None:
    with pytest.raises(Wrong, match=r"^0 was sent, None came back$"):
        timed_trips(lambda _: None, Order(count=1))
    with pytest.raises(Wrong):
        expect("1", 1)


def test_waiting_ends_when_it_is_over_or_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((False, False, True))

    wait_until(lambda: next(answers), pause=0)
    monkeypatch.setattr(producing, "SECONDS_FOR_A_TRIP", 0.0)
    with pytest.raises(Wrong, match="nothing came within 0 s"):
        wait_until(lambda: False, pause=0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the command line of a producer."""

    def ask(action: str, **order: Any) -> None:
        monkeypatch.setattr(sys, "argv", ["drive.py", action, json.dumps(order)])

    return ask


def test_an_order_is_read_from_the_command_line_and_answered_in_json(
    asked: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    asked("facts", task="mark", count=7, argument=None, at=1.5)

    obey({"facts": lambda order: {"task": order.task, "count": order.count}})

    assert json.loads(capfd.readouterr().out) == {"task": "mark", "count": 7}


def test_an_action_that_a_product_has_not_is_an_error(asked: Callable[..., None]) -> None:
    asked("delay_until", count=1)

    with pytest.raises(KeyError, match="delay_until"):
        obey({})


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "marks"
    monkeypatch.setenv("BENCH_MARKS", str(path))
    bodies._descriptor.cache_clear()
    yield path
    os.close(bodies._descriptor())
    bodies._descriptor.cache_clear()


def test_a_mark_is_a_line_of_sixteen_bytes_with_its_number(marks: Path) -> None:
    bodies.mark(7)
    bodies.mark(1_000_000)

    assert marks.read_bytes() == b"000000000000007\n000000001000000\n"
    assert parsed(marks.read_bytes()) == ["000000000000007", "000000001000000"]
