"""What the parts of a worker promise each other on a real database."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import OperationalError

from celery import backends, signals, states
from celery.broker.store.base import Store
from celery.message import Call, Delivery, Message, encode
from celery.models import Message as Row
from celery.worker import channel, errands, job
from celery.worker.errands import MARK, RUN, SETTLE, Asked
from celery.worker.job import Job, Outcome
from celery.worker.rescue import MOST_STARTS, Rescue
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
    kept.insert([job.as_message(_published(message), visible_at=datetime.now(UTC))])
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
