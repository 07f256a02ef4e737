"""`celery.testing` as its users use it: in Django's TestCase and TransactionTestCase, and in plain functions.

The database is the one that pytest-django makes by default, SQLite in memory.
"""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings

from celery import broker, conf, states
from celery.broker.memory import MemoryBroker
from celery.current import running
from celery.exceptions import CeleryError, NotRegistered, TimeoutError, WouldWaitForever  # noqa: A004
from celery.models import Message, Worker
from celery.task import task, tasks
from celery.testing import SentTasks, assert_nothing_sent, assert_sent, background, run_inline, sent_tasks, worker
from tests.helpers import eventually
from tests.shop.models import Order
from tests.shop.tasks import add, echo, fail, pay

attempts: list[Any] = []
may_go_on = threading.Event()


@pytest.fixture(autouse=True)
def _nothing_so_far() -> Iterator[None]:
    attempts.clear()
    may_go_on.clear()
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name == "celery.testing.worker"]
    assert not broker.interposed


@task(name="testing.flaky", auto_retry=True, retry_interval=60)
def flaky() -> int:
    attempts.append(running.get())
    if len(attempts) < 3:
        raise OSError("away")
    return len(attempts)


@task(name="testing.note", ignore_result=True)
def note(value: object) -> None:
    attempts.append(value)


@task(name="testing.note_once", acks_late=False)
def note_once(value: object) -> None:
    attempts.append((value, Message.objects.count()))


@task(name="testing.sends")
def sends(count: int) -> None:
    """Send as many, one of them from the other."""
    attempts.append(count)
    if count:
        sends.delay(count - 1)


@task(name="testing.for_ever")
def for_ever() -> None:
    for_ever.delay()


@task(name="testing.create")
def create(number: str) -> int:
    return Order.objects.create(number=number).pk


@task(name="testing.create_twice")
def create_twice(number: str) -> None:
    Order.objects.create(number=number)
    Order.objects.create(number=number)


@task(name="testing.waits_once", acks_late=False)
def waits_once() -> None:
    may_go_on.wait(5)
    attempts.append("settled")


@task(name="testing.thread_name")
def thread_name() -> str:
    return threading.current_thread().name


@task(name="testing.waits")
def waits() -> bool:
    return may_go_on.wait(5)


class TestRunInline(TestCase):
    @run_inline()
    def test_a_decorated_method(self) -> None:
        assert add.delay(1, 2).get() == 3

    def test_a_block(self) -> None:
        with run_inline():
            assert add.delay(1, 2).get() == 3
        assert add.delay(1, 2).status == states.PENDING


@run_inline()
class TestRunInlineAroundAClass(TestCase):
    def test_its_methods_run_inline(self) -> None:
        assert add.delay(1, 2).get() == 3


@pytest.mark.django_db
@run_inline()
def test_a_function_can_be_decorated() -> None:
    assert add.delay(1, 2).get() == 3


class TestAWorkerInATestCase(TestCase):
    """Nothing is ever committed here."""

    def test_a_task_waits_until_the_worker_runs(self) -> None:
        with worker() as w:
            result = add.delay(1, 2)
            assert result.status == states.PENDING

            runs = w.run()

            assert [(run.task, run.state, run.task_id) for run in runs] == [("shop.add", "DONE", result.task_id)]
            assert result.get() == 3
            assert w.run() == []

    def test_it_sees_what_the_test_wrote_and_the_test_sees_what_it_wrote(self) -> None:
        order = Order.objects.create(number="4711", amount=5)
        with worker() as w:
            pay.delay(order.pk)
            w.run()

        order.refresh_from_db()
        assert order.is_paid

    def test_a_failure_is_a_result(self) -> None:
        with worker() as w:
            result = fail.delay("no")

            (run,) = w.run()

            assert (run.state, run.error) == ("FAILURE", "ValueError: no")
            with pytest.raises(ValueError, match="no"):
                result.get()

    def test_a_task_that_breaks_the_transaction_does_not_break_the_test(self) -> None:
        with worker() as w:
            result = create_twice.delay("4711")
            w.run()

            assert result.status == states.FAILURE
            assert Order.objects.count() <= 1

    def test_what_tasks_send_runs_too(self) -> None:
        with worker() as w:
            sends.delay(3)

            assert len(w.run()) == 4
        assert attempts == [3, 2, 1, 0]

    def test_the_most_urgent_goes_first_whatever_its_queue(self) -> None:
        with worker() as w:
            note.apply_async(("a",), queue="one")
            note.apply_async(("b",), queue="two", priority=5)
            note.apply_async(("c",), queue="one")
            w.run()

        assert attempts == ["b", "a", "c"]

    def test_a_worker_of_some_queues_leaves_the_others(self) -> None:
        with worker(queues=["two"]) as w:
            note.apply_async(("a",), queue="one")
            note.apply_async(("b",), queue="two")
            w.run()

            assert attempts == ["b"]
            assert Message.objects.get().queue == "one"

    def test_one_that_runs_at_most_once_is_settled_before_it_runs(self) -> None:
        with worker() as w:
            note_once.delay("a")
            w.run()

        assert attempts == [("a", 0)]

    def test_one_that_runs_at_most_once_has_a_result_and_may_be_delayed(self) -> None:
        with worker() as w:
            result = note_once.apply_async(("a",), countdown=3600)
            w.run_scheduled()

        assert attempts == [("a", 0)]
        assert result.status == states.DONE

    def test_a_delayed_task_waits_for_its_moment(self) -> None:
        with worker() as w:
            note.apply_async(("later",), countdown=3600)
            note.apply_async(("soon",), countdown=60)
            note.delay("now")

            assert len(w.run()) == 1
            assert len(w.run(now=59)) == 0
            assert len(w.run(now=timedelta(minutes=1, seconds=1))) == 1
            assert len(w.run(now=datetime.now(UTC) + timedelta(hours=2))) == 1
        assert attempts == ["now", "soon", "later"]

    def test_scheduled_tasks_run_in_the_order_of_their_moments(self) -> None:
        with worker() as w:
            note.apply_async(("later",), countdown=3600)
            note.apply_async(("soon",), countdown=60)
            w.run_scheduled()

            assert not Message.objects.exists()
        assert attempts == ["soon", "later"]

    def test_retries_wait_as_long_as_they_have_to(self) -> None:
        with worker() as w:
            result = flaky.delay()
            assert [run.state for run in w.run()] == ["RETRY"]
            assert result.status == states.RETRY

            assert [run.state for run in w.run(now=30)] == []
            assert [(run.state, run.attempt) for run in w.run_scheduled()] == [("RETRY", 2), ("DONE", 3)]
            assert result.get() == 3

    def test_a_task_that_sends_itself_is_found_out(self) -> None:
        with worker() as w:
            for_ever.delay()

            with pytest.raises(WouldWaitForever, match=r"20 tasks ran, the last was testing\.for_ever"):
                w.run(limit=20)

    def test_an_unknown_task_is_raised(self) -> None:
        with worker() as w:
            echo.delay(1)
            del tasks[echo.name]

            with pytest.raises(NotRegistered, match=echo.name):
                w.run()
            assert not Message.objects.exists()

    def test_an_unreadable_message_is_dead(self) -> None:
        with worker() as w:
            add.delay(1, 2)
            Message.objects.update(body=b"{")

            assert [run.state for run in w.run()] == ["UNDECODABLE"]
            assert Message.objects.get().dead_at

    def test_no_row_of_the_worker_is_left_between_runs(self) -> None:
        with worker() as w:
            add.delay(1, 2)
            w.run()

            assert not Worker.objects.exists()

    def test_a_server_in_the_settings_is_not_touched(self) -> None:
        with override_settings(CELERY_BROKER_URL="amqp://nowhere.invalid//", CELERY_ALWAYS_EAGER=True):
            with worker() as w:
                result = add.delay(1, 2)
                assert w.run()
                assert result.get() == 3
            assert conf.BROKER_URL == "amqp://nowhere.invalid//"

    def test_hooks_that_send_run_by_capture_on_commit_callbacks(self) -> None:
        with worker() as w:
            with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
                transaction.on_commit(lambda: note.delay("committed"))
                assert w.run() == []
            w.run()

        assert attempts == ["committed"]


@task(name="testing.interrupted")
def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.django_db
def test_an_interrupted_run_gives_its_message_back() -> None:
    with worker() as w:
        interrupted.delay()
        with pytest.raises(KeyboardInterrupt):
            w.run()

        assert Message.objects.get().owner is None
        assert not Worker.objects.exists()


class TestAWorkerInATransactionTestCase(TransactionTestCase):
    def test_it_runs_when_it_is_told_to(self) -> None:
        with worker() as w:
            result = add.delay(1, 2)
            with transaction.atomic():
                note.delay("rolled back")
                transaction.set_rollback(True)
            w.run()

            assert result.get() == 3
        assert attempts == []


class TestABackgroundWorker(TransactionTestCase):
    def test_results_come_while_the_test_goes_on(self) -> None:
        with worker(background=True):
            results = [add.delay(number, 1) for number in range(20)]

            assert [result.get(timeout=5) for result in results] == list(range(1, 21))

    def test_test_and_worker_write_at_the_same_time(self) -> None:
        with worker(background=True) as w:
            for number in range(50):
                create.delay(f"by task {number}")
                with transaction.atomic():
                    Order.objects.create(number=f"by test {number}")
                    assert Order.objects.filter(number__startswith="by").count() > number
            w.wait(timeout=20)

        assert Order.objects.filter(number__startswith="by task").count() == 50

    def test_nothing_runs_before_its_commit(self) -> None:
        with worker(background=True) as w:
            with transaction.atomic():
                note.delay("rolled back")
                transaction.set_rollback(True)
            with transaction.atomic():
                note.delay("committed")
            w.wait()

        assert attempts == ["committed"]

    def test_it_runs_in_another_thread(self) -> None:
        with worker(background=True):
            assert thread_name.delay().get(timeout=5) == "celery.testing.worker"

    def test_a_failure_is_raised_by_get(self) -> None:
        with worker(background=True), pytest.raises(ValueError, match="no"):
            fail.delay("no").get(timeout=5)

    def test_a_delayed_task_is_left_and_the_thread_ends(self) -> None:
        with worker(background=True) as w:
            note.apply_async(("later",), countdown=3600)
            w.wait()

        assert attempts == []
        assert Message.objects.count() == 1
        assert not Worker.objects.exists()

    def test_the_running_task_ends_before_the_block_does(self) -> None:
        with worker(background=True):
            result = waits.delay()
            eventually(Message.objects.filter(owner__isnull=False).exists)
            release = threading.Timer(0.05, may_go_on.set)
            release.start()

        release.join()
        assert result.get() is True

    def test_waiting_gives_up(self) -> None:
        with worker(background=True) as w:
            waits.delay()
            try:
                with pytest.raises(TimeoutError, match="1 messages are not done"):
                    w.wait(timeout=0.01)
            finally:
                may_go_on.set()

    def test_waiting_knows_of_the_task_that_was_settled_before_it_runs(self) -> None:
        with worker(background=True) as w:
            waits_once.delay()
            try:
                eventually(lambda: not Message.objects.exists())
                with pytest.raises(TimeoutError, match=r"0 messages .* 0\.01 seconds, and a task runs"):
                    w.wait(timeout=0.01)
            finally:
                may_go_on.set()
            w.wait()

        assert attempts == ["settled"]

    def test_what_ends_the_thread_is_raised_at_the_end(self) -> None:
        del tasks[echo.name]

        with pytest.raises(NotRegistered, match=echo.name), worker(background=True):
            self.send_and_see_the_thread_end()

    def test_what_ends_the_thread_is_raised_by_waiting(self) -> None:
        del tasks[echo.name]

        with pytest.raises(NotRegistered) as caught:
            self.wait_for_an_unknown_task()
        assert caught.value.__cause__ is None

    def test_what_ends_the_thread_is_raised_with_what_came_of_it(self) -> None:
        del tasks[echo.name]

        with pytest.raises(NotRegistered) as caught:
            self.fail_for_an_unknown_task()
        assert isinstance(caught.value.__cause__, LookupError)

    def wait_for_an_unknown_task(self) -> None:
        with worker(background=True) as w:
            self.send_and_see_the_thread_end()
            w.wait()

    def fail_for_an_unknown_task(self) -> None:
        with worker(background=True):
            self.send_and_see_the_thread_end()
            raise LookupError

    def send_and_see_the_thread_end(self) -> None:
        echo.delay(1)
        eventually(lambda: "celery.testing.worker" not in [thread.name for thread in threading.enumerate()])

    def test_a_task_that_does_not_end_is_told_of(self) -> None:
        with patch.object(background, "STOP_TIMEOUT", 0.01):
            with pytest.raises(CeleryError, match="a task still runs"), worker(background=True):
                self.send_one_that_waits()
            may_go_on.set()
            eventually(lambda: "celery.testing.worker" not in [thread.name for thread in threading.enumerate()])

    def send_one_that_waits(self) -> None:
        waits.delay()
        eventually(Message.objects.filter(owner__isnull=False).exists)

    def test_an_error_of_a_statement_is_not_waited_for(self) -> None:
        with worker(background=True), pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM no_such_table")

    def test_the_wrappers_of_the_connection_are_gone_afterwards(self) -> None:
        with worker(background=True):
            is_in_memory = "mode=memory" in str(connection.settings_dict["NAME"])
            assert bool(connection.execute_wrappers) == is_in_memory

        assert not connection.execute_wrappers


class TestABackgroundWorkerInATestCase(TestCase):
    def test_it_is_refused_since_it_would_see_nothing(self) -> None:
        with pytest.raises(CeleryError, match="Use TransactionTestCase"), worker(background=True):
            pass


class TestRecording:
    """No database is allowed here: with a server for a broker, nothing gets further than the record."""

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with override_settings(CELERY_BROKER_URL="amqp://nowhere.invalid//"):
            yield

    def test_calls_are_recorded_as_they_arrive(self) -> None:
        with sent_tasks() as sent:
            result = add.apply_async(((1, 2),), {"y": b"x"}, queue="mail", priority=3, countdown=60, expires=100)

        (call,) = sent
        assert (call.task, call.args, call.kwargs, call.queue) == ("shop.add", [[1, 2]], {"y": b"x"}, "mail")
        assert (call.task_id, call.priority) == (result.task_id, 3)
        assert call.eta
        assert call.expires
        assert call.expires > call.eta
        assert call.countdown == pytest.approx(60, abs=2)
        assert str(call).endswith(f"eta={call.eta.isoformat()} (countdown=60.0), expires={call.expires.isoformat()}")

    def test_a_call_that_is_not_delayed_has_no_countdown(self) -> None:
        with sent_tasks() as sent:
            add.delay(1, 2)

        assert sent[0].countdown is None

    def test_asserting_what_was_sent(self) -> None:
        with sent_tasks() as sent:
            add.delay(1, 2)
            add.apply_async((1, (2,)))
            echo.apply_async((1,), queue="mail", countdown=60)

        sent.assert_sent(add, times=2)
        sent.assert_sent("shop.add", (1, 2))
        sent.assert_sent(add, args=[1, (2,)], kwargs={}, queue="celery")
        (call,) = sent.assert_sent(echo, queue="mail", countdown=60)
        sent.assert_sent(echo, eta=call.eta)
        sent.assert_sent(add, times=None)
        sent.assert_sent(fail, times=0)
        assert len(sent.of(add)) == 2

    @pytest.mark.parametrize(
        "wrong",
        [
            {"args": (2, 1)},
            {"args": (1, 2), "kwargs": {"z": 1}},
            {"queue": "mail"},
            {"priority": 1},
            {"times": 2},
            {"times": 0},
            {"countdown": 5},
            {"eta": datetime(2026, 1, 1, tzinfo=UTC)},
        ],
        ids=str,
    )
    def test_what_is_different_is_an_error(self, wrong: dict[str, Any]) -> None:
        with sent_tasks() as sent:
            add.delay(1, 2)

        with pytest.raises(AssertionError) as caught:
            sent.assert_sent(add, **wrong)
        assert "shop.add(1, 2) with queue='celery'" in str(caught.value)

    @pytest.mark.parametrize("countdown", [57, 63])
    def test_another_countdown_is_an_error(self, countdown: int) -> None:
        with pytest.raises(AssertionError, match=r"countdown=60\.0"), assert_sent(add, countdown=countdown):
            add.apply_async((1, 2), countdown=60)

    def test_the_message_lists_what_was_sent_instead(self) -> None:
        with sent_tasks() as sent:
            add.delay(1, y=3)
            echo.apply_async(("x",), queue="mail", priority=4)

        with pytest.raises(AssertionError) as caught:
            sent.assert_sent(add, args=(1, 2))

        assert str(caught.value) == (
            "shop.add should be sent once with args=[1, 2], and was 0 times. Sent were:\n"
            "  shop.add(1, y=3) with queue='celery'\n"
            "  tests.shop.tasks.echo('x') with queue='mail', priority=4"
        )

    def test_asserting_that_nothing_was_sent(self) -> None:
        with assert_nothing_sent():
            pass
        with pytest.raises(AssertionError, match=r"no task should be sent. Sent were:\n  shop\.add\(1, 2\)"):  # noqa: SIM117
            with assert_nothing_sent():
                add.delay(1, 2)

    def test_an_exception_of_the_block_is_not_hidden(self) -> None:
        with pytest.raises(LookupError), assert_sent(add):
            raise LookupError

    def test_blocks_inside_each_other_record_both(self) -> None:
        with sent_tasks() as outer:
            add.delay(1, 2)
            with sent_tasks() as inner:
                add.delay(3, 4)

        assert [call.args for call in outer] == [[1, 2], [3, 4]]
        assert [call.args for call in inner] == [[3, 4]]

    def test_what_is_no_task_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="is no task"):
            SentTasks().assert_sent(object())

    def test_what_cannot_be_sent_is_not_recorded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise ConnectionError

        monkeypatch.setattr(MemoryBroker, "send", refuse)
        memory = override_settings(CELERY_BROKER_URL="memory://refuses")
        with memory, assert_nothing_sent(), pytest.raises(ConnectionError):
            add.delay(1, 2)

    def test_questions_go_to_the_broker_of_the_settings(self) -> None:
        with override_settings(CELERY_BROKER_URL="memory://questions"), sent_tasks():
            broker.configured().publish([])
            asked = broker.current()

            assert asked.alias == "default"
            assert asked.depth("celery") == 0
            assert asked.discard_all("celery") == 0
            asked.publish([])
            assert asked.consumer("me", ["celery"]).fileno() == -1


class TestRecordingWhatRuns(TestCase):
    def test_what_is_sent_reaches_the_worker(self) -> None:
        with worker() as w, sent_tasks() as sent:
            sends.delay(2)
            w.run()

        sent.assert_sent(sends, times=3)
        assert attempts == [2, 1, 0]

    @run_inline()
    def test_what_is_sent_runs_inline(self) -> None:
        with assert_sent(sends, args=[0]):
            sends.delay(1)

        assert attempts == [1, 0]

    def test_what_is_rolled_back_was_sent(self) -> None:
        with assert_sent(add), transaction.atomic():
            add.delay(1, 2)
            transaction.set_rollback(True)

        assert not Message.objects.exists()


class TestSimpleTestCases(SimpleTestCase):
    def test_recording_needs_no_database_for_a_server(self) -> None:
        with override_settings(CELERY_BROKER_URL="redis://nowhere.invalid/0"), assert_sent(add):
            add.delay(1, 2)
