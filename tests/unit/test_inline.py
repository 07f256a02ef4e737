"""CELERY_ALWAYS_EAGER: the sender runs what it sends, by the real path, and finds its own transaction as it left it."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import override_settings

from celery import backends, broker, signals, states
from celery.backends.base import Result
from celery.broker.amqp import AmqpBroker
from celery.calling import message_of
from celery.checks import check_eager
from celery.current import running
from celery.exceptions import (
    MessageTooLarge,
    NotRegistered,
    UndecodableMessage,
    UnencodableResult,
    UnpickleableExceptionWrapper,
    UnsendableArgument,
    WouldWaitForever,
)
from celery.messaging import TaskPublisher
from celery.models import Message, TaskMeta
from celery.task import Task, execute_remote, task, tasks
from celery.testing import run_inline
from celery.worker import inline
from tests.shop.models import Order


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    with run_inline():
        yield


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str]]]:
    """Names of signals and tasks, in the order in which they are sent."""
    found: list[tuple[str, str]] = []
    kinds = ("task_started", "task_retried", "task_finished", "job_dead", "job_postponed")
    listeners = []
    for kind in kinds:

        def listen(*, name: str, kind: str = kind, **_: Any) -> None:
            found.append((kind, name))

        getattr(signals, kind).connect(listen)
        listeners.append((kind, listen))
    yield found
    for kind, listen in listeners:
        getattr(signals, kind).disconnect(listen)


@pytest.fixture
def add() -> Any:
    return task(name="inline.add")(_add)


def _add(x: int, y: int) -> int:
    return x + y


def a_task(name: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a function of a test a task: `@task` would refuse it, since no worker could find it."""

    def made(function: Callable[..., Any]) -> Any:
        function.__qualname__ = function.__name__
        return task(name=name, **options)(function)

    return made


pytestmark = pytest.mark.django_db


class TestTheRealPath:
    def test_the_result_is_stored_and_comes_from_the_backend(self, add: Any) -> None:
        result = add.delay(2, 2)

        assert result.get() == 4
        stored = TaskMeta.objects.get(task_id=result.task_id)
        assert (stored.status, stored.name, stored.attempt, stored.worker) == ("DONE", "inline.add", 1, "eager")

    def test_nothing_waits_in_a_queue(self, add: Any) -> None:
        add.delay(2, 2)
        add.apply_async((2, 2), countdown=3600)

        assert not Message.objects.exists()
        assert broker.current().depth("celery") == 0
        assert broker.current().discard_all("celery") == 0

    def test_arguments_arrive_as_a_worker_gets_them(self) -> None:
        @a_task("inline.kinds")
        def kinds(*values: Any) -> list[str]:
            return [type(value).__name__ for value in values]

        assert kinds.delay((1, 2), datetime(2026, 1, 1, tzinfo=UTC), b"x").get() == ["list", "datetime", "bytes"]

    def test_an_argument_that_json_cannot_carry_fails_at_delay(self, add: Any) -> None:
        with pytest.raises(UnsendableArgument, match=r"argument 2 of inline\.add, of type set"):
            add.delay(1, {2})

    @override_settings(CELERY_MESSAGE_MAX_BYTES=1024)
    def test_a_message_that_is_too_large_fails_at_delay(self, add: Any) -> None:
        with pytest.raises(MessageTooLarge):
            add.delay("x" * 2000, "")

    def test_the_value_is_what_the_backend_gives_back(self) -> None:
        @a_task("inline.pair")
        def pair() -> tuple[int, int]:
            return (1, 2)

        assert pair.delay().get() == [1, 2]

    def test_a_value_that_json_cannot_carry_is_a_failure(self) -> None:
        @a_task("inline.odd")
        def odd() -> set[int]:
            return {1}

        with pytest.raises(UnencodableResult):
            odd.delay().get()

    def test_a_failure_is_stored_and_raised_by_get_only(self) -> None:
        @a_task("inline.fail")
        def fail() -> None:
            raise LookupError("no such order")

        result = fail.delay()

        assert result.status == states.FAILURE
        with pytest.raises(LookupError, match="no such order") as caught:
            result.get()
        assert caught.value.args == ("no such order",)
        assert "in fail" in TaskMeta.objects.get().traceback

    def test_default_arguments_are_passed_to_who_accepts_them(self) -> None:
        class Classic(Task):
            name = "inline.classic"

            def run(self, x: int, **kwargs: Any) -> list[Any]:
                return [x, kwargs["task_id"], kwargs["task_name"]]

        tasks.register(Classic)

        result = Classic.delay(3)

        assert result.get() == [3, result.task_id, "inline.classic"]

    def test_a_task_that_runs_at_most_once_runs(self) -> None:
        @a_task("inline.once", acks_late=False)
        def once() -> int:
            return 1

        assert once.delay().get() == 1

    def test_nothing_of_an_ignored_result_is_stored(self) -> None:
        ran = []

        @a_task("inline.ignored", ignore_result=True)
        def ignored() -> int:
            ran.append(1)
            return 1

        result = ignored.delay()

        assert ran == [1]
        assert not TaskMeta.objects.exists()
        with pytest.raises(WouldWaitForever):
            result.get()

    def test_a_backend_without_a_database_works_too(self, add: Any) -> None:
        with override_settings(CELERY_BACKEND="tests.memory_backend.MemoryBackend"):
            assert add.delay(1, 2).get() == 3

        assert not TaskMeta.objects.exists()

    def test_what_is_published_runs_too(self, add: Any) -> None:
        message = message_of(add, (1, 2))
        broker.current().publish([message])

        assert backends.default().get_result(message.task_id) == 3

    def test_remote_callables_and_the_classic_publisher_run_too(self, add: Any) -> None:
        task_id = TaskPublisher().delay_task("inline.add", (1, 2))

        assert backends.default().get_result(task_id) == 3
        assert execute_remote(math.prod, [2, 3]).get() == 6

    def test_many_run_in_their_order(self) -> None:
        ran = []

        @a_task("inline.note")
        def note(value: int) -> None:
            ran.append(value)

        note.delay_many((number,) for number in range(5))

        assert ran == [0, 1, 2, 3, 4]

    def test_expired_is_expired(self, add: Any) -> None:
        assert add.apply_async((1, 1), expires=-1).status == states.FAILURE

    def test_signals_are_sent(self, add: Any, heard: list[tuple[str, str]]) -> None:
        add.delay(1, 1)

        assert heard == [("task_started", "inline.add"), ("task_finished", "inline.add")]


class TestNesting:
    def test_a_task_that_sends_one_may_get_its_result(self, add: Any) -> None:
        names: list[Any] = []

        @a_task("inline.outer")
        def outer() -> Any:
            before = running.get()
            value = add.delay(1, 2).get()
            names.extend([before, running.get()])
            return value

        assert outer.delay().get() == 3
        assert names[0] == names[1] is not None
        assert names[0].name == "inline.outer"
        assert running.get() is None


class TestRetries:
    def test_retries_run_at_once_until_one_succeeds(self, heard: list[tuple[str, str]]) -> None:
        attempts: list[Any] = []

        @a_task("inline.flaky", auto_retry=True, retry_interval=3600)
        def flaky() -> str:
            attempts.append(running.get())
            if len(attempts) < 3:
                raise OSError("away")
            return "there"

        result = flaky.delay()

        assert result.get() == "there"
        assert [(one.attempt, one.retries) for one in attempts] == [(1, 0), (2, 1), (3, 2)]
        assert TaskMeta.objects.get(task_id=result.task_id).attempt == 3
        assert [kind for kind, _ in heard] == [
            *("task_started", "task_retried") * 2,
            *("task_started", "task_finished"),
        ]

    def test_the_last_exception_is_the_result(self) -> None:
        @a_task("inline.hopeless", max_retries=2)
        def hopeless(number: int) -> None:
            hopeless.retry((number + 1,), exc=OSError(number))

        result = hopeless.delay(1)

        with pytest.raises(OSError, match="3"):
            result.get()

    def test_one_that_never_gives_up_is_told_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inline, "MOST_ATTEMPTS", 5)

        attempts = []

        @a_task("inline.for_ever", max_retries=None, auto_retry=True)
        def for_ever() -> None:
            attempts.append(1)
            raise OSError

        with pytest.raises(WouldWaitForever, match=r"inline\.for_ever was tried 5 times"):
            for_ever.delay()
        assert len(attempts) == 5

    def test_an_attempt_that_does_not_count_is_followed_by_none(self) -> None:
        """Its id was used before, so its attempt is closed: as in a worker, what it does changes nothing."""
        attempts = []

        @a_task("inline.again", auto_retry=True)
        def again() -> None:
            attempts.append(1)
            raise OSError

        backends.default().store([Result(task_id="used", state=states.DONE, result="7", attempt=1)])

        assert again.apply_async(task_id="used").get() == 7
        assert attempts == [1]


class TestWhatNobodyCanRun:
    def test_an_unknown_task_is_raised_to_the_sender(self) -> None:
        class Unregistered(Task):
            name = "inline.unregistered"

        with pytest.raises(NotRegistered, match=r"inline\.unregistered"):
            Unregistered.delay()
        assert not TaskMeta.objects.exists()

    def test_an_unreadable_message_is_raised_to_the_sender(self, add: Any) -> None:
        with pytest.raises(UndecodableMessage):
            add.apply_async((1, 2), serializer="pickle")


class TestTheTerminal:
    def test_ctrl_c_ends_the_program_not_the_task(self) -> None:
        @a_task("inline.interrupted")
        def interrupted() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted.delay()
        assert not TaskMeta.objects.exists()

    def test_sys_exit_is_a_failure_as_in_a_worker(self) -> None:
        @a_task("inline.leaves")
        def leaves() -> None:
            raise SystemExit(3)

        result = leaves.delay()

        assert result.status == states.FAILURE
        assert isinstance(result.result, UnpickleableExceptionWrapper)


@task(name="inline.order_twice")
def order_twice(number: str) -> None:
    Order.objects.create(number=number)
    Order.objects.create(number=number)


@pytest.fixture
def twice() -> Any:
    tasks["inline.order_twice"] = order_twice
    return order_twice


class TestOpenTransactions:
    def test_a_task_runs_before_the_commit_and_its_result_goes_with_a_rollback(self, add: Any) -> None:
        with transaction.atomic():
            result = add.delay(1, 2)
            assert result.get() == 3
            transaction.set_rollback(True)

        assert result.status == states.PENDING

    def test_a_failed_statement_of_the_task_leaves_the_block_usable(self, twice: Any) -> None:
        with transaction.atomic():
            Order.objects.create(number="before")
            result = twice.delay("4711")
            Order.objects.create(number="after")

        assert isinstance(result.result, IntegrityError)
        assert Order.objects.filter(number__in=["before", "after"]).count() == 2

    def test_a_broken_transaction_is_mended_and_hooks_of_the_task_are_dropped(
        self, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
    ) -> None:
        called = []

        @a_task("inline.breaks")
        def breaks() -> None:
            Order.objects.create(number="lost")
            transaction.on_commit(lambda: called.append("task"))
            transaction.set_rollback(True)

        with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
            transaction.on_commit(lambda: called.append("sender"))
            breaks.delay()
            Order.objects.create(number="kept")

        assert called == ["sender"]
        assert list(Order.objects.values_list("number", flat=True)) == ["kept"]
        assert "inline.breaks broke the transaction" in caplog.text

    def test_what_a_failed_task_has_written_stays_as_with_a_worker(self) -> None:
        @a_task("inline.writes")
        def writes() -> None:
            Order.objects.create(number="written")
            raise OSError

        with transaction.atomic():
            writes.delay()

        assert Order.objects.filter(number="written").exists()

    @pytest.mark.django_db(transaction=True)
    def test_a_transaction_that_the_task_leaves_open_is_rolled_back(self) -> None:
        @a_task("inline.leaves_open")
        def leaves_open() -> int:
            transaction.set_autocommit(False)
            return Order.objects.create(number="never").pk

        result = leaves_open.delay()

        assert result.is_done()
        assert connection.get_autocommit()
        assert not Order.objects.exists()

    def test_a_durable_block_of_the_task_is_allowed_inside_a_test(self) -> None:
        @a_task("inline.durable")
        def durable() -> int:
            with transaction.atomic(durable=True):
                return 1

        assert durable.delay().get() == 1

    def test_a_result_that_the_database_refuses_is_a_failure_and_the_block_goes_on(
        self, add: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = backends.default()
        store = backend.store

        def picky(results: list[Result]) -> set[str]:
            if results[0].state == states.DONE:
                order_twice("5")
            return store(results)

        monkeypatch.setattr(backend, "store", picky)

        with transaction.atomic():
            result = add.delay(1, 2)

        assert isinstance(result.result, UnencodableResult)
        assert not Order.objects.exists()

    def test_a_backend_that_is_away_is_raised_to_the_sender(self, add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(_: object) -> set[str]:
            raise DatabaseError("away")

        monkeypatch.setattr(backends.default(), "store", away)

        with pytest.raises(DatabaseError, match="away"):
            add.delay(1, 2)


class TestTheSetting:
    def test_it_wins_over_the_broker_of_the_settings(self) -> None:
        with override_settings(CELERY_BROKER_URL="amqp://nowhere.invalid//"):
            assert isinstance(broker.current(), inline.InlineBroker)
            with override_settings(CELERY_ALWAYS_EAGER=False):
                assert isinstance(broker.current(), AmqpBroker)

    def test_a_worker_refuses_to_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celery.log.setup_logger", lambda *_: None)  # it would listen in all later tests
        monkeypatch.setattr("celery.mail.connect", lambda: None)  # the same
        monkeypatch.setattr("celery.worker.connections.prepare", lambda: None)  # later tests would keep connections
        with pytest.raises(CommandError, match="CELERY_ALWAYS_EAGER is on"):
            call_command("celeryd", concurrency=1)
        with pytest.raises(ImproperlyConfigured, match="CELERY_ALWAYS_EAGER is on"):
            broker.current().consumer("me", ["celery"])

    def test_a_deployment_is_warned(self) -> None:
        assert [found.id for found in check_eager()] == ["celery.W013"]
        with override_settings(CELERY_ALWAYS_EAGER=False):
            assert check_eager() == []
            with override_settings(CELERY_BROKER_URL="eager://"):
                assert [found.id for found in check_eager()] == ["celery.W013"]
