"""What the parts of a worker promise each other on a real database."""

import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DataError, InterfaceError, OperationalError, ProgrammingError, connections, transaction

from celery import backends, signals, states
from celery.backends.base import Result
from celery.broker.store.base import Store
from celery.exceptions import MaxRetriesExceeded, RetryTask
from celery.message import Call, Delivery, Message, encode
from celery.models import Message as Row
from celery.worker import announcer, channel, child, errands, job, writer, writes
from celery.worker import connections as worker_connections
from celery.worker import steward as stewarding
from celery.worker.announcer import Announcer
from celery.worker.connections import STALE_AFTER, TaskConnections
from celery.worker.errands import MARK, RUN, SETTLE, Asked
from celery.worker.job import MOST_STARTS, Job, Outcome
from celery.worker.rescue import Answer, Rescue
from celery.worker.slots import Slots
from celery.worker.steward import Steward
from celery.worker.writer import Writer

BODY = encode(Call(task="shop.add", task_id="id", args=(1, 2)), "json")[2]
MESSAGE = Message(task_id="id", task="shop.add", body=BODY, queue="celery")


def _enlist(kept: Store, owner: str) -> str:
    kept.enlist(owner, name=owner, pid=1, queues=["celery"], concurrency=1, lease=30.0)
    return owner


def _published(message: Message) -> Delivery:
    """Return a message as it comes from a broker outside of the database."""
    return Delivery(message.task_id, message.attempt, message.queue, 0, "", message.body, 0, (1, 1), relayed=True)


def test_a_crash_is_not_lost_while_the_relay_has_not_deleted_its_row_yet(kept: Store) -> None:
    """The relay publishes, and deletes afterwards: a quick worker may have a crash to write down in between."""
    # given
    relay = _enlist(kept, "relay")
    runner = _enlist(kept, "runner")
    kept.insert([replace(MESSAGE, visible_at=datetime.now(UTC))])
    ((row_id, message),) = kept.take_for_relay(relay, datetime.now(UTC), 10)

    # when
    words = (errands.CRASHED, 1, False, "signal 9", tuple(_published(message)._replace(tag=None)))
    Rescue(kept, runner, "runner").answer([Asked(words)])
    kept.finish(relay, [row_id])

    # then
    (row,) = Row.objects.all()
    assert (row.task_id, row.crashes, row.owner) == ("id", 1, None)


def test_a_message_put_off_is_not_lost_while_the_relay_has_not_deleted_its_row_yet(kept: Store) -> None:
    """So may a task that is unknown there, which goes back for a while."""
    # given
    relay = _enlist(kept, "relay")
    kept.insert([replace(MESSAGE, visible_at=datetime.now(UTC))])
    ((row_id, message),) = kept.take_for_relay(relay, datetime.now(UTC), 10)

    # when
    kept.insert([job.as_message(_published(message), visible_at=datetime.now(UTC))], takes_over=True)
    kept.finish(relay, [row_id])

    # then
    assert Row.objects.filter(task_id="id", owner=None).count() == 1


def test_a_crash_that_is_counted_twice_is_one_crash(kept: Store) -> None:
    """The answer to an errand may be lost with its steward; the next one is asked again."""
    # given
    owner = _enlist(kept, "runner")
    kept.insert([MESSAGE])
    (delivery,) = kept.claim(owner, "celery", 1)
    rescue = Rescue(kept, owner, "runner")

    # when
    for _ in range(2):
        rescue.answer([Asked((errands.CRASHED, 1, False, "signal 9", tuple(delivery)))])

    # then
    (row,) = Row.objects.all()
    assert (row.crashes, row.owner, row.suspect) == (1, None, False)


def test_a_suspect_that_is_marked_twice_was_started_once(kept: Store) -> None:
    """So it must not come nearer to its death by that."""
    # given
    owner = _enlist(kept, "runner")
    kept.insert([MESSAGE])
    (delivery,) = kept.claim(owner, "celery", 1)
    rescue = Rescue(kept, owner, "runner")

    # when
    for kind in (errands.EXAMINE, errands.MARK, errands.EXAMINE, errands.MARK):
        rescue.answer([Asked((kind, 1, False, "", tuple(delivery)))])

    # then
    (row,) = Row.objects.all()
    assert row.starts == 1


# Errands that are asked again


def _ask(rescue: Rescue, kind: str, delivery: Delivery, *, marked: bool = False, detail: str = "") -> tuple[str, int]:
    ((number, verdict, row_id),) = rescue.answer([Asked((kind, 1, marked, detail, tuple(delivery._replace(tag=None))))])
    assert number == 1
    return verdict, row_id


@pytest.mark.parametrize("kind", [errands.EXAMINE, errands.PARK])
def test_a_message_that_is_stored_twice_for_one_errand_has_one_row(kept: Store, kind: str) -> None:
    """The second answer must name the row of the first: settled instead, the job would lose its only place."""
    # given
    rescue = Rescue(kept, _enlist(kept, "runner"), "runner")
    redelivered = _published(MESSAGE)._replace(suspect=True)

    # when
    first, second = _ask(rescue, kind, redelivered), _ask(rescue, kind, redelivered)

    # then
    (row,) = Row.objects.all()
    assert first == second == (RUN, row.pk)
    assert (row.owner, row.starts, row.crashes) == ("runner", 0, 0)


def test_a_mark_that_is_asked_for_again_gets_the_same_answer(kept: Store) -> None:
    # given
    owner = _enlist(kept, "runner")
    kept.insert([MESSAGE])
    (delivery,) = kept.claim(owner, "celery", 1)
    rescue = Rescue(kept, owner, "runner")

    # then
    assert _ask(rescue, MARK, delivery)[0] == _ask(rescue, MARK, delivery)[0] == RUN
    assert [row.starts for row in Row.objects.all()] == [1]


def test_a_release_that_is_asked_for_again_takes_off_one_mark(kept: Store) -> None:
    # given
    owner = _enlist(kept, "runner")
    kept.insert([MESSAGE])
    (delivery,) = kept.claim(owner, "celery", 1)
    kept.mark_started(owner, delivery.row_id, starts=2)
    rescue = Rescue(kept, owner, "runner")

    # when
    for _ in range(2):
        assert _ask(rescue, errands.RELEASE, delivery, marked=True)[0] == SETTLE

    # then
    (row,) = Row.objects.all()
    assert (row.starts, row.owner) == (1, None)


def test_a_crash_of_a_marked_suspect_that_is_told_twice_takes_off_one_mark(kept: Store) -> None:
    # given
    owner = _enlist(kept, "runner")
    kept.insert([MESSAGE])
    (delivery,) = kept.claim(owner, "celery", 1)
    delivery = delivery._replace(starts=1)
    rescue = Rescue(kept, owner, "runner")
    _ask(rescue, MARK, delivery)

    # when
    for _ in range(2):
        assert _ask(rescue, errands.CRASHED, delivery, marked=True, detail="signal 9")[0] == SETTLE

    # then
    (row,) = Row.objects.all()
    assert (row.starts, row.crashes, row.owner) == (1, 1, None)


def test_a_crash_of_what_was_stored_meanwhile_is_counted_in_that_row(kept: Store) -> None:
    """A job may be parked while it dies: the errand still knows it without a row."""
    # given
    rescue = Rescue(kept, _enlist(kept, "runner"), "runner")
    delivered = _published(MESSAGE)
    _ask(rescue, errands.PARK, delivered)

    # when
    for _ in range(2):
        assert _ask(rescue, errands.CRASHED, delivered, detail="signal 9")[0] == SETTLE

    # then
    (row,) = Row.objects.all()
    assert (row.crashes, row.starts, row.owner, row.suspect) == (1, 0, None, False)


@pytest.mark.parametrize("has_row", [True, False])
def test_who_waits_for_a_dead_message_is_told_even_if_that_failed_at_first(
    kept: Store, monkeypatch: pytest.MonkeyPatch, has_row: bool
) -> None:
    """A dead row without its failure would leave them waiting for ever, for nothing comes back to it."""
    # given
    owner = _enlist(kept, "runner")
    if has_row:
        kept.insert([replace(MESSAGE, crashes=2)])
        (delivery,) = kept.claim(owner, "celery", 1)
    else:
        delivery = _published(MESSAGE)._replace(crashes=2)
    rescue = Rescue(kept, owner, "runner")

    # when
    with monkeypatch.context() as away:
        away.setattr(type(backends.default()), "store", _away)
        with pytest.raises(OperationalError):
            _ask(rescue, errands.CRASHED, delivery, detail="signal 9")
    _ask(rescue, errands.CRASHED, delivery, detail="signal 9")

    # then
    (row,) = Row.objects.all()
    assert (row.crashes, row.owner) == (3, None)
    assert row.dead_at is not None
    assert backends.default().fetch(["id"])["id"].state == states.FAILURE


def _away(*_: object) -> None:
    raise OperationalError("the results are out of reach")


# Marks


def test_waiting_in_line_never_makes_a_suspect_dead(kept: Store) -> None:
    """Only a start counts: workers may be lost as often as they like while it waits for a child."""
    # given
    kept.insert([MESSAGE])

    # when
    for number in range(2 * MOST_STARTS):
        owner = _enlist(kept, f"runner {number}")
        (delivery,) = kept.claim(owner, "celery", 1)
        assert _ask(Rescue(kept, owner, "runner"), errands.EXAMINE, delivery) == (RUN, delivery.row_id)
        kept.retire(owner)

    # then
    (row,) = Row.objects.all()
    assert (row.starts, row.suspect, row.dead_at) == (0, True, None)


def test_a_suspect_that_is_lost_with_every_start_is_dead_in_the_end(kept: Store) -> None:
    # given
    kept.insert([MESSAGE])

    # when
    for number in range(MOST_STARTS):
        owner = _enlist(kept, f"runner {number}")
        (delivery,) = kept.claim(owner, "celery", 1)
        assert _ask(Rescue(kept, owner, "runner"), errands.EXAMINE, delivery)[0] == RUN
        assert _ask(Rescue(kept, owner, "runner"), MARK, delivery)[0] == RUN
        kept.retire(owner)
    owner = _enlist(kept, "the last")
    (delivery,) = kept.claim(owner, "celery", 1)
    verdict, _ = _ask(Rescue(kept, owner, "runner"), errands.EXAMINE, delivery)

    # then
    (row,) = Row.objects.all()
    assert verdict == SETTLE
    assert (row.starts, row.owner) == (MOST_STARTS, None)
    assert row.dead_at is not None


def test_a_suspect_that_others_took_over_in_line_is_neither_marked_nor_run(kept: Store) -> None:
    # given
    owner = _enlist(kept, "runner")
    kept.insert([MESSAGE])
    (delivery,) = kept.claim(owner, "celery", 1)
    kept.retire(owner)
    kept.claim(_enlist(kept, "another"), "celery", 1)

    # then
    assert _ask(Rescue(kept, owner, "runner"), MARK, delivery)[0] == SETTLE
    (row,) = Row.objects.all()
    assert (row.starts, row.owner) == (0, "another")


# The writer


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = channel.pair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def announced() -> Iterator[list[str]]:
    """The ids of tasks that were said to have finished."""
    ids: list[str] = []

    def note(task_id: str, **_: object) -> None:
        ids.append(task_id)

    signals.task_finished.connect(note)
    yield ids
    signals.task_finished.disconnect(note)


def _done(number: int, delivery: Delivery) -> Outcome:
    call = Call(task="shop.add", task_id=delivery.task_id)
    done = {"kind": states.DONE, "name": "shop.add", "result": "3", "ended_at": datetime.now(UTC)}
    return Outcome(job=Job(number, 0, delivery), call=call, **done)  # type: ignore[arg-type]


def _claim_each(kept: Store, owner: str, *task_ids: str) -> list[Delivery]:
    kept.insert([replace(MESSAGE, task_id=task_id) for task_id in task_ids])
    return kept.claim(owner, "celery", len(task_ids))


def _retried(delivery: Delivery, *, attempt: int = 1) -> Outcome:
    """Return the outcome of an attempt that asks for another."""
    call = job.call_of(delivery)
    request = RetryTask(OSError("away"), args=None, kwargs=None, when=datetime.now(UTC))
    return Outcome(
        job=Job(1, 0, delivery),
        kind=states.RETRY,
        name="shop.add",
        attempt=attempt,
        ended_at=datetime.now(UTC),
        call=call,
        following=job.next_attempt(delivery, call, request, attempt=attempt + 1),
    )


class Elsewhere(backends.base.BaseBackend):
    """Results in a place that no commit of the queue's database holds. It is away for so many stores."""

    def __init__(self) -> None:
        self.kept: dict[str, Result] = {}
        self.is_away = 0
        self.rows_at_store: list[list[tuple[int, str | None]]] = []

    def store(self, results: Sequence[Result]) -> set[str]:
        self.rows_at_store.append([(row.attempt, row.owner) for row in Row.objects.all()])
        if self.is_away:
            self.is_away -= 1
            raise OSError("away")
        won = {one.task_id: one for one in results if not self._is_closed(one)}
        self.kept |= won
        return set(won)

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        return {task_id: self.kept[task_id] for task_id in task_ids if task_id in self.kept}

    def _is_closed(self, one: Result) -> bool:
        return bool(self.closed([(one.task_id, one.attempt)]))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    made = Elsewhere()
    monkeypatch.setattr(backends, "default", lambda: made)
    return made


def test_a_retry_is_one_commit_with_the_message_of_the_next_attempt(kept: Store) -> None:
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "me"), "id")

    # when
    writes.write([_retried(delivery)], owner="me", worker="w")

    # then
    (row,) = Row.objects.all()
    assert (row.task_id, row.attempt, row.owner, row.visible_at is not None) == ("id", 2, None, True)
    assert job.call_of(_delivery_of(row)).retries == 1
    assert backends.default().get_status("id") == states.RETRY


def test_a_retry_that_lost_inserts_no_further_attempt(kept: Store) -> None:
    """A copy of an attempt that is over, on a broker that keeps no rows, must not start a second line of attempts."""
    # given
    delivery = _published(MESSAGE)
    writes.write([_retried(delivery)], owner="me", worker="w")
    Row.objects.all().delete()

    # when
    writes.write([_retried(delivery)], owner="me", worker="w")

    # then
    assert not Row.objects.exists()


def test_where_results_live_elsewhere_the_next_attempt_is_there_before_the_retry_is_told(
    kept: Store, elsewhere: Elsewhere
) -> None:
    """The other way round, whoever died in between would leave a closed attempt that nothing follows."""
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "me"), "id")

    # when
    writes.write([_retried(delivery)], owner="me", worker="w")

    # then
    assert elsewhere.rows_at_store == [[(2, None)]]


def test_where_results_live_elsewhere_an_end_is_stored_before_its_row_goes(kept: Store, elsewhere: Elsewhere) -> None:
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "me"), "id")
    elsewhere.is_away = 1

    # when
    with pytest.raises(OSError, match="away"):
        writes.write([_done(1, delivery)], owner="me", worker="w")

    # then
    assert [row.owner for row in Row.objects.all()] == ["me"]


@pytest.mark.parametrize("kind", [states.RETRY, job.UNDECODABLE])
def test_where_results_live_elsewhere_what_failed_after_the_commit_is_told_in_the_end(
    kept: Store, elsewhere: Elsewhere, kind: str
) -> None:
    """The rows are gone by then: a repetition of the whole would take them for lost, and never tell who waits."""
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "me"), "id")
    outcome = replace(_retried(delivery), kind=kind, error="why")
    elsewhere.is_away = 2

    # when
    ((_, plan),) = writes.write([outcome], owner="me", worker="w")

    # then
    assert plan.answer == job.SETTLE
    assert elsewhere.kept["id"].state == (states.RETRY if kind == states.RETRY else states.FAILURE)


def test_where_results_live_elsewhere_a_result_that_is_refused_after_the_commit_is_logged_and_not_repeated(
    kept: Store, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next attempt is on its way; to write the whole again would take its row for lost."""
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "me"), "id")

    def refuse(_: Sequence[Result]) -> set[str]:
        raise ValueError("too large")

    monkeypatch.setattr(elsewhere, "store", refuse)

    # when
    ((_, plan),) = writes.write([_retried(delivery)], owner="me", worker="w")

    # then
    assert plan.answer == job.SETTLE
    assert [row.attempt for row in Row.objects.all()] == [2]
    (record,) = caplog.records
    assert record.getMessage().startswith("The RETRY of task ")
    assert record.getMessage().endswith("[id] cannot be stored.")


def test_where_results_live_elsewhere_a_copy_of_a_closed_attempt_starts_no_second_line(
    kept: Store, elsewhere: Elsewhere
) -> None:
    # given
    delivery = _published(MESSAGE)
    for _ in range(2):
        writes.write([_retried(delivery)], owner="me", worker="w")
        Row.objects.all().delete()

    # when
    writes.write([_retried(delivery)], owner="me", worker="w")

    # then
    assert not Row.objects.exists()
    assert elsewhere.kept["id"].state == states.RETRY


def _delivery_of(row: Row) -> Delivery:
    return Delivery(row.task_id, row.attempt, row.queue, row.rank, row.headers, bytes(row.body), row.pk)


def _write(end: socket.socket, heard: socket.socket, *outcomes: Outcome) -> list[tuple[int, int]]:
    """Have a group stored, and return what the writer reports."""
    Writer(end, owner="runner", worker="runner")._store(outcomes)
    received = channel.receive(heard, wait=False)
    return job.unpack_answers(received[0]) if received else []


def test_what_is_stored_is_settled_and_announced(
    kept: Store, ends: tuple[socket.socket, socket.socket], announced: list[str]
) -> None:
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "runner"), "mine")

    # when
    answers = _write(*ends, _done(1, delivery))

    # then
    assert answers == [(1, job.SETTLE)]
    assert announced == ["mine"]
    assert backends.default().fetch(["mine"])["mine"].result == "3"
    assert not Row.objects.exists()


def test_what_others_took_over_is_lost_and_neither_stored_nor_announced(
    kept: Store, ends: tuple[socket.socket, socket.socket], announced: list[str]
) -> None:
    # given
    mine, theirs = _claim_each(kept, _enlist(kept, "runner"), "mine", "theirs")
    kept.release("runner", [theirs.row_id])
    kept.claim(_enlist(kept, "another"), "celery", 1)

    # when
    answers = _write(*ends, _done(1, theirs), _done(2, mine))

    # then
    assert answers == [(1, job.LOST), (2, job.SETTLE)]
    assert announced == ["mine"]
    assert set(backends.default().fetch(["mine", "theirs"])) == {"mine"}
    assert [(row.task_id, row.owner) for row in Row.objects.all()] == [("theirs", "another")]


def test_a_next_try_of_what_others_took_over_is_not_written(
    kept: Store, ends: tuple[socket.socket, socket.socket], announced: list[str]
) -> None:
    """They work on the same attempt; the row that is theirs must not be joined by another."""
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "runner"), "theirs")
    kept.release("runner", [delivery.row_id])
    kept.finish(_enlist(kept, "another"), [kept.claim("another", "celery", 1)[0].row_id])

    # when
    answers = _write(*ends, replace(_done(1, delivery), kind=job.UNKNOWN, error="no task"))

    # then
    assert answers == [(1, job.LOST)]
    assert not Row.objects.exists()
    assert announced == []


@pytest.mark.parametrize("headers", ["5", "[1]", "{", '{"__type__": "celery.mapping", "__value__": [[1, 2]]}'])
def test_a_row_whose_headers_are_none_is_run_by_its_body(
    kept: Store, ends: tuple[socket.socket, socket.socket], headers: str
) -> None:
    # given
    kept.insert([MESSAGE])
    Row.objects.update(headers=headers)
    (delivery,) = kept.claim(_enlist(kept, "runner"), "celery", 1)

    # when
    answers = _write(*ends, child.execute(Job(1, 0, delivery)))

    # then
    assert answers == [(1, job.SETTLE)]
    assert backends.default().fetch(["id"])["id"].state == states.DONE
    assert not Row.objects.exists()


def test_a_row_whose_headers_name_an_odd_type_is_dead(kept: Store, ends: tuple[socket.socket, socket.socket]) -> None:
    # given
    kept.insert([MESSAGE])
    Row.objects.update(headers='{"content-type": 5, "content-encoding": ["x"]}')
    (delivery,) = kept.claim(_enlist(kept, "runner"), "celery", 1)

    # when
    answers = _write(*ends, child.execute(Job(1, 0, delivery)))

    # then
    assert answers == [(1, job.SETTLE)]
    assert backends.default().fetch(["id"])["id"].state == states.FAILURE
    (row,) = Row.objects.all()
    assert (row.owner, row.dead_at is not None) == (None, True)


def test_an_error_that_is_not_the_worlds_concerns_one_row_of_its_group(
    kept: Store, ends: tuple[socket.socket, socket.socket], announced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    first, odd, last = _claim_each(kept, _enlist(kept, "runner"), "first", "odd", "last")
    rule = job.consequences

    def consequences(outcome: Outcome, *, worker: str, unknown_patience: float) -> job.Consequences:
        if outcome.job.delivery.task_id == "odd" and outcome.kind == states.DONE:
            raise RuntimeError("nobody thought of this")
        return rule(outcome, worker=worker, unknown_patience=unknown_patience)

    monkeypatch.setattr(job, "consequences", consequences)

    # when
    Writer(ends[0], owner="runner", worker="runner")._store([_done(1, first), _done(2, odd), _done(3, last)])

    # then
    results = backends.default().fetch(["first", "odd", "last"])
    assert {name: result.state for name, result in results.items()} == {
        "first": states.DONE,
        "odd": states.FAILURE,
        "last": states.DONE,
    }
    assert "nobody thought of this" in results["odd"].result
    assert announced == ["first", "odd", "last"]
    assert not Row.objects.exists()


def test_a_next_attempt_that_the_database_refuses_is_a_failure_and_nothing_follows(
    kept: Store, ends: tuple[socket.socket, socket.socket]
) -> None:
    """Kept as what follows, it would be refused again, and its job would hold its child for ever."""
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "runner"), "id")
    outcome = _retried(delivery)
    assert outcome.following
    odd = "\0" if connections[kept.alias].vendor == "postgresql" else "\ud800"
    outcome.following = replace(outcome.following, queue=odd)

    # when
    answers = _write(*ends, outcome)

    # then
    assert answers == [(1, job.SETTLE)]
    assert backends.default().get_status("id") == states.FAILURE
    assert not Row.objects.exists()


def test_an_attempt_that_is_tried_again_gets_what_was_sent_not_what_the_task_made_of_it(kept: Store) -> None:
    # given
    body = encode(Call(task="shop.add", task_id="id", args=({"token": 1},)), "json")[2]
    kept.insert([replace(MESSAGE, body=body)])
    (delivery,) = kept.claim(_enlist(kept, "me"), "celery", 1)
    call = job.call_of(delivery)
    request = RetryTask(OSError("away"), args=None, kwargs=None, when=datetime.now(UTC))

    # when
    del call.args[0]["token"]
    following = job.next_attempt(delivery, call, request, attempt=2)

    # then
    assert job.call_of(delivery._replace(body=following.body)).args == [{"token": 1}]


def test_no_attempt_is_beyond_what_its_column_can_count(kept: Store) -> None:
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "me"), "id")
    request = RetryTask(OSError("away"), args=None, kwargs=None, when=datetime.now(UTC))

    # when
    with pytest.raises(MaxRetriesExceeded, match="no more can be counted"):
        job.next_attempt(delivery, job.call_of(delivery), request, attempt=2**31)


def test_what_cannot_even_be_stored_as_a_failure_stays_with_the_worker_and_is_logged(
    kept: Store,
    ends: tuple[socket.socket, socket.socket],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given
    (delivery,) = _claim_each(kept, _enlist(kept, "runner"), "odd")

    def consequences(*_: object, **__: object) -> job.Consequences:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(job, "consequences", consequences)

    # when
    answers = _write(*ends, _done(1, delivery))

    # then
    assert answers == []
    assert "Job odd can neither be stored nor settled; it is tried again every 30 s." in caplog.text
    assert [row.owner for row in Row.objects.all()] == ["runner"]


def test_a_group_is_bounded_in_characters_and_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.setattr(writer, "LARGEST_TEXT", 10)
    monkeypatch.setattr(writer, "LARGEST_GROUP", 3)
    small, large = (replace(_done(1, _published(MESSAGE)), result="x" * length) for length in (4, 11))

    # then
    assert writer._group_size([]) == 0
    assert writer._group_size([small] * 2) == 2
    assert writer._group_size([small] * 3) == 2
    assert writer._group_size([replace(small, traceback="x" * 4), small]) == 1
    assert writer._group_size([large, small]) == 1
    assert writer._group_size([small, large]) == 1
    assert writer._group_size([replace(small, result="")] * 9) == 3


# The child


def test_a_result_that_is_too_long_is_a_failure_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.setattr(child, "LARGEST_RESULT", 2)
    body = encode(Call(task="shop.add", task_id="id", args=(500, 500)), "json")[2]

    # when
    outcome = child.execute(Job(1, 0, _published(replace(MESSAGE, body=body))))

    # then
    assert outcome.kind == states.FAILURE
    assert outcome.error.startswith("UnencodableResult: shop.add returned 4 characters; store the data")


# The connections of a worker's processes


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Databases:
    """What `prepare` sees of Django's connections."""

    def __init__(self, **settings: dict[str, Any]) -> None:
        self.settings = settings

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings)

    def __getitem__(self, alias: str) -> SimpleNamespace:
        return SimpleNamespace(vendor=alias)

    def all(self, *, initialized_only: bool) -> Sequence[object]:
        assert initialized_only
        return []


def test_databases_are_set_up_for_processes_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    pooled = {"CONN_MAX_AGE": 0, "AUTOCOMMIT": False, "OPTIONS": {"pool": True, "sslmode": "require"}}
    bare = {"CONN_MAX_AGE": 60, "AUTOCOMMIT": True}
    monkeypatch.setattr(worker_connections, "connections", Databases(pooled=pooled, bare=bare))

    # when
    worker_connections.prepare()

    # then
    assert pooled == {"CONN_MAX_AGE": None, "AUTOCOMMIT": True, "OPTIONS": {"sslmode": "require"}}
    assert bare == {"CONN_MAX_AGE": 60, "AUTOCOMMIT": True}


def test_connections_to_postgresql_end_when_the_other_machine_has_vanished(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    postgresql: dict[str, Any] = {"CONN_MAX_AGE": 60, "OPTIONS": {"keepalives_idle": 300}}
    monkeypatch.setattr(worker_connections, "connections", Databases(postgresql=postgresql))

    # when
    worker_connections.prepare()

    # then
    assert postgresql["OPTIONS"] == {**worker_connections.SIGNS_OF_LIFE, "keepalives_idle": 300}


def test_a_kept_connection_is_tried_after_a_rest_only(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    clock = Clock()
    monkeypatch.setattr(worker_connections, "time", clock)
    connections[alias].close()
    connection = connections[alias]
    connection.ensure_connection()
    tried: list[float] = []

    def is_usable() -> bool:
        tried.append(clock.now)
        return True

    monkeypatch.setattr(connection, "is_usable", is_usable)
    kept_open = TaskConnections()

    # when
    for pause in (0, STALE_AFTER, STALE_AFTER + 1, 0):
        clock.now += pause
        kept_open.before_task()
        for _ in range(2):
            Row.objects.exists()
        kept_open.after_task()

    # then
    assert tried == [1000.0 + 2 * STALE_AFTER + 1]
    connection.close()


@pytest.mark.parametrize("leave_open", ["atomic", "failed atomic", "autocommit off"])
def test_a_transaction_that_a_task_left_open_is_rolled_back(kept: Store, alias: str, leave_open: str) -> None:
    # given
    kept_open = TaskConnections()
    kept_open.before_task()
    if leave_open == "autocommit off":
        transaction.set_autocommit(False, using=alias)
    else:
        transaction.atomic(using=alias).__enter__()
    kept.insert([MESSAGE])
    if leave_open == "failed atomic":
        transaction.set_rollback(True, using=alias)

    # when
    kept_open.after_task()

    # then
    assert not connections[alias].in_atomic_block
    assert not Row.objects.exists()
    kept.insert([MESSAGE])
    connections[alias].close()
    assert Row.objects.count() == 1


def test_a_connection_that_broke_in_a_task_is_replaced_before_the_next(alias: str) -> None:
    # given
    connection = connections[alias]
    connection.close()  # one that is kept might be tried, and replaced, before it is used
    connection.ensure_connection()
    connection.close_at = None  # as in a worker; else it would be replaced for its age
    before = connection.connection
    kept_open = TaskConnections()

    # when
    (before._force_close if connection.vendor == "mysql" else before.close)()
    with pytest.raises((OperationalError, InterfaceError, ProgrammingError)):
        Row.objects.using(alias).exists()
    kept_open.after_task()

    # then
    assert not Row.objects.using(alias).exists()
    assert connection.connection is not before
    connection.close()


# The steward


class Picky(Rescue):
    """Refuses whole batches for the sake of one errand."""

    def __init__(self, refused: int, error: Exception | None = None) -> None:
        self._refused = refused
        self._error = error or DataError("this row cannot be")

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        if self._refused in {one.number for one in asked}:
            raise self._error
        return [(one.number, RUN, 0) for one in asked]


@pytest.fixture
def steward() -> Steward:
    """One that has not begun."""
    made = Steward.__new__(Steward)
    made._asked, made._refused, made._errands, made._ask_refused_at = [], [], None, 0.0
    made._slots = Slots(1)
    return made


@pytest.mark.parametrize("error", [DataError("this row cannot be"), RecursionError(), KeyError("a fault of ours")])
def test_an_errand_that_is_refused_does_not_keep_the_others_from_their_answers(
    steward: Steward, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    # given
    batch = [Asked((errands.EXAMINE, number, False, "", tuple(_published(MESSAGE)))) for number in (1, 2, 3)]

    # when
    answers = steward._answers(Picky(2, error), batch)

    # then
    assert answers == [(1, RUN, 0), (3, RUN, 0)]
    assert [record.getMessage() for record in caplog.records] == ["The errand 'examine' for job id is refused."]


def test_an_errand_that_was_refused_is_tried_again_after_a_while(
    steward: Steward, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    clock = SimpleNamespace(monotonic=lambda: 1000.0)
    monkeypatch.setattr(stewarding, "time", clock)
    refused = Asked((errands.EXAMINE, 2, False, "", tuple(_published(MESSAGE))))
    steward._asked = [refused]
    steward._run_errands(Picky(2))

    # when
    clock.monotonic = lambda: 1000.0 + stewarding.REFUSED_PAUSE - 1
    steward._run_errands(Picky(2))

    # then
    assert steward._refused == [refused]
    assert len(caplog.records) == 1

    # when
    clock.monotonic = lambda: 1000.0 + stewarding.REFUSED_PAUSE
    steward._run_errands(Picky(0))

    # then
    assert steward._refused == []
    assert steward._asked == []


def test_trouble_of_the_world_is_not_the_fault_of_an_errand(steward: Steward, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    batch = [Asked((errands.EXAMINE, 1, False, "", tuple(_published(MESSAGE))))]
    rescue = Picky(1)
    monkeypatch.setattr(rescue, "answer", _away)

    # then
    with pytest.raises(OperationalError):
        steward._answers(rescue, batch)


def test_a_slow_listener_does_not_hold_up_who_tells_of_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.setattr(announcer, "ANNOUNCE_TIMEOUT", 0.01)
    began, may_end = threading.Event(), threading.Event()
    heard: list[int] = []

    def listen(pid: int, **_: object) -> None:
        began.set()
        may_end.wait(timeout=30)
        heard.append(pid)

    signals.process_died.connect(listen)
    made = Announcer()
    made.start()
    try:
        # when
        for pid in (1, 2):
            made.put("process_died", {"role": "child", "pid": pid, "cause": "signal 9"})
        assert began.wait(timeout=30)
        made.stop()

        # then
        assert heard == []
        may_end.set()
        made.join(timeout=30)
        assert heard == [1, 2]
    finally:
        may_end.set()
        signals.process_died.disconnect(listen)
