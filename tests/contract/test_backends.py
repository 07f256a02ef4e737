"""What every result backend promises. A driver joins by a line in `backend`."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import pytest
from django.db import DataError, connections, transaction
from django.utils import timezone
from psycopg import IsolationLevel

from celery import states
from celery.backends import get_backend_cls
from celery.backends.base import BaseBackend, Result
from celery.backends.cache.client import clients as cache_clients
from celery.exceptions import UnencodableResult, UnpickleableExceptionWrapper
from celery.timer import TimeoutError as ResultTimeoutError
from tests.contract.of_databases import DATABASES, NAMES

#: What a driver may raise when a row cannot be stored: the row's own fault, so the others can be stored without it.
FAULTS_OF_A_ROW = (DataError, ValueError, TypeError)

#: Ids that are no UUIDs.
IDS = ["x" * 255, "é" * 255, "\U0001f600" * 255, "two words", " ", "a\nb\t\x7f\x01", "../../etc/passwd", "%s{}*?[a]#"]
ALIKE = ["x", "X", "x ", " x", "é", "e\u0301", "x" * 254, "x" * 255, "x" * 100, "x" * 101]

Value = TypeVar("Value")


@pytest.fixture(
    params=[
        *DATABASES,
        pytest.param("memcached", marks=pytest.mark.memcached),
        pytest.param("redis_cache", marks=pytest.mark.redis),
        "file_cache",
        "table_cache",
        "tyrant",
        "own",
    ]
)
def backend(request: pytest.FixtureRequest, on_database: Callable[[str], str]) -> BaseBackend:
    """The backend in turn: a database, or the fixture of another driver, called ``<name>_backend``."""
    if request.param in NAMES:
        on_database(request.param)
        return get_backend_cls("database")()
    made: BaseBackend = request.getfixturevalue(f"{request.param}_backend")
    return made


def result(task_id: str, state: str = states.DONE, **fields: Any) -> Result:
    return Result(task_id=task_id, state=state, **fields)


def all_moves() -> list[tuple[Result, Result]]:
    """Return a stored result and its follower, for every pair of states and every order of attempts."""
    pairs = itertools.product(sorted(states.ALL_STATES), (1, 2), sorted(states.ALL_STATES), (1, 2, 3))
    return [
        (
            result(f"{old} {old_attempt} then {new} {new_attempt}", old, attempt=old_attempt, result='"old"'),
            result(f"{old} {old_attempt} then {new} {new_attempt}", new, attempt=new_attempt, result='"new"'),
        )
        for old, old_attempt, new, new_attempt in pairs
    ]


def store_and_fetch(backend: BaseBackend, group: list[Result]) -> dict[str, Result]:
    """Store results one by one and all in one go, and return what is stored then."""
    for stored in group[:10]:
        assert backend.store([stored]) == {stored.task_id}
    assert backend.store(group[10:]) == {stored.task_id for stored in group[10:]}
    return backend.fetch([stored.task_id for stored in group])


def store_one(backend: BaseBackend, stored: Result) -> bool:
    return bool(backend.store([stored]))


def side_by_side(acts: Sequence[Callable[[], Value]]) -> list[Value]:
    """Run `acts` in threads that begin together; return what they returned."""
    together = threading.Barrier(len(acts))

    def run(act: Callable[[], Value]) -> Value:
        together.wait(timeout=30)
        try:
            return act()
        finally:
            connections.close_all()
            cache_clients.drop()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def wins(old: Result, new: Result) -> bool:
    return states.may_replace(stored=old.state, stored_attempt=old.attempt, new_attempt=new.attempt)


class TestStoring:
    def test_a_result_comes_out_as_it_went_in(self, backend: BaseBackend) -> None:
        stored = result(
            "x",
            states.FAILURE,
            attempt=4,
            result='{"class": "É"}',
            traceback="Traceback …",
            name="shop.add",
            worker="w@host",
            runtime=0.25,
            date_done=datetime(2026, 11, 22, 12, 30, 1, 500, tzinfo=UTC),
        )

        assert backend.store([stored]) == {"x"}

        assert backend.fetch(["x"]) == {"x": stored}

    def test_a_stored_result_is_overwritten_exactly_where_the_table_of_states_allows_it(
        self, backend: BaseBackend
    ) -> None:
        moves = all_moves()
        backend.store([old for old, _ in moves])

        winners = backend.store([new for _, new in moves])

        assert winners == {new.task_id for old, new in moves if wins(old, new)}

    def test_what_does_not_win_changes_nothing(self, backend: BaseBackend) -> None:
        moves = all_moves()
        backend.store([old for old, _ in moves])

        backend.store([new for _, new in moves])

        assert backend.fetch([old.task_id for old, _ in moves]) == {
            old.task_id: new if wins(old, new) else old for old, new in moves
        }

    def test_the_same_id_twice_in_a_group_is_as_if_one_came_after_the_other(self, backend: BaseBackend) -> None:
        moves = all_moves()

        backend.store([stored for move in moves for stored in move])

        assert backend.fetch([old.task_id for old, _ in moves]) == {
            old.task_id: new if wins(old, new) else old for old, new in moves
        }

    def test_an_id_twice_in_a_group_wins_once(self, backend: BaseBackend) -> None:
        assert backend.store([result("x", attempt=2), result("x", attempt=1), result("y")]) == {"x", "y"}

    def test_an_empty_group_is_stored_without_a_word(self, backend: BaseBackend) -> None:
        assert backend.store([]) == set()

    def test_a_thousand_results_are_one_group(self, backend: BaseBackend) -> None:
        group = [result(f"id {number}", result=str(number)) for number in range(1000)]

        assert backend.store(group) == {stored.task_id for stored in group}

        found = backend.fetch([stored.task_id for stored in group])
        assert {task_id: stored.result for task_id, stored in found.items()} == {
            stored.task_id: stored.result for stored in group
        }

    def test_a_megabyte_survives(self, backend: BaseBackend, request: pytest.FixtureRequest) -> None:
        try:
            backend.mark_as_done("x", "é" * 1_000_000)
        except UnencodableResult as error:
            assert "memcached" in request.node.callspec.params["backend"]
            pytest.skip(str(error))

        assert backend.get_result("x") == "é" * 1_000_000

    @pytest.mark.parametrize("task_id", IDS, ids=IDS.index)
    def test_any_id_that_a_message_may_have_is_an_id_of_a_result(self, backend: BaseBackend, task_id: str) -> None:
        stored = [result(task_id), result("another")]

        assert backend.store(stored) == {task_id, "another"}

        assert backend.fetch([task_id, "another"]) == {one.task_id: one for one in stored}
        assert backend.closed([(task_id, 1)]) == {(task_id, 1)}

    def test_ids_that_look_alike_are_told_apart(self, backend: BaseBackend) -> None:
        stored = {one: result(one, result=f'"{number}"') for number, one in enumerate(ALIKE)}

        assert backend.store(list(stored.values())) == set(ALIKE)

        assert backend.fetch(ALIKE) == stored

    @pytest.mark.parametrize("text", ["\0", "\ud800", "before\0after"], ids=["NUL", "lone surrogate", "NUL inside"])
    def test_characters_that_a_database_refuses_arrive_or_are_refused_as_the_fault_of_their_row(
        self, backend: BaseBackend, text: str
    ) -> None:
        try:
            backend.store([result("x", traceback=text)])
        except FAULTS_OF_A_ROW:
            assert backend.fetch(["x"]) == {}
        else:
            assert backend.fetch(["x"])["x"].traceback == text

    @pytest.mark.parametrize("number", [2, 1200], ids=["few", "many"])
    def test_a_group_that_is_refused_leaves_nothing_behind(self, backend: BaseBackend, number: int) -> None:
        if not backend.is_atomic:
            pytest.skip("it stores one result after the other")
        group = [result(f"id {count:05}") for count in range(number)]

        with pytest.raises(FAULTS_OF_A_ROW):
            backend.store([*group, result("x", traceback="\ud800")])

        assert backend.fetch([stored.task_id for stored in group]) == {}

    @pytest.mark.parametrize("use_tz", [True, False])
    def test_the_moment_is_the_same_whatever_use_tz_says(
        self, backend: BaseBackend, settings: Any, use_tz: bool
    ) -> None:
        settings.TIME_ZONE = "Europe/Berlin"
        settings.USE_TZ = use_tz
        moment = datetime(2026, 7, 1, 12, tzinfo=UTC)

        backend.store([result("x", date_done=moment)])

        assert backend.fetch(["x"])["x"].date_done == moment

    def test_it_is_undone_with_the_transaction_around_it(self, backend: BaseBackend) -> None:
        if backend.alias is None:
            pytest.skip("no database, so no transaction")

        with transaction.atomic(using=backend.alias):
            backend.store([result("x")])
            transaction.set_rollback(True, using=backend.alias)

        assert backend.fetch(["x"]) == {}


class TestWritersAtOnce:
    def test_threads_do_not_disturb_each_other(self, backend: BaseBackend) -> None:
        groups = [[result(f"{thread} {number}", result=str(number)) for number in range(50)] for thread in range(4)]

        winners = side_by_side([partial(store_and_fetch, backend, group) for group in groups])

        assert winners == [{stored.task_id: stored for stored in group} for group in groups]

    def test_of_two_results_of_one_attempt_one_wins(self, backend: BaseBackend) -> None:
        if not backend.is_conditional:
            pytest.skip("it compares first and writes then, so that both may win")

        for number in range(20):
            rivals = [result(f"x {number}", result=f'"{name}"') for name in "abcd"]
            winners = side_by_side([partial(store_one, backend, rival) for rival in rivals])

            (winner,) = [rival for rival, has_won in zip(rivals, winners, strict=True) if has_won]
            assert backend.fetch([winner.task_id]) == {winner.task_id: winner}


class TestFetching:
    def test_what_was_never_stored_is_absent(self, backend: BaseBackend) -> None:
        backend.store([result("here")])

        assert backend.fetch(["here", "nowhere"]).keys() == {"here"}

    def test_nothing_asked_nothing_found(self, backend: BaseBackend) -> None:
        assert backend.fetch([]) == {}

    def test_asking_never_stores(self, backend: BaseBackend) -> None:
        assert backend.get_status("x") == states.PENDING

        assert backend.fetch(["x"]) == {}

    @pytest.mark.parametrize("stored", ["", "{", "\x01", '{"__type__": "date", "__value__": 1}', "[" * 100_000])
    def test_a_failure_that_cannot_be_read_is_a_stand_in(self, backend: BaseBackend, stored: str) -> None:
        backend.store([result("x", states.FAILURE, result=stored)])

        assert isinstance(backend.get_result("x"), UnpickleableExceptionWrapper)


class TestClosedAttempts:
    def test_an_attempt_is_closed_when_no_result_of_it_could_win(self, backend: BaseBackend) -> None:
        moves = all_moves()
        backend.store([old for old, _ in moves])

        closed = backend.closed((new.task_id, new.attempt) for _, new in moves)

        assert closed == {(new.task_id, new.attempt) for old, new in moves if not wins(old, new)}

    def test_an_unknown_id_is_open(self, backend: BaseBackend) -> None:
        assert backend.closed([("x", 1)]) == set()

    def test_two_attempts_of_one_id_are_told_apart(self, backend: BaseBackend) -> None:
        backend.store([result("x", states.RETRY, attempt=1)])

        assert backend.closed([("x", 1), ("x", 2)]) == {("x", 1)}


class TestOneTask:
    @pytest.mark.parametrize("value", [None, 0, "", [], {"a": [1, {"b": None}]}, timezone.now().date(), b"\0\xff"])
    def test_a_value_comes_back(self, backend: BaseBackend, value: Any) -> None:
        backend.mark_as_done("x", value)

        assert (backend.get_status("x"), backend.get_result("x"), backend.is_done("x")) == (states.DONE, value, True)

    def test_a_failure_comes_back_as_its_exception(self, backend: BaseBackend) -> None:
        backend.mark_as_failure("x", KeyError("door"))

        found = backend.get_result("x")
        assert (backend.get_status("x"), type(found), found.args) == (states.FAILURE, KeyError, ("door",))

    def test_a_retry_tells_why_and_is_not_the_end(self, backend: BaseBackend) -> None:
        backend.mark_as_retry("x", OSError("away"))

        assert (backend.get_status("x"), str(backend.get_result("x"))) == (states.RETRY, "away")
        assert backend.ready_result("x") is None

    def test_a_value_that_json_cannot_carry_is_refused(self, backend: BaseBackend) -> None:
        with pytest.raises((TypeError, ValueError)):
            backend.mark_as_done("x", object())


class TestWaiting:
    def test_a_result_that_is_there_is_returned_at_once(self, backend: BaseBackend) -> None:
        backend.mark_as_done("x", 42)

        assert backend.wait_for("x", timeout=0) == 42

    def test_a_result_that_arrives_meanwhile_is_returned(
        self, backend: BaseBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("celery.backends.base.time.sleep", lambda _: backend.mark_as_done("x", 42))

        assert backend.wait_for("x", timeout=30) == 42

    def test_the_exception_of_the_task_is_raised(self, backend: BaseBackend) -> None:
        backend.mark_as_failure("x", KeyError("door"))

        with pytest.raises(KeyError, match="door"):
            backend.wait_for("x", timeout=0)

    @pytest.mark.parametrize("timeout", [0, 0.001])
    def test_when_the_time_is_up_it_says_so(self, backend: BaseBackend, timeout: float) -> None:
        with pytest.raises(ResultTimeoutError, match=f"no result of task x within {timeout} seconds"):
            backend.wait_for("x", timeout)

    def test_an_attempt_that_will_be_followed_by_another_is_waited_past(self, backend: BaseBackend) -> None:
        backend.mark_as_retry("x", OSError("away"))

        with pytest.raises(ResultTimeoutError):
            backend.wait_for("x", timeout=0)

    def test_it_refuses_where_the_open_transaction_keeps_every_worker_from_storing(self, backend: BaseBackend) -> None:
        if backend.alias is None or connections[backend.alias].vendor != "sqlite":
            pytest.skip("this transaction keeps nobody from writing")

        assert backend.refusal() is None
        with transaction.atomic(using=backend.alias):
            assert "SQLite" in str(backend.refusal())


class TestWaitingForMany:
    def test_results_that_are_there_are_yielded_at_once(self, backend: BaseBackend) -> None:
        group = [result(f"id {number}", result=str(number)) for number in range(1200)]
        backend.store(group)

        arrived = backend.wait_for_many([stored.task_id for stored in group], timeout=0)

        assert {stored.task_id: stored.result for stored in arrived} == {one.task_id: one.result for one in group}

    def test_nobody_waits_for_nothing(self, backend: BaseBackend) -> None:
        assert list(backend.wait_for_many([], timeout=0)) == []

    def test_each_id_is_yielded_once(self, backend: BaseBackend) -> None:
        backend.store([result("x")])

        assert [stored.task_id for stored in backend.wait_for_many(["x", "x"])] == ["x"]

    def test_results_are_yielded_as_they_arrive(self, backend: BaseBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        left = ["b", "c", "a"]
        monkeypatch.setattr("celery.backends.base.time.sleep", lambda _: backend.mark_as_done(left.pop(), 42))

        arrived = [stored.task_id for stored in backend.wait_for_many(["a", "b", "c"], timeout=30)]

        assert arrived == ["a", "c", "b"]

    def test_a_failure_is_a_result(self, backend: BaseBackend) -> None:
        backend.mark_as_failure("x", KeyError("door"))

        (stored,) = backend.wait_for_many(["x"])

        assert stored.state == states.FAILURE
        with pytest.raises(KeyError, match="door"):
            backend.value_of(stored)

    def test_an_attempt_that_will_be_followed_by_another_is_none(self, backend: BaseBackend) -> None:
        backend.mark_as_retry("x", OSError("away"))

        with pytest.raises(ResultTimeoutError):
            list(backend.wait_for_many(["x"], timeout=0))

    def test_when_the_time_is_up_it_says_how_many_are_missing(self, backend: BaseBackend) -> None:
        backend.store([result("x")])

        with pytest.raises(ResultTimeoutError, match=r"2 of 3 results are missing after 0 seconds; .* that of w"):
            list(backend.wait_for_many(["w", "x", "y"], timeout=0))

    def test_it_sees_news_inside_a_transaction_that_does_not(
        self, backend: BaseBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if backend.alias is None or connections[backend.alias].vendor == "sqlite":
            pytest.skip("no transaction with a snapshot, or one in which nobody waits")

        with snapshot(backend.alias, monkeypatch), ThreadPoolExecutor(1) as elsewhere:
            assert backend.fetch(["x"]) == {}
            elsewhere.submit(store_elsewhere, backend, [result("x", result="42"), result("y", result="43")]).result()
            assert backend.fetch(["x"]) == {}

            assert backend.wait_for("x", timeout=0) == 42
            assert {stored.task_id for stored in backend.wait_for_many(["x", "y"], timeout=0)} == {"x", "y"}


def store_elsewhere(backend: BaseBackend, group: Sequence[Result]) -> None:
    """Store on the connection of another thread, and close that."""
    backend.store(group)
    connections[str(backend.alias)].close()


@contextmanager
def snapshot(alias: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Open a transaction that sees no news, on a connection that says so as Django's own settings would have it."""
    connection: Any = connections[alias]
    connection.ensure_connection()
    level = "repeatable read" if connection.vendor == "mysql" else IsolationLevel.REPEATABLE_READ
    monkeypatch.setattr(connection, "isolation_level", level)
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # of the next transaction
        with transaction.atomic(using=alias):
            if connection.vendor == "postgresql":
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield
