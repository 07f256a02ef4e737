"""delay() -> celeryd -> get(): what a task returns and raises arrives, and no message stops the worker."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connections, transaction

from celery import broker
from celery.exceptions import NotRegistered, TaskExpired, UndecodableMessage, UnencodableResult, WouldWaitForever
from celery.message import Message as Envelope
from celery.models import Message
from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.worker import WorkerProcess
from tests.shop import tasks
from tests.shop.models import Order

SOON = 10.0


@pytest.fixture(autouse=True)
def _unharmed(shared: WorkerProcess) -> Iterator[None]:
    """No task and no message of this file costs a process."""
    with shared.unharmed():
        yield


def test_what_a_task_returns_arrives(shared: WorkerProcess) -> None:
    # when
    results = [tasks.add.delay(2, 3), tasks.Multiply.delay(2, 3), tasks.sleep.delay(0.0)]

    # then
    assert [result.get(timeout=SOON) for result in results] == [5, 6, 0.0]
    assert results[0].status == "DONE"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "ünïcödé \U0001f680 \\ \" '",
        [1, [2.5, {"three": None}]],
        Decimal("1.10"),
        b"\x00\xff",
        datetime(2026, 11, 22, 8, 30, tzinfo=UTC),
        {"__type__": "datetime", "__value__": "not a moment"},
        "x" * 100_000,
    ],
    ids=["none", "text", "nested", "decimal", "bytes", "moment", "marked", "long"],
)
def test_a_value_arrives_as_it_was_sent(shared: WorkerProcess, value: object) -> None:
    # when
    received = tasks.echo.delay(value).get(timeout=SOON)

    # then
    assert received == value
    assert type(received) is type(value)


def test_an_argument_of_five_megabytes_arrives(shared: WorkerProcess) -> None:
    # given
    value = "0123456789" * 500_000

    # when
    received = tasks.echo.delay(value).get(timeout=20)

    # then
    assert received == value


def test_a_failure_is_raised_again_as_the_same_class(shared: WorkerProcess) -> None:
    # when
    with pytest.raises(ValueError, match=r"^no more milk$") as caught:
        tasks.fail.delay("no more milk").get(timeout=SOON)

    # then
    assert type(caught.value) is ValueError
    assert caught.value.args == ("no more milk",)


def test_the_stored_traceback_begins_in_the_task(shared: WorkerProcess) -> None:
    # when
    result = tasks.fail.delay("look here")
    eventually(result.ready, within=SOON)

    # then
    head, first_frame, *_ = shared.place.results()[result.task_id].traceback.splitlines()
    assert head == "Traceback (most recent call last):"
    assert Path("tests/shop/tasks.py").as_posix() in first_frame
    assert first_frame.endswith("in fail")


def test_an_exception_with_odd_arguments_keeps_its_class_and_text(shared: WorkerProcess) -> None:
    # when
    with pytest.raises(tasks.OddError, match=r"^out of stock \(7\)$"):
        tasks.fail_oddly.delay(7, "out of stock").get(timeout=SOON)

    # then
    with pytest.raises(ValueError, match="object object at"):
        tasks.fail_with_an_object.delay().get(timeout=SOON)


def test_an_exception_that_raises_when_it_is_looked_at_is_a_failure_too(shared: WorkerProcess) -> None:
    # when
    result = oddities.fail_with_hostility.delay()

    # then
    eventually(lambda: result.status == "FAILURE", within=SOON)
    assert tasks.add.delay(1, 1).get(timeout=SOON) == 2


def test_a_model_of_another_exception_class_is_raised(shared: WorkerProcess) -> None:
    with pytest.raises(Order.DoesNotExist):
        tasks.pay.delay(0).get(timeout=SOON)


def test_sys_exit_and_keyboard_interrupt_are_failures_of_their_task(shared: WorkerProcess) -> None:
    # when
    left, interrupted = tasks.sys_exit.delay(3), oddities.interrupt.delay()
    eventually(lambda: left.ready() and interrupted.ready(), within=SOON)

    # then
    stored = shared.place.results()
    assert '"SystemExit"' in stored[left.task_id].result
    assert '"KeyboardInterrupt"' in stored[interrupted.task_id].result


def test_a_result_that_cannot_be_encoded_is_a_failure_and_the_worker_lives(shared: WorkerProcess) -> None:
    # when
    with pytest.raises(UnencodableResult, match=r"shop\.return_set returned a set"):
        tasks.return_set.delay().get(timeout=SOON)
    with pytest.raises(UnencodableResult, match=r"shop\.return_object returned a object"):
        tasks.return_object.delay().get(timeout=SOON)

    # then
    assert tasks.add.delay(1, 1).get(timeout=SOON) == 2


@pytest.mark.parametrize("value", ["\0", "\ud800", "a\0b"], ids=["nul", "surrogate", "nul inside"])
def test_a_character_that_no_database_takes_comes_back_all_the_same(shared: WorkerProcess, value: str) -> None:
    assert tasks.echo.delay(value).get(timeout=SOON) == value


def test_an_undecodable_message_is_dead_with_its_reason_and_the_worker_lives(shared: WorkerProcess) -> None:
    # given
    before = len(shared.place.dead())
    message = Envelope(task_id="garbage", task="?", body=b"{this is no JSON", queue=shared.place.queue)

    # when
    broker.current().publish([message])

    # then
    eventually(lambda: len(shared.place.dead()) == before + 1, within=SOON)
    dead = shared.place.dead()[-1]
    assert "the message cannot be decoded" in dead.reason
    assert bytes(dead.body) == b"{this is no JSON"
    with pytest.raises(UndecodableMessage):
        tasks.add.delay(0, 0).__class__("garbage").get(timeout=SOON)
    assert tasks.add.delay(1, 1).get(timeout=SOON) == 2


def test_an_unknown_task_goes_back_for_a_while_and_is_then_dead(shared: WorkerProcess) -> None:
    # when
    result = oddities.Forgotten.delay()

    # then
    eventually(lambda: [row for row in _rows_of(shared, result.task_id) if row.visible_at], within=SOON)
    eventually(lambda: [row for row in _rows_of(shared, result.task_id) if row.dead_at], within=SOON)
    (dead,) = _rows_of(shared, result.task_id)
    assert "no task named 'oddities.forgotten'" in dead.reason
    with pytest.raises(NotRegistered):
        result.get(timeout=SOON)


def _rows_of(worker: WorkerProcess, task_id: str) -> list[Message]:
    return [row for row in worker.place.messages() if row.task_id == task_id]


def test_an_expired_task_fails_with_task_expired_and_does_not_run(shared: WorkerProcess) -> None:
    # when
    result = tasks.record.apply_async(
        (shared.place.ledger, "too late"), expires=datetime.now(UTC) - timedelta(seconds=1)
    )

    # then
    with pytest.raises(TaskExpired):
        result.get(timeout=SOON)
    assert not shared.place.was_executed("too late")


def test_a_countdown_is_not_over_before_its_time(shared: WorkerProcess) -> None:
    # given
    due = datetime.now(UTC) + timedelta(seconds=1)

    # when
    later = tasks.add.apply_async((1, 2), eta=due)
    sooner = tasks.add.delay(3, 4)

    # then
    assert sooner.get(timeout=SOON) == 7
    assert later.get(timeout=SOON) == 3
    stored = shared.place.results()
    runtime = timedelta(seconds=stored[later.task_id].runtime or 0)
    assert stored[later.task_id].date_done - runtime >= due
    assert stored[sooner.task_id].date_done < due


def test_what_a_task_leaves_open_is_rolled_back(shared: WorkerProcess) -> None:
    # when
    tasks.leave_transaction_open.delay("left open").get(timeout=SOON)
    for number in range(4):
        assert oddities.create_order.delay(f"after left open {number}").get(timeout=SOON) is False

    # then
    assert not Order.objects.filter(number="left open").exists()
    assert Order.objects.filter(number__startswith="after left open").count() == 4


def test_an_atomic_block_that_a_task_never_leaves_is_rolled_back(shared: WorkerProcess) -> None:
    # when
    for number in range(2):
        oddities.enter_atomic.delay(f"entered {number}").get(timeout=SOON)
    for number in range(6):
        assert oddities.create_order.delay(f"after entered {number}").get(timeout=SOON) is False

    # then
    assert not Order.objects.filter(number__startswith="entered").exists()
    assert Order.objects.filter(number__startswith="after entered").count() == 6


def test_a_task_may_close_its_connection(shared: WorkerProcess) -> None:
    # when
    for _ in range(4):
        oddities.close_connection.delay().get(timeout=SOON)

    # then
    assert tasks.add.delay(1, 1).get(timeout=SOON) == 2


def test_waiting_for_a_task_inside_a_task_is_refused(shared: WorkerProcess) -> None:
    with pytest.raises(WouldWaitForever, match="this is itself a task"):
        oddities.wait_for_another.delay().get(timeout=SOON)


# Transactions


def test_a_task_sent_inside_a_transaction_runs_after_its_commit(shared: WorkerProcess) -> None:
    # given
    alias, ledger = shared.place.alias, shared.place.ledger

    # when
    with transaction.atomic(using=alias):
        order = Order.objects.create(number="committed", amount=Decimal("9.90"))
        result = tasks.pay.delay(order.pk)
        many = tasks.record.delay_many((ledger, f"committed {number}") for number in range(5))
        assert not result.ready()

    # then
    assert result.get(timeout=SOON) == Decimal("9.90")
    assert [one.get(timeout=SOON) for one in many] == [f"committed {number}" for number in range(5)]
    assert all(shared.place.executions()[f"committed {number}"] == 1 for number in range(5))


def test_a_task_sent_inside_a_transaction_never_runs_after_its_rollback(shared: WorkerProcess) -> None:
    # given
    alias, ledger = shared.place.alias, shared.place.ledger

    # when
    with transaction.atomic(using=alias):
        tasks.record.delay(ledger, "rolled back")
        transaction.set_rollback(True, using=alias)
    with transaction.atomic(using=alias):
        savepoint = connections[alias].savepoint()
        assert savepoint
        tasks.record.delay(ledger, "rolled back to the savepoint")
        connections[alias].savepoint_rollback(savepoint)
        kept = tasks.record.delay(ledger, "beside the savepoint")

    # then
    assert kept.get(timeout=SOON) == "beside the savepoint"
    assert tasks.record.delay(ledger, "after the rollback").get(timeout=SOON)
    assert not shared.place.was_executed("rolled back")
    assert not shared.place.was_executed("rolled back to the savepoint")


def _send_and_fail(alias: str, ledger: str) -> None:
    with transaction.atomic(using=alias):
        tasks.record.delay(ledger, "inner")
        Order.objects.get(pk=0)


def test_a_savepoint_that_is_rolled_back_by_an_exception_takes_its_tasks_with_it(shared: WorkerProcess) -> None:
    # given
    alias, ledger = shared.place.alias, shared.place.ledger

    # when
    with transaction.atomic(using=alias):
        outer = tasks.record.delay(ledger, "outer")
        with pytest.raises(Order.DoesNotExist):
            _send_and_fail(alias, ledger)

    # then
    assert outer.get(timeout=SOON) == "outer"
    assert tasks.record.delay(ledger, "after the inner").get(timeout=SOON)
    assert not shared.place.was_executed("inner")


def test_waiting_inside_the_open_transaction_is_refused(shared: WorkerProcess) -> None:
    # when
    with transaction.atomic(using=shared.place.alias):
        result = tasks.add.delay(1, 2)
        with pytest.raises(WouldWaitForever, match="transaction that is still open"):
            result.get(timeout=SOON)

    # then
    assert result.get(timeout=SOON) == 3


# Retries


def test_a_task_that_asks_for_it_is_tried_again_until_it_succeeds(shared: WorkerProcess) -> None:
    # when
    result = tasks.record_and_retry.delay(shared.place.ledger, "three times", 2)

    # then
    assert result.get(timeout=SOON) == 3
    assert shared.place.executions()["three times"] == 3
    assert not Message.objects.filter(task_id=result.task_id).exists()


def test_between_two_attempts_the_state_is_retry_and_tells_why(shared: WorkerProcess) -> None:
    # when
    result = tasks.record_and_retry.delay(shared.place.ledger, "in between", 1, countdown=3600)

    # then
    eventually(lambda: result.status == "RETRY", within=SOON)
    assert str(result.result) == "the bank is away"
    assert not result.ready()
    (waiting,) = Message.objects.filter(task_id=result.task_id)
    assert (waiting.attempt, waiting.visible_at is not None) == (2, True)
    waiting.delete()


def test_when_no_retry_is_left_the_last_exception_is_the_failure(shared: WorkerProcess) -> None:
    # when
    result = tasks.record_and_fail.delay(shared.place.ledger, "in vain")

    # then
    with pytest.raises(ConnectionError, match="away for good"):
        result.get(timeout=SOON)
    assert (result.status, shared.place.executions()["in vain"]) == ("FAILURE", 2)
    assert shared.place.results()[result.task_id].attempt == 2
