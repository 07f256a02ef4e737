import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.db import transaction

from celery import states
from celery.backends.base import BaseBackend, Result
from celery.current import Running, running
from celery.exceptions import UnpickleableExceptionWrapper, WouldWaitForever
from celery.result import AsyncResult, BaseAsyncResult, OpenTransaction
from celery.timer import TimeoutError as ResultTimeoutError


class MemoryBackend(BaseBackend):
    """Keeps results in a dictionary, and refuses to wait if it is told so."""

    def __init__(self) -> None:
        self.rows: dict[str, Result] = {}
        self.refuses: str | None = None

    def store(self, results: Sequence[Result]) -> set[str]:
        self.rows |= {result.task_id: result for result in results}
        return {result.task_id for result in results}

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        return {task_id: self.rows[task_id] for task_id in task_ids if task_id in self.rows}

    def refusal(self) -> str | None:
        return self.refuses


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def result(backend: MemoryBackend) -> BaseAsyncResult[Any]:
    """The result of a task that has not run yet."""
    return BaseAsyncResult("0b8a", backend)


@pytest.fixture
def _inside_a_task() -> Iterator[None]:
    token = running.set(Running("shop.outer", "7", 1))
    yield
    running.reset(token)


class TestGetting:
    def test_the_value_is_returned(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_done("0b8a", {"sum": 4})

        assert result.get() == result.wait() == {"sum": 4}

    def test_the_exception_of_the_task_is_raised(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_failure("0b8a", KeyError("door"))

        with pytest.raises(KeyError, match="door"):
            result.get()

    @pytest.mark.parametrize("call", [lambda result: result.get(timeout=0), lambda result: result.wait(0)])
    def test_with_a_timeout_of_0_it_does_not_wait_at_all(
        self, result: BaseAsyncResult[Any], monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], object]
    ) -> None:
        monkeypatch.setattr("celery.backends.base.time.sleep", lambda _: pytest.fail("it slept"))

        with pytest.raises(ResultTimeoutError, match="no result of task 0b8a within 0 seconds"):
            call(result)

    def test_the_timeout_is_one_of_python_too(self, result: BaseAsyncResult[Any]) -> None:
        with pytest.raises(TimeoutError):
            result.get(timeout=0)

    def test_it_waits_for_what_arrives_meanwhile(
        self, result: BaseAsyncResult[Any], backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 40:
                backend.mark_as_done("0b8a", 4)

        monkeypatch.setattr("celery.backends.base.time.sleep", sleep)

        assert result.get() == 4
        assert pauses[0] == pytest.approx(0.0005)
        assert pauses == sorted(pauses)
        assert pauses[-1] == pytest.approx(0.05)

    def test_a_retry_is_waited_past(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_retry("0b8a", OSError("away"))

        with pytest.raises(ResultTimeoutError):
            result.get(timeout=0)


class TestRefusals:
    """Each is a wait that could never end."""

    def test_a_result_that_is_ignored(self, backend: MemoryBackend) -> None:
        with pytest.raises(WouldWaitForever, match="its task says ignore_result"):
            BaseAsyncResult("0b8a", backend, ignored=True).get(timeout=1)

    def test_the_failure_of_a_task_with_ignored_results_is_stored_and_so_raised(self, backend: MemoryBackend) -> None:
        backend.mark_as_failure("0b8a", KeyError("door"))

        with pytest.raises(KeyError):
            BaseAsyncResult("0b8a", backend, ignored=True).get()

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task(self, result: BaseAsyncResult[Any]) -> None:
        with pytest.raises(WouldWaitForever, match=r"this is itself a task.*Say get\(inside_task=True\)"):
            result.get(timeout=1)

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task_it_may_be_allowed(self, result: BaseAsyncResult[Any]) -> None:
        with pytest.raises(ResultTimeoutError):
            result.get(timeout=0, inside_task=True)

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task_a_result_that_is_there_is_returned(
        self, result: BaseAsyncResult[Any], backend: MemoryBackend
    ) -> None:
        backend.mark_as_done("0b8a", 4)

        assert result.get() == 4

    def test_where_the_backend_refuses(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.refuses = "the moon is full"

        with pytest.raises(WouldWaitForever, match="0b8a cannot be waited for: the moon is full"):
            result.get(timeout=1)

    @pytest.mark.django_db(transaction=True)
    def test_inside_the_transaction_that_sent_it(self, backend: MemoryBackend) -> None:
        with transaction.atomic():
            result: BaseAsyncResult[Any] = BaseAsyncResult("0b8a", backend, sent_in=OpenTransaction("default"))
            with pytest.raises(
                WouldWaitForever, match=r"inside a transaction that is still open here.*Wait after the commit"
            ):
                result.get(timeout=1)

        with pytest.raises(ResultTimeoutError):
            result.get(timeout=0)

    @pytest.mark.django_db(transaction=True)
    def test_another_transaction_than_the_one_that_sent_it_does_not_matter(self, backend: MemoryBackend) -> None:
        with transaction.atomic():
            result: BaseAsyncResult[Any] = BaseAsyncResult("0b8a", backend, sent_in=OpenTransaction("default"))

        with transaction.atomic(), pytest.raises(ResultTimeoutError):
            result.get(timeout=0)

    @pytest.mark.django_db(transaction=True)
    def test_a_savepoint_that_was_rolled_back_will_never_send_it(self, backend: MemoryBackend) -> None:
        with transaction.atomic():
            with transaction.atomic():
                result: BaseAsyncResult[Any] = BaseAsyncResult("0b8a", backend, sent_in=OpenTransaction("default"))
                transaction.set_rollback(True)

            with pytest.raises((WouldWaitForever, ResultTimeoutError)):
                result.get(timeout=0)


class TestAsking:
    def test_nothing_known_is_pending(self, result: BaseAsyncResult[Any]) -> None:
        assert (result.status, result.result) == (states.PENDING, None)
        assert (result.ready(), result.successful(), result.is_done()) == (False, False, False)

    def test_a_value(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_done("0b8a", 4)

        assert (result.status, result.result) == (states.DONE, 4)
        assert (result.ready(), result.successful(), result.is_done()) == (True, True, True)

    def test_a_failure(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_failure("0b8a", KeyError("door"))

        assert (result.status, repr(result.result)) == (states.FAILURE, "KeyError('door')")
        assert (result.ready(), result.successful(), result.is_done()) == (True, False, False)

    def test_a_retry(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_retry("0b8a", OSError("away"))

        assert (result.status, str(result.result)) == (states.RETRY, "away")
        assert (result.ready(), result.successful(), result.is_done()) == (False, False, False)

    def test_an_exception_that_is_unknown_here_has_a_stand_in(
        self, result: BaseAsyncResult[Any], backend: MemoryBackend
    ) -> None:
        text = '{"module": "elsewhere", "class": "Unpayable", "args": ["order 7"]}'
        backend.store([Result(task_id="0b8a", state=states.FAILURE, result=text)])

        with pytest.raises(UnpickleableExceptionWrapper, match="order 7"):
            result.get()


class TestItself:
    def test_its_text_is_the_id(self, result: BaseAsyncResult[Any]) -> None:
        assert str(result) == "0b8a"

    def test_its_repr_names_class_and_id(self, result: BaseAsyncResult[Any]) -> None:
        assert repr(result) == "<BaseAsyncResult: 0b8a>"
        assert repr(AsyncResult("0b8a")) == "<AsyncResult: 0b8a>"

    def test_two_with_the_same_id_are_equal(self, result: BaseAsyncResult[Any]) -> None:
        assert result == AsyncResult("0b8a")
        assert len({result, AsyncResult("0b8a")}) == 1

    def test_two_with_other_ids_are_not(self, result: BaseAsyncResult[Any]) -> None:
        assert result != AsyncResult("7")
        assert result != "0b8a"

    def test_making_one_asks_nobody(self) -> None:
        async def view() -> str:
            return AsyncResult("0b8a").task_id

        assert asyncio.run(view()) == "0b8a"
