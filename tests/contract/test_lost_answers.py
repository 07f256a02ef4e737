"""Answers of the database that never come, statements that it carries out late, and tasks that kill whatever runs them.

What was asked may have been done or not: whoever asks again must neither lose a task by it, nor have it run twice.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from unittest.mock import Mock

import psycopg
import pytest
from django.db import OperationalError, connections

from celery import backends, conf, signals, states
from celery import message as wire
from celery.backends.base import Result
from celery.broker import store
from celery.broker.database import DatabaseConsumer
from celery.broker.store.base import Store
from celery.broker.store.sqlite import SqliteStore
from celery.exceptions import RetryTask
from celery.message import Call, Delivery, Message, encode
from celery.models import Message as Row
from celery.models import TaskMeta
from celery.worker import channel, chore, errands, job, writes
from celery.worker.crew import Held
from celery.worker.errands import RUN, SETTLE, Asked
from celery.worker.job import MOST_STARTS, Job, Outcome
from celery.worker.rescue import Rescue
from celery.worker.writer import Writer
from celery.worker.writes import Planned

BODY = encode(Call(task="shop.add", task_id="id", args=(1, 2)), "json")[2]
MESSAGE = Message(task_id="id", task="shop.add", body=BODY, queue="celery")
OTHER = "other"
ME = "me"


def _enlist(kept: Store, owner: str = ME) -> str:
    kept.enlist(owner, name=owner, pid=1, queues=["celery"], concurrency=1, lease=30.0)
    return owner


@pytest.fixture
def delivery(kept: Store) -> Delivery:
    """A message that we hold."""
    kept.insert([MESSAGE])
    (claimed,) = kept.claim(_enlist(kept), "celery", 1)
    return claimed


def _outcome(delivery: Delivery, kind: str) -> Outcome:
    call = job.call_of(delivery)
    outcome = Outcome(job=Job(1, 0, delivery), kind=kind, name="shop.add", call=call, ended_at=datetime.now(UTC))
    if kind == states.RETRY:
        request = RetryTask(OSError("away"), args=None, kwargs=None, when=datetime.now(UTC))
        outcome.following = job.next_attempt(delivery, call, request, attempt=2)
    return outcome


# The commit of a group


@pytest.fixture
def _unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first commit of a group is carried out, and its answer is lost."""
    real, tries = writes.write, iter((True,))

    def write(group: Sequence[Outcome], *, owner: str, worker: str, again: bool) -> Planned:
        planned = real(group, owner=owner, worker=worker, again=again)
        if next(tries, False):
            raise OperationalError("server closed the connection unexpectedly")
        return planned

    monkeypatch.setattr(writes, "write", write)
    monkeypatch.setattr(chore, "FIRST_PAUSE", 0.0)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What listeners were told."""
    told: list[str] = []

    def note(signal: object, **_: object) -> None:
        told.append(states.DONE if signal is signals.task_finished else states.RETRY)

    for signal in (signals.task_finished, signals.task_retried):
        signal.connect(note)
    yield told
    for signal in (signals.task_finished, signals.task_retried):
        signal.disconnect(note)


def _answers(*outcomes: Outcome) -> list[tuple[int, int]]:
    ours, theirs = channel.pair()
    with ours, theirs:
        Writer(ours, owner=ME, worker=ME)._store(outcomes)
        received = channel.receive(theirs, wait=False)
        return job.unpack_answers(received[0]) if received else []


@pytest.mark.usefixtures("_unanswered")
@pytest.mark.parametrize("kind", [states.DONE, states.RETRY])
def test_what_was_stored_without_an_answer_is_settled_and_announced_once(
    kept: Store, delivery: Delivery, heard: list[str], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    # when
    answers = _answers(_outcome(delivery, kind))

    # then
    assert answers == [(1, job.SETTLE)]
    assert heard == [kind]
    assert TaskMeta.objects.get().status == kind
    assert "discarded" not in caplog.text


@pytest.mark.usefixtures("_unanswered")
def test_a_next_attempt_that_was_sent_without_an_answer_and_is_over_by_now_is_not_sent_again(
    kept: Store, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr("celery.worker.chore.time.sleep", lambda _: Row.objects.all().delete())

    # when
    _answers(_outcome(delivery, job.UNKNOWN))

    # then
    assert not Row.objects.exists()


@pytest.mark.usefixtures("_unanswered")
def test_what_was_taken_over_before_the_second_try_is_lost(
    kept: Store, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr("celery.worker.chore.time.sleep", lambda _: kept.retire(ME))

    # then
    assert _answers(_outcome(delivery, states.DONE)) == [(1, job.LOST)]


@pytest.mark.mariadb
def test_rows_that_come_and_go_too_quickly_are_trouble_of_the_world_and_no_fault_of_a_result(
    mariadb_alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer waits, and tries again; else what has succeeded would be stored as a failure."""
    # given
    kept = store.of(mariadb_alias)
    monkeypatch.setattr(kept, "_insert_new", lambda *_: None)

    # then
    with pytest.raises(OperationalError, match="appear and vanish"):
        kept.insert([MESSAGE])


# Results in another place than messages


class Elsewhere(backends.base.BaseBackend):
    """Results in a place that no commit of the queue's database holds."""

    def __init__(self) -> None:
        self.kept: dict[str, Result] = {}

    def store(self, results: Sequence[Result]) -> set[str]:
        won = {result.task_id: result for result in results if result.task_id not in self.kept}
        self.kept |= won
        return set(won)

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        return {task_id: self.kept[task_id] for task_id in task_ids if task_id in self.kept}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    made = Elsewhere()
    monkeypatch.setattr(backends, "default", lambda: made)
    return made


def test_who_has_lost_a_message_closes_no_attempt_in_another_place_either(
    kept: Store, delivery: Delivery, elsewhere: Elsewhere
) -> None:
    """The new owner's own result would be refused, and what it wants tried again would not be."""
    # given
    kept.retire(ME)

    # when
    ((_, plan),) = writes.write([_outcome(delivery, states.DONE)], owner=ME, worker=ME)

    # then
    assert plan.answer == job.LOST
    assert elsewhere.kept == {}


@pytest.mark.usefixtures("_unanswered")
@pytest.mark.parametrize("kind", [states.DONE, states.RETRY, job.UNDECODABLE])
def test_what_was_stored_without_an_answer_is_told_in_another_place_too(
    kept: Store, delivery: Delivery, elsewhere: Elsewhere, kind: str
) -> None:
    """The death of a message above all: who waits for its result would wait for ever."""
    # when
    answers = _answers(_outcome(delivery, kind))

    # then
    assert answers == [(1, job.SETTLE)]
    assert elsewhere.kept["id"].state == (states.FAILURE if kind == job.UNDECODABLE else kind)


# Errands


def _ask(rescue: Rescue, kind: str, held: Held, detail: str = "") -> str:
    words = (kind, held.number, held.marked, detail, tuple(held.delivery))
    ((_, verdict, _),) = rescue.answer([Asked(words)])
    return verdict


def test_an_at_most_once_job_whose_mark_was_not_answered_is_marked_once_more_and_runs(
    kept: Store, delivery: Delivery
) -> None:
    # given
    held = Held(1, delivery, 0.0)
    assert _ask(Rescue(kept, ME, ME), errands.START_ONCE, held) == RUN

    # then
    assert _ask(Rescue(kept, ME, ME), errands.START_ONCE, held) == RUN


@pytest.mark.parametrize("has_ended", [False, True])
def test_an_at_most_once_job_that_others_took_over_does_not_run_here(
    kept: Store, delivery: Delivery, has_ended: bool
) -> None:
    # given
    kept.retire(ME)
    if has_ended:
        Row.objects.all().delete()

    # then
    assert _ask(Rescue(kept, ME, ME), errands.START_ONCE, Held(1, delivery, 0.0)) == SETTLE


def test_an_at_most_once_job_that_was_given_back_unstarted_runs_elsewhere(kept: Store, delivery: Delivery) -> None:
    # given
    held = Held(1, delivery, 0.0)
    assert _ask(Rescue(kept, ME, ME), errands.START_ONCE, held) == RUN
    kept.enlist(OTHER, name=OTHER, pid=1, queues=["celery"], concurrency=1, lease=30)

    # when
    for _ in range(2):
        _ask(Rescue(kept, ME, ME), errands.RELEASE, held, errands.UNSTARTED)
    (found,) = kept.claim(OTHER, "celery", 1)

    # then
    assert found.starts == delivery.starts
    other = Held(2, found, 0.0)
    assert _ask(Rescue(kept, OTHER, OTHER), errands.EXAMINE, other) == RUN
    assert _ask(Rescue(kept, OTHER, OTHER), errands.START_ONCE, other) == RUN


def test_of_two_copies_of_an_at_most_once_message_of_a_broker_one_runs(kept: Store, delivery: Delivery) -> None:
    """Whoever comes second finds the row, then the result; and a worker that is lost leaves a row that is dead."""
    # given
    Row.objects.all().delete()
    copy = delivery._replace(row_id=0, tag=(1, 1))
    mine, other = Held(1, copy._replace(tag=None), 0.0), Held(2, copy._replace(tag=None), 0.0)
    assert _ask(Rescue(kept, ME, ME), errands.START_ONCE, mine) == RUN
    kept.enlist(OTHER, name=OTHER, pid=1, queues=["celery"], concurrency=1, lease=30)

    # then
    assert _ask(Rescue(kept, OTHER, OTHER), errands.START_ONCE, other) == SETTLE

    # when
    kept.retire(ME)
    (found,) = kept.claim(OTHER, "celery", 1)

    # then
    assert _ask(Rescue(kept, OTHER, OTHER), errands.EXAMINE, Held(3, found, 0.0)) == SETTLE
    assert Row.objects.get().dead_at
    assert _ask(Rescue(kept, OTHER, OTHER), errands.START_ONCE, other) == SETTLE


# Claims, and statements that are carried out late


def test_a_claim_is_given_back_by_its_id_so_that_a_late_statement_hits_nothing_newer(
    kept: Store, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may carry it out when its client is long gone, has asked again, and has claimed more."""
    # given
    real = kept._own

    def late(change: str, owner: str, ids: Sequence[int]) -> set[int]:
        kept.insert([replace(MESSAGE, task_id="newer")])
        kept.claim(ME, "celery", 1)
        return real(change, owner, ids)

    monkeypatch.setattr(kept, "_own", late)

    # when
    released = kept.release_all_but(ME, [])

    # then
    assert released == 1
    assert {row.task_id: row.owner for row in Row.objects.all()} == {"id": None, "newer": ME}


def _conflict() -> Exception:
    """Return what a claim raises that another transaction came before, on PostgreSQL as on MariaDB."""
    error = OperationalError(1213, "Deadlock found when trying to get lock")
    error.__cause__ = psycopg.errors.SerializationFailure()
    return error


@pytest.mark.parametrize("is_conflict", [True, False])
def test_a_claim_that_another_transaction_came_before_is_no_reason_to_connect_anew(
    kept: Store, monkeypatch: pytest.MonkeyPatch, is_conflict: bool
) -> None:
    # given
    consumer = DatabaseConsumer(kept.alias, _enlist(kept), ["celery"])
    error = _conflict() if is_conflict else OperationalError("server closed the connection unexpectedly")
    monkeypatch.setattr(kept, "claim", Mock(side_effect=error))

    # then
    if is_conflict and not isinstance(kept, SqliteStore):
        assert consumer.take(1) == []
    else:
        with pytest.raises(OperationalError):
            consumer.take(1)


def test_who_holds_nothing_unknown_writes_nothing(
    kept: Store, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(kept, "run", _refuse)

    # then
    assert kept.release_all_but(ME, [delivery.row_id]) == 0
    assert kept.retire_orphans() == 0


def test_a_worker_whose_sqlite_file_was_replaced_finds_its_row_gone(sqlite_alias: str, tmp_path: Path) -> None:
    """It would go on for ever with a file that nobody else sees, while tasks wait in the new one."""
    # given
    kept = store.of(sqlite_alias)
    path = Path(connections[sqlite_alias].settings_dict["NAME"])
    shutil.copy(path, tmp_path / "new")
    _enlist(kept)
    assert kept.renew(ME)

    # when
    (tmp_path / "new").replace(path)

    # then
    assert not kept.renew(ME)
    assert kept.census() == []


def _refuse(*_: object) -> int:
    raise AssertionError("there was nothing to write")


@pytest.mark.parametrize("relayed", [True, False])
def test_a_row_that_is_being_relayed_is_taken_over_by_the_relays_own_copy_alone(kept: Store, relayed: bool) -> None:
    """The original of RabbitMQ, handed out again beside it, is one copy too many: the row's is on its way."""
    # given
    relay, owner = _enlist(kept, "relay"), _enlist(kept)
    kept.insert([replace(MESSAGE, visible_at=datetime.now(UTC))])
    kept.take_for_relay(relay, datetime.now(UTC), 1)
    copy = Delivery("id", 1, "celery", 0, "", BODY, suspect=True, relayed=relayed)

    # when
    verdict = _ask(Rescue(kept, owner, owner), errands.EXAMINE, Held(1, copy, 0.0))

    # then
    assert verdict == (RUN if relayed else SETTLE)
    assert [row.owner for row in Row.objects.all()] == [owner if relayed else relay]


# A task that kills whatever runs it

COUNTED, COUNTED_TWICE, UNSEEN, ALL_LOST, ALL_LOST_AFTER = range(5)


def _starts_until_dead(kept: Store, fault: Callable[[], int]) -> int:
    """Have workers work a task that kills its process at every start, and return how often it started.

    `fault` says what else happens: its death is counted, or only after a steward has died over it; nobody sees that it
    was this task (its result was being written); or its whole worker dies, before its death is counted or after.
    """
    starts = lives = 0
    owner = _enlist(kept, f"owner {lives}")
    while found := kept.claim(owner, "celery", 1):
        held, rescue = Held(1, found[0], 0.0), Rescue(kept, owner, owner)
        happens = UNSEEN
        while happens == UNSEEN:
            if held.delivery.suspect:
                if _ask(rescue, errands.EXAMINE, held) == SETTLE:
                    break
                held.marked = _ask(rescue, errands.MARK, held) == RUN
            starts += 1
            assert starts < 50
            happens = fault()
            if happens == UNSEEN:
                held.leave_mark()
            for _ in range({COUNTED: 1, COUNTED_TWICE: 2, ALL_LOST_AFTER: 1}.get(happens, 0)):
                _ask(rescue, errands.CRASHED, held, "signal 9")
        if happens in {ALL_LOST, ALL_LOST_AFTER}:
            kept.retire(owner)
            lives += 1
            owner = _enlist(kept, f"owner {lives}")
    return starts


@pytest.mark.parametrize("seed", range(12))
def test_a_task_that_kills_its_process_at_every_start_is_dead_in_the_end_whatever_else_dies(
    kept: Store, seed: int
) -> None:
    """Of two starts in a row one leaves a crash or a mark: three of either, and it is over."""
    # given
    kept.insert([MESSAGE])
    chance = Random(seed)
    always = [COUNTED, COUNTED_TWICE, UNSEEN, ALL_LOST, ALL_LOST_AFTER]

    # when
    starts = _starts_until_dead(kept, lambda: always[seed] if seed < len(always) else chance.choice(always))

    # then
    assert 3 <= starts <= 2 * (conf.CRASH_LIMIT + MOST_STARTS)
    (row,) = Row.objects.all()
    assert row.dead_at is not None
    assert TaskMeta.objects.get().status == states.FAILURE


@pytest.mark.parametrize("starts", [0, 2])
def test_a_copy_never_takes_marks_off_a_row_that_a_relay_is_publishing(kept: Store, starts: int) -> None:
    # given
    kept.enlist(ME, name=ME, pid=1, queues=["celery"], concurrency=1, lease=30)
    kept.insert([replace(MESSAGE, task_id="marked", headers={wire.STARTS: 1})])
    kept.take_for_relay(ME, datetime.now(UTC), 10)

    # when
    taken = kept.insert([replace(MESSAGE, task_id="marked", headers={wire.STARTS: starts})], owner=ME, takes_over=True)

    # then
    assert bool(taken) is (starts >= 1)
    assert Row.objects.get(task_id="marked").starts == max(starts, 1)
