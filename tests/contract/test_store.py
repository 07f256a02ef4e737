"""The table of messages, as each of its dialects has to keep it."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any, TypeVar

import psycopg
import pytest
from django.db import OperationalError, connections, transaction
from psycopg import sql

from celery import message as wire
from celery.broker import database, store
from celery.broker.base import Broker
from celery.broker.database import IDLE_AFTER, PACE_SPAN, DatabaseConsumer
from celery.broker.store.base import PAGE, Store, deliveries
from celery.exceptions import LeaseLost
from celery.message import Delivery, Message
from celery.models import Message as Row
from celery.models import Worker
from celery.worker import job

T = TypeVar("T")

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ME, OTHER = "a" * 32, "b" * 32


def message(task_id: str = "", **fields: Any) -> Message:
    return Message(
        **{"task_id": task_id or str(uuid.uuid4()), "task": "shop.add", "body": b"{}", "queue": "celery"} | fields
    )


def messages(number: int) -> list[Message]:
    return [message() for _ in range(number)]


def enlist(kept: Store, owner: str, *, counter: int = 0) -> None:
    kept.enlist(owner, name=f"{owner[0]}@host", pid=1, queues=["celery"], concurrency=2, lease=30.0)
    for _ in range(counter):
        kept.renew(owner)


def in_thread(function: Callable[[], T]) -> T:
    """Run on another thread, and so on another connection."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_closing, function).result(timeout=30)


def _closing(function: Callable[[], T]) -> T:
    try:
        return function()
    finally:
        for connection in connections.all(initialized_only=True):
            connection.close()


def row_of(task_id: str, alias: str) -> Row:
    return Row.objects.using(alias).get(task_id=task_id)


@pytest.fixture
def worker(kept: Store) -> str:
    """A worker that may claim."""
    enlist(kept, ME)
    return ME


@pytest.fixture
def claimed(kept: Store, worker: str) -> Delivery:
    """A message that the worker holds."""
    kept.insert([message("held")])
    (delivery,) = kept.claim(worker, "celery", 1)
    return delivery


class TestInserting:
    def test_a_message_comes_out_as_it_went_in(self, kept: Store, worker: str) -> None:
        sent = message("x", body=bytes(range(256)), attempt=3, priority=7, headers={"traceparent": "00-é"}, crashes=2)

        kept.insert([sent])

        (got,) = kept.claim(worker, "celery", 10)
        assert (got.task_id, got.attempt, got.queue, got.rank, got.body) == ("x", 3, "celery", -7, bytes(range(256)))
        assert wire.unpack_headers(got.headers) == (wire.JSON, "utf-8", {"traceparent": "00-é"})
        assert (got.crashes, got.starts, got.suspect, got.tag, got.relayed) == (2, 0, False, None, False)

    def test_more_messages_than_fit_one_statement_all_get_rows(self, kept: Store, alias: str) -> None:
        ids = kept.insert(messages(2 * PAGE + 1))

        assert len(set(ids)) == 2 * PAGE + 1 == Row.objects.using(alias).count()

    def test_no_messages_need_no_statement(self, kept: Store) -> None:
        assert kept.insert([]) == []

    def test_a_second_message_of_the_same_attempt_is_left_out(self, kept: Store, alias: str) -> None:
        first = kept.insert([message("x", body=b"first")])

        second = kept.insert([message("x", body=b"second"), message("y")])

        assert (len(first), len(second)) == (1, 1)
        assert bytes(row_of("x", alias).body) == b"first"

    def test_the_same_attempt_twice_in_one_call_has_one_row(self, kept: Store) -> None:
        assert len(kept.insert([message("x"), message("x")])) == 1

    def test_another_attempt_of_the_same_id_has_a_row_of_its_own(self, kept: Store) -> None:
        assert len(kept.insert([message("x", attempt=1), message("x", attempt=2)])) == 2

    def test_five_megabytes_survive(self, kept: Store, worker: str) -> None:
        body = b"\0\xff" * 2_621_440

        kept.insert([message(body=body)])

        assert kept.claim(worker, "celery", 1)[0].body == body

    def test_a_reason_makes_it_a_dead_row(self, kept: Store, worker: str, alias: str) -> None:
        kept.insert([message("x", reason="it killed three children", crashes=3)])

        assert row_of("x", alias).dead_at is not None
        assert kept.claim(worker, "celery", 1) == []

    def test_hold_hides_only_what_has_no_moment_of_its_own(self, kept: Store, alias: str) -> None:
        kept.insert([message("now"), message("later", visible_at=NOW + SECOND)], hold=NOW)

        assert row_of("now", alias).visible_at == NOW
        assert row_of("later", alias).visible_at == NOW + SECOND

    def test_a_row_may_be_owned_from_its_beginning(self, kept: Store, worker: str, alias: str) -> None:
        kept.insert([message("parked")], owner=worker)

        assert row_of("parked", alias).owner == worker
        assert kept.claim(worker, "celery", 1) == []

    def test_rows_of_a_transaction_that_is_rolled_back_vanish(self, kept: Store, alias: str) -> None:
        with transaction.atomic(using=alias):
            kept.insert(messages(3))
            transaction.set_rollback(True, using=alias)

        assert not Row.objects.using(alias).exists()

    def test_rows_of_a_savepoint_that_is_rolled_back_vanish(self, kept: Store, alias: str) -> None:
        with transaction.atomic(using=alias):
            kept.insert([message("kept")])
            with transaction.atomic(using=alias):
                kept.insert([message("gone")])
                transaction.set_rollback(True, using=alias)

        assert [row.task_id for row in Row.objects.using(alias).all()] == ["kept"]

    def test_nobody_else_sees_a_row_before_its_commit(self, kept: Store, alias: str) -> None:
        with transaction.atomic(using=alias):
            kept.insert([message()])
            seen = in_thread(lambda: Row.objects.using(alias).count())

        assert seen == 0
        assert Row.objects.using(alias).count() == 1


class TestClaiming:
    def test_the_most_urgent_comes_first_and_then_the_oldest(self, kept: Store, worker: str) -> None:
        kept.insert(
            [message(name, priority=rank) for name, rank in (("c", 1), ("a", 9), ("d", 1), ("b", 9), ("e", None))]
        )

        assert [delivery.task_id for delivery in kept.claim(worker, "celery", 10)] == ["a", "b", "c", "d", "e"]

    def test_a_limit_leaves_the_rest_in_order(self, kept: Store, worker: str) -> None:
        kept.insert([message(name) for name in "abcde"])

        claims = [[delivery.task_id for delivery in kept.claim(worker, "celery", 2)] for _ in range(4)]

        assert claims == [["a", "b"], ["c", "d"], ["e"], []]

    def test_only_the_queue_asked_for_is_served(self, kept: Store, worker: str) -> None:
        kept.insert([message("mine", queue="mail"), message("not mine")])

        assert [delivery.task_id for delivery in kept.claim(worker, "mail", 10)] == ["mine"]

    def test_a_worker_without_a_row_takes_nothing(self, kept: Store, alias: str) -> None:
        kept.insert(messages(3))

        assert kept.claim(ME, "celery", 10) == []
        assert not Row.objects.using(alias).filter(owner__isnull=False).exists()

    def test_what_is_scheduled_owned_or_dead_is_not_ready(self, kept: Store, worker: str) -> None:
        enlist(kept, OTHER)
        kept.insert([message(visible_at=NOW), message(reason="bad")])
        kept.insert([message()], owner=OTHER)

        assert kept.claim(worker, "celery", 10) == []

    def test_two_claimers_never_share_a_row(self, kept: Store, worker: str) -> None:
        kept.insert(messages(400))
        enlist(kept, OTHER)
        start = threading.Barrier(4)

        def drain(owner: str) -> list[int]:
            start.wait(timeout=30)
            return [delivery.row_id for batch in iter(lambda: kept.claim(owner, "celery", 7), []) for delivery in batch]

        with ThreadPoolExecutor(4) as pool:
            drained = [pool.submit(_closing, lambda owner=owner: drain(owner)) for owner in (ME, OTHER, ME, OTHER)]
            taken = [row_id for future in drained for row_id in future.result(timeout=60)]

        assert len(taken) == len(set(taken)) == 400


class TestSettling:
    def test_finishing_deletes_what_is_ours_and_names_it(self, kept: Store, claimed: Delivery, alias: str) -> None:
        assert kept.finish(ME, [claimed.row_id, claimed.row_id + 1]) == {claimed.row_id}
        assert not Row.objects.using(alias).exists()

    def test_finishing_twice_finds_nothing(self, kept: Store, claimed: Delivery) -> None:
        kept.finish(ME, [claimed.row_id])

        assert kept.finish(ME, [claimed.row_id]) == set()

    def test_finishing_nothing_needs_no_statement(self, kept: Store) -> None:
        assert kept.finish(ME, []) == set()

    def test_releasing_makes_it_ready_and_uncounted(self, kept: Store, claimed: Delivery) -> None:
        assert kept.release(ME, [claimed.row_id]) == {claimed.row_id}

        (again,) = kept.claim(ME, "celery", 1)
        assert again == claimed

    def test_a_start_mark_is_taken_off_by_a_clean_release(self, kept: Store, claimed: Delivery) -> None:
        kept.mark_started(ME, claimed.row_id, starts=1)

        kept.release(ME, [claimed.row_id], marked=True)

        (again,) = kept.claim(ME, "celery", 1)
        assert again.starts == 0

    def test_a_start_mark_survives_the_loss_of_the_worker(self, kept: Store, claimed: Delivery) -> None:
        assert kept.mark_started(ME, claimed.row_id, starts=1)

        kept.retire(ME)

        enlist(kept, OTHER)
        (again,) = kept.claim(OTHER, "celery", 1)
        assert (again.starts, again.suspect) == (1, True)

    def test_a_start_mark_put_twice_is_one_mark(self, kept: Store, claimed: Delivery, alias: str) -> None:
        assert kept.mark_started(ME, claimed.row_id, starts=1)

        assert kept.mark_started(ME, claimed.row_id, starts=1)

        row = row_of("held", alias)
        assert (row.starts, row.suspect, row.owner) == (1, True, ME)

    def test_each_start_has_a_mark_of_its_own(self, kept: Store, claimed: Delivery, alias: str) -> None:
        kept.mark_started(ME, claimed.row_id, starts=1)
        kept.retire(ME)
        enlist(kept, OTHER)
        kept.claim(OTHER, "celery", 1)

        assert kept.mark_started(OTHER, claimed.row_id, starts=2)

        assert row_of("held", alias).starts == 2

    def test_a_clean_release_leaves_the_marks_of_earlier_starts(
        self, kept: Store, claimed: Delivery, alias: str
    ) -> None:
        kept.mark_started(ME, claimed.row_id, starts=2)

        assert kept.release(ME, [claimed.row_id], marked=True) == {claimed.row_id}
        assert kept.release(ME, [claimed.row_id], marked=True) == set()

        assert row_of("held", alias).starts == 1

    def test_a_row_that_is_gone_is_not_marked(self, kept: Store, claimed: Delivery) -> None:
        kept.finish(ME, [claimed.row_id])

        assert not kept.mark_started(ME, claimed.row_id, starts=1)

    def test_a_crash_is_counted_in_place_of_the_start_mark(self, kept: Store, claimed: Delivery) -> None:
        kept.mark_started(ME, claimed.row_id, starts=1)

        assert kept.count_crash(ME, claimed.row_id, crashes=1, marked=True)

        (again,) = kept.claim(ME, "celery", 1)
        assert (again.crashes, again.starts, again.suspect) == (1, 0, False)

    def test_a_crash_without_a_start_mark_takes_none_off(self, kept: Store, claimed: Delivery, alias: str) -> None:
        kept.mark_started(ME, claimed.row_id, starts=2)

        assert kept.count_crash(ME, claimed.row_id, crashes=1, marked=False)

        row = row_of("held", alias)
        assert (row.crashes, row.starts, row.owner) == (1, 2, None)

    def test_a_crash_counted_twice_is_one_crash(self, kept: Store, claimed: Delivery, alias: str) -> None:
        kept.mark_started(ME, claimed.row_id, starts=1)
        assert kept.count_crash(ME, claimed.row_id, crashes=1, marked=True)

        assert not kept.count_crash(ME, claimed.row_id, crashes=1, marked=True)

        row = row_of("held", alias)
        assert (row.crashes, row.starts) == (1, 0)

    def test_a_crash_counted_again_does_not_take_the_message_from_the_same_worker(
        self, kept: Store, claimed: Delivery, alias: str
    ) -> None:
        kept.count_crash(ME, claimed.row_id, crashes=1, marked=False)
        kept.claim(ME, "celery", 1)

        assert not kept.count_crash(ME, claimed.row_id, crashes=1, marked=False)

        row = row_of("held", alias)
        assert (row.crashes, row.owner) == (1, ME)

    def test_the_next_crash_is_counted_on(self, kept: Store, claimed: Delivery) -> None:
        kept.count_crash(ME, claimed.row_id, crashes=1, marked=False)
        kept.claim(ME, "celery", 1)

        assert kept.count_crash(ME, claimed.row_id, crashes=2, marked=False)

        assert kept.claim(ME, "celery", 1)[0].crashes == 2

    def test_the_row_of_an_attempt_is_known_to_who_holds_it(self, kept: Store, claimed: Delivery) -> None:
        enlist(kept, OTHER)

        assert kept.held_row(ME, "held", 1) == claimed.row_id
        assert kept.held_row(OTHER, "held", 1) == 0
        assert kept.held_row(ME, "held", 2) == 0
        assert kept.held_row(ME, "another", 1) == 0

    def test_a_row_that_was_given_back_is_held_by_nobody(self, kept: Store, claimed: Delivery) -> None:
        kept.release(ME, [claimed.row_id])

        assert kept.held_row(ME, "held", 1) == 0

    def test_a_row_that_the_relay_has_is_not_in_hand(self, kept: Store, worker: str) -> None:
        kept.insert([message("relayed")])
        kept.take_for_relay(worker, NOW, 1)

        assert kept.held_row(worker, "relayed", 1) == 0

    def test_a_buried_message_is_kept_with_its_reason(self, kept: Store, claimed: Delivery, alias: str) -> None:
        assert kept.bury(ME, claimed.row_id, crashes=3, reason="signal 11 on the third try")

        row = row_of("held", alias)
        assert (row.crashes, row.reason, row.owner) == (3, "signal 11 on the third try", None)
        assert row.dead_at is not None
        assert kept.claim(ME, "celery", 1) == []

    def test_what_is_not_in_hand_is_given_back_as_a_suspect(self, kept: Store, claimed: Delivery, alias: str) -> None:
        kept.insert([message("in hand")], owner=ME)

        assert kept.release_all_but(ME, [row_of("in hand", alias).pk]) == 1

        lost, in_hand = row_of("held", alias), row_of("in hand", alias)
        assert (lost.owner, lost.suspect, lost.crashes, lost.starts) == (None, True, 0, 0)
        assert (in_hand.owner, in_hand.suspect) == (ME, False)

    def test_with_nothing_in_hand_all_claims_are_given_back(self, kept: Store, claimed: Delivery) -> None:
        kept.insert([message("another")], owner=ME)

        assert kept.release_all_but(ME, []) == 2

    def test_what_others_and_the_own_relay_hold_is_not_given_back(self, kept: Store, worker: str, alias: str) -> None:
        enlist(kept, OTHER)
        kept.insert([message("theirs")], owner=OTHER)
        kept.insert([message("relayed")])
        kept.take_for_relay(worker, NOW, 1)

        assert kept.release_all_but(worker, []) == 0

        assert [row_of(name, alias).owner for name in ("theirs", "relayed")] == [OTHER, ME]
        assert not Row.objects.using(alias).filter(suspect=True).exists()

    @pytest.mark.parametrize(
        "change",
        [
            lambda kept, row_id: kept.finish(OTHER, [row_id]),
            lambda kept, row_id: kept.release(OTHER, [row_id]),
            lambda kept, row_id: kept.release(OTHER, [row_id], marked=True),
            lambda kept, row_id: kept.mark_started(OTHER, row_id, starts=1),
            lambda kept, row_id: kept.count_crash(OTHER, row_id, crashes=1, marked=False),
            lambda kept, row_id: kept.count_crash(OTHER, row_id, crashes=1, marked=True),
            lambda kept, row_id: kept.bury(OTHER, row_id, crashes=3, reason="mine"),
            lambda kept, row_id: kept.postpone(OTHER, [row_id], NOW),
        ],
        ids=[
            "finish",
            "release",
            "release marked",
            "mark_started",
            "count_crash",
            "count_crash marked",
            "bury",
            "postpone",
        ],
    )
    def test_what_another_worker_holds_cannot_be_changed(
        self, kept: Store, claimed: Delivery, alias: str, change: Callable[[Store, int], object]
    ) -> None:
        enlist(kept, OTHER)
        before = Row.objects.using(alias).filter(task_id="held").values().get()

        assert not change(kept, claimed.row_id)

        assert Row.objects.using(alias).filter(task_id="held").values().get() == before


class TestSchedule:
    def test_only_what_is_due_becomes_ready(self, kept: Store, worker: str) -> None:
        kept.insert([message("due", visible_at=NOW), message("later", visible_at=NOW + SECOND)])

        assert kept.promote(NOW, 100) == 1
        assert [delivery.task_id for delivery in kept.claim(worker, "celery", 10)] == ["due"]

    def test_a_slice_promotes_no_more_than_its_limit_and_the_longest_due_first(self, kept: Store, worker: str) -> None:
        kept.insert([message(str(age), visible_at=NOW - age * SECOND) for age in (1, 3, 2)])

        assert [kept.promote(NOW, 2), kept.promote(NOW, 2), kept.promote(NOW, 2)] == [2, 1, 0]

    def test_the_longest_due_is_promoted_first(self, kept: Store, worker: str) -> None:
        kept.insert([message(str(age), visible_at=NOW - age * SECOND) for age in (1, 3, 2)])

        kept.promote(NOW, 2)

        assert {delivery.task_id for delivery in kept.claim(worker, "celery", 10)} == {"3", "2"}

    def test_the_dead_stay_dead(self, kept: Store, alias: str) -> None:
        kept.insert([message("x", visible_at=NOW, reason="bad")])

        assert kept.promote(NOW, 100) == 0

    def test_the_next_due_moment_is_known(self, kept: Store) -> None:
        assert kept.next_due() is None

        kept.insert([message(visible_at=NOW + SECOND), message(visible_at=NOW), message()])

        assert kept.next_due() == NOW

    def test_the_dead_are_never_due(self, kept: Store, worker: str) -> None:
        kept.insert([message("unpublishable")])
        ((row_id, _),) = kept.take_for_relay(worker, NOW, 10)
        kept.bury(worker, row_id, crashes=0, reason="no queue for it")

        assert kept.next_due() is None

    @pytest.mark.parametrize("use_tz", [True, False])
    def test_moments_are_the_same_whatever_use_tz_says(self, kept: Store, settings: Any, use_tz: bool) -> None:
        settings.TIME_ZONE = "Europe/Berlin"
        settings.USE_TZ = use_tz

        kept.insert([message(visible_at=NOW)])

        assert kept.next_due() == NOW
        assert [kept.promote(NOW - SECOND, 1), kept.promote(NOW, 1)] == [0, 1]


class TestRelay:
    def test_it_takes_ready_and_due_rows_of_any_queue_and_nothing_else(self, kept: Store, worker: str) -> None:
        enlist(kept, OTHER)
        kept.insert([message("ready"), message("due", queue="mail", visible_at=NOW)])
        kept.insert([message("later", visible_at=NOW + SECOND), message("dead", reason="bad")])
        kept.insert([message("held")], owner=OTHER)

        taken = kept.take_for_relay(worker, NOW, 100)

        assert {relayed.task_id for _, relayed in taken} == {"ready", "due"}
        assert kept.take_for_relay(worker, NOW, 100) == []

    def test_it_takes_what_is_ready_before_what_is_due(self, kept: Store, worker: str) -> None:
        kept.insert([message("due", priority=9, visible_at=NOW - SECOND), message("dead", reason="bad")])
        kept.insert([message("ready"), message("later", visible_at=NOW + SECOND)])

        taken = [[relayed.task_id for _, relayed in kept.take_for_relay(worker, NOW, 1)] for _ in range(3)]

        assert taken == [["ready"], ["due"], []]

    def test_what_it_takes_is_what_was_sent_and_says_that_it_was_relayed(self, kept: Store, worker: str) -> None:
        sent = message("x", body=b"\0", queue="mail", priority=4, attempt=2, headers={"traceparent": "00"})
        kept.insert([sent])

        ((_, relayed),) = kept.take_for_relay(worker, NOW, 1)

        assert relayed == message(
            "x", body=b"\0", queue="mail", priority=4, attempt=2, headers={"traceparent": "00", wire.RELAYED: 1}
        )

    def test_it_keeps_another_content_type(self, kept: Store, worker: str) -> None:
        pickled = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
        kept.insert([message(**pickled)])

        ((_, relayed),) = kept.take_for_relay(worker, NOW, 1)

        assert (relayed.content_type, relayed.content_encoding) == ("application/x-python-serialize", "binary")

    def test_the_counters_travel_as_headers(self, kept: Store, claimed: Delivery) -> None:
        kept.mark_started(ME, claimed.row_id, starts=1)
        kept.count_crash(ME, claimed.row_id, crashes=1, marked=False)

        ((_, relayed),) = kept.take_for_relay(ME, NOW, 1)

        assert (relayed.headers[wire.STARTS], relayed.headers[wire.CRASHES]) == (1, 1)

    def test_a_counter_that_fell_to_zero_is_not_told_again(self, kept: Store, worker: str) -> None:
        ids = kept.insert([message(headers={wire.STARTS: 1})], owner=worker)
        kept.release(worker, ids, marked=True)

        ((_, relayed),) = kept.take_for_relay(worker, NOW, 1)

        assert not relayed.headers.get(wire.STARTS)

    def test_without_a_worker_row_the_lease_is_lost(self, kept: Store) -> None:
        kept.insert([message()])

        with pytest.raises(LeaseLost):
            kept.take_for_relay(ME, NOW, 1)

    def test_interrupted_it_lets_go_of_its_rows_alone(self, kept: Store, claimed: Delivery, alias: str) -> None:
        kept.insert([message("relayed")])
        kept.take_for_relay(ME, NOW, 10)

        assert kept.drop_relay_claims(ME) == 1

        assert row_of("relayed", alias).owner is None
        assert row_of("held", alias).owner == ME

    def test_what_is_kept_of_a_copy_that_a_relay_just_publishes_takes_its_row_over(
        self, kept: Store, worker: str, alias: str
    ) -> None:
        """The relay publishes, and deletes afterwards: the row is not the authority any more, the copy is."""
        enlist(kept, OTHER)
        kept.insert([message("relayed")])
        ((row_id, _),) = kept.take_for_relay(worker, NOW, 10)

        assert kept.insert([message("relayed", crashes=1, visible_at=NOW + SECOND)], takes_over=True) == [row_id]

        assert kept.finish(worker, [row_id]) == set()
        row = row_of("relayed", alias)
        assert (row.owner, row.visible_at, row.crashes, row.starts, row.suspect) == (None, NOW + SECOND, 1, 0, False)

    def test_a_copy_that_is_kept_in_hand_is_out_of_reach_of_the_relay(
        self, kept: Store, worker: str, alias: str
    ) -> None:
        enlist(kept, OTHER)
        kept.insert([message("relayed")])
        ((row_id, _),) = kept.take_for_relay(worker, NOW, 10)

        assert kept.insert([message("relayed")], owner=OTHER, takes_over=True) == [row_id]

        kept.drop_relay_claims(worker)
        assert kept.finish(worker, [row_id]) == set()
        assert kept.held_row(OTHER, "relayed", 1) == row_id

    def test_what_is_sent_again_while_a_relay_publishes_it_leaves_its_row_alone(self, kept: Store, worker: str) -> None:
        """Who sends holds no copy: the message arrives by the relay, and another row would have it run twice."""
        kept.insert([message("relayed")])
        ((row_id, _),) = kept.take_for_relay(worker, NOW, 10)

        assert kept.insert([message("relayed", body=b"again")]) == []

        assert kept.finish(worker, [row_id]) == {row_id}

    def test_what_a_worker_has_in_hand_is_not_taken_over(self, kept: Store, claimed: Delivery, alias: str) -> None:
        before = Row.objects.using(alias).filter(task_id="held").values().get()

        assert kept.insert([message("held", crashes=2)], owner=OTHER, takes_over=True) == []

        assert Row.objects.using(alias).filter(task_id="held").values().get() == before

    def test_what_an_interrupted_relay_let_go_of_is_taken_again(self, kept: Store, worker: str) -> None:
        enlist(kept, OTHER)
        kept.insert([message("relayed")])
        kept.take_for_relay(worker, NOW, 10)

        kept.drop_relay_claims(worker)

        assert [relayed.task_id for _, relayed in kept.take_for_relay(OTHER, NOW, 10)] == ["relayed"]

    def test_what_is_postponed_is_taken_by_nobody_before_its_moment(self, kept: Store, worker: str, alias: str) -> None:
        kept.insert([message("refused")])
        ((row_id, _),) = kept.take_for_relay(worker, NOW, 10)

        kept.postpone(worker, [row_id], NOW + SECOND)

        row = row_of("refused", alias)
        assert (row.owner, row.visible_at, row.starts, row.crashes) == (None, NOW + SECOND, 0, 0)
        assert kept.next_due() == NOW + SECOND
        assert not kept.has_relayable(NOW)
        assert kept.take_for_relay(worker, NOW, 10) == []
        assert [taken_id for taken_id, _ in kept.take_for_relay(worker, NOW + SECOND, 10)] == [row_id]

    def test_rows_locked_by_one_hook_are_passed_over_by_another(self, kept: Store, alias: str) -> None:
        if connections[alias].vendor == "sqlite":
            pytest.skip("SQLite locks the whole database, so there is nothing to pass over")
        ids = kept.insert(messages(2))

        with transaction.atomic(using=alias):
            mine = kept.lock_rows(ids)
            others = in_thread(lambda: kept.lock_rows(ids))

        assert (len(mine), others) == (2, [])

    def test_locked_rows_are_gone_once_they_are_deleted(self, kept: Store, alias: str) -> None:
        ids = kept.insert(messages(2))

        with transaction.atomic(using=alias):
            kept.delete_rows([row_id for row_id, _ in kept.lock_rows(ids[:1])])

        assert [row.pk for row in Row.objects.using(alias).all()] == ids[1:]


#: What keeps PostgreSQL from all joins but the one that runs the locking SELECT again for every row of the table.
OTHER_JOINS = ("enable_hashjoin", "enable_mergejoin", "enable_hashagg", "enable_material", "enable_sort")


@pytest.fixture
def _worst_plan(alias: str) -> Iterator[None]:
    """The plan that statistics of an unlucky moment make the planner choose."""
    if connections[alias].vendor != "postgresql":
        pytest.skip("it is PostgreSQL's")
    with connections[alias].cursor() as cursor:
        for setting in OTHER_JOINS:
            cursor.execute(f"SET {setting} = off")
        yield
        for setting in OTHER_JOINS:
            cursor.execute(f"RESET {setting}")


@pytest.mark.usefixtures("_worst_plan")
class TestALimit:
    """It holds whatever the planner does: with IN, a relay once took 5,000 rows at once, and 6 seconds for it."""

    @pytest.mark.parametrize("visible_at", [None, NOW - SECOND], ids=["ready", "due"])
    def test_the_relay_takes_no_more_rows_than_it_asked_for(
        self, kept: Store, worker: str, visible_at: datetime | None
    ) -> None:
        kept.insert([message(visible_at=visible_at) for _ in range(20)])

        assert [len(kept.take_for_relay(worker, NOW, 8)) for _ in range(4)] == [8, 8, 4, 0]

    def test_no_more_rows_become_ready(self, kept: Store) -> None:
        kept.insert([message(visible_at=NOW - SECOND) for _ in range(20)])

        assert [kept.promote(NOW, 8) for _ in range(4)] == [8, 8, 4, 0]

    def test_a_worker_claims_no_more(self, kept: Store, worker: str) -> None:
        kept.insert([message() for _ in range(20)])

        assert [len(kept.claim(worker, "celery", 8)) for _ in range(4)] == [8, 8, 4, 0]


class LeavesItToTheRelay(Broker):
    """A broker outside of the database that must not be asked while nothing is committed."""

    relays = True


class TestTransactions:
    def test_without_autocommit_what_is_written_waits_for_a_commit(self, alias: str) -> None:
        connections[alias].ensure_connection()
        assert not store.is_in_transaction(alias)

        transaction.set_autocommit(False, using=alias)
        try:
            assert store.is_in_transaction(alias)
            assert not store.has_hooks(alias)
        finally:
            transaction.set_autocommit(True, using=alias)

    def test_what_is_sent_without_autocommit_is_left_to_the_relay(self, alias: str) -> None:
        connections[alias].ensure_connection()
        transaction.set_autocommit(False, using=alias)
        try:
            told = LeavesItToTheRelay("elsewhere://").send([message("now"), message("later", visible_at=NOW)])
            assert connections[alias].run_on_commit == []
            transaction.commit(using=alias)
        finally:
            transaction.set_autocommit(True, using=alias)

        assert told is None
        assert row_of("later", alias).visible_at == NOW
        assert row_of("now", alias).visible_at is not None

    def test_what_is_sent_without_autocommit_vanishes_with_a_rollback(self, alias: str) -> None:
        connections[alias].ensure_connection()
        transaction.set_autocommit(False, using=alias)
        try:
            LeavesItToTheRelay("elsewhere://").send([message()])
            transaction.rollback(using=alias)
        finally:
            transaction.set_autocommit(True, using=alias)

        assert not Row.objects.using(alias).exists()


class TestConsumer:
    @pytest.fixture
    def consumer(self, worker: str, alias: str) -> Iterator[DatabaseConsumer]:
        made = DatabaseConsumer(alias, worker, ["celery"])
        made.connect()
        yield made
        made.close()

    def test_a_claim_whose_answer_was_lost_is_given_back_with_the_next_connection(
        self, kept: Store, consumer: DatabaseConsumer, alias: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept.insert([message("in hand")])
        (in_hand,) = consumer.take(1)
        kept.insert([message("unheard")])
        claim = kept.claim

        def claim_unheard(owner: str, queue: str, limit: int) -> list[Delivery]:
            claim(owner, queue, limit)
            raise OperationalError("the connection is lost")

        with monkeypatch.context() as away:
            away.setattr(kept, "claim", claim_unheard)
            with pytest.raises(OperationalError):
                consumer.take(1)
        assert row_of("unheard", alias).owner == ME
        consumer.close()
        consumer.connect([in_hand.row_id])

        assert (row_of("in hand", alias).owner, row_of("in hand", alias).suspect) == (ME, False)
        (again,) = consumer.take(10)
        assert (again.task_id, again.suspect) == ("unheard", True)

    def test_the_first_connection_gives_nothing_back(self, claimed: Delivery, alias: str) -> None:
        consumer = DatabaseConsumer(alias, ME, ["celery"])
        try:
            for _ in range(2):
                consumer.connect()
        finally:
            consumer.close()

        assert row_of("held", alias).owner == ME

    @pytest.fixture
    def idle(self, consumer: DatabaseConsumer, alias: str, monkeypatch: pytest.MonkeyPatch) -> DatabaseConsumer:
        """Return a consumer that has said so; each look at the clock is a while later."""
        clock = count(time.monotonic() + PACE_SPAN, PACE_SPAN)
        monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        for _ in range(IDLE_AFTER):
            consumer.take(1000)
        assert Worker.objects.using(alias).get().idle
        return consumer

    def test_a_worker_with_much_to_do_asks_nobody_to_wake_it(
        self, kept: Store, idle: DatabaseConsumer, alias: str
    ) -> None:
        """On PostgreSQL commits that wake somebody wait for each other: many producers were no faster than two."""
        kept.insert(messages(100))
        idle.take(1000)
        assert not Worker.objects.using(alias).get().idle

        for _ in range(IDLE_AFTER):
            idle.take(1000)
        assert Worker.objects.using(alias).get().idle

    def test_one_with_little_to_do_goes_on_asking(self, kept: Store, idle: DatabaseConsumer, alias: str) -> None:
        for _ in range(10):
            kept.insert([message()])
            idle.take(1000)

        assert Worker.objects.using(alias).get().idle


class TestWorkers:
    def test_a_worker_that_is_enlisted_twice_has_one_row(self, kept: Store, worker: str) -> None:
        """The answer to the first may be lost; what was proven since then stays."""
        kept.renew(worker)

        enlist(kept, worker)

        assert kept.census() == [(ME, "a@host", 1, 30.0)]

    def test_proof_of_life_moves_the_counter(self, kept: Store, worker: str) -> None:
        assert kept.renew(worker)

        assert kept.census() == [(ME, "a@host", 1, 30.0)]

    def test_a_renewal_without_a_row_says_that_the_worker_is_lost(self, kept: Store) -> None:
        assert not kept.renew(ME)

    def test_a_lost_worker_loses_its_row_and_its_messages_return_as_suspects(
        self, kept: Store, claimed: Delivery, alias: str
    ) -> None:
        assert kept.retire(ME, counter=0) == 1

        row = row_of("held", alias)
        assert (row.owner, row.suspect) == (None, True)
        assert kept.census() == []

    def test_a_worker_whose_counter_moved_is_left_alone(self, kept: Store, claimed: Delivery, alias: str) -> None:
        kept.renew(ME)

        assert kept.retire(ME, counter=0) == -1

        assert row_of("held", alias).owner == ME
        assert len(kept.census()) == 1

    def test_what_a_lost_relay_held_is_no_suspect(self, kept: Store, worker: str, alias: str) -> None:
        kept.insert([message("relayed")])
        kept.take_for_relay(worker, NOW, 1)

        kept.retire(worker)

        row = row_of("relayed", alias)
        assert (row.owner, row.suspect) == (None, False)

    def test_only_the_lost_worker_loses_its_messages(self, kept: Store, claimed: Delivery, alias: str) -> None:
        enlist(kept, OTHER)
        kept.insert([message("theirs")], owner=OTHER)

        kept.retire(ME)

        assert row_of("theirs", alias).owner == OTHER

    def test_messages_of_workers_without_a_row_are_given_back(self, kept: Store, worker: str, alias: str) -> None:
        kept.insert([message("orphan")], owner=OTHER)
        kept.insert([message("cared for")], owner=worker)

        assert kept.retire_orphans() == 1

        assert row_of("orphan", alias).owner is None
        assert row_of("cared for", alias).owner == ME

    def test_the_dead_are_given_back_to_nobody(self, kept: Store, claimed: Delivery, alias: str) -> None:
        kept.bury(ME, claimed.row_id, crashes=3, reason="bad")

        assert kept.retire(ME) == 0
        assert not row_of("held", alias).suspect

    def test_an_idle_worker_says_so(self, kept: Store, worker: str, alias: str) -> None:
        kept.set_idle(worker, idle=True)
        assert Worker.objects.using(alias).get().idle

        kept.set_idle(worker, idle=False)
        assert not Worker.objects.using(alias).get().idle


class TestNotify:
    """NOTIFY serialises commits, so it is sent only where somebody waits for it."""

    @pytest.fixture
    def kept(self, kept: Store, alias: str) -> Store:
        if connections[alias].vendor != "postgresql":
            pytest.skip("NOTIFY is PostgreSQL's")
        return kept

    @pytest.fixture
    def listener(self, kept: Store, alias: str) -> Iterator["psycopg.Connection[Any]"]:
        """Another client that hears what workers hear."""
        found = connections[alias].get_connection_params()
        place = {name: found[name] for name in ("host", "port", "user", "dbname")}
        with psycopg.connect(**place, autocommit=True) as connection:
            connection.execute("LISTEN celery")
            yield connection

    def test_nobody_is_woken_while_nobody_is_idle(
        self, kept: Store, worker: str, listener: "psycopg.Connection[Any]"
    ) -> None:
        kept.insert([message()])

        assert heard(listener) == 0

    def test_a_worker_is_not_woken_for_the_queues_of_others(
        self, kept: Store, worker: str, listener: "psycopg.Connection[Any]"
    ) -> None:
        kept.set_idle(worker, idle=True)

        kept.insert([message(queue="of others")])
        kept.insert([message(queue="celer"), message(queue="celery,mail")])

        assert heard(listener) == 0

    def test_it_is_woken_by_a_page_that_has_one_for_it(self, kept: Store, listener: "psycopg.Connection[Any]") -> None:
        kept.enlist(ME, name="a@host", pid=1, queues=["mail", "celery"], concurrency=1, lease=30.0)
        kept.set_idle(ME, idle=True)

        kept.insert([message(queue="of others"), message(queue="celery")])

        assert heard(listener) == 1

    def test_an_idle_worker_is_woken_once_a_page(
        self, kept: Store, worker: str, listener: "psycopg.Connection[Any]"
    ) -> None:
        kept.set_idle(worker, idle=True)

        kept.insert(messages(3))

        assert heard(listener) == 1

    def test_inside_a_transaction_it_is_woken_after_the_commit(
        self, kept: Store, worker: str, alias: str, listener: "psycopg.Connection[Any]"
    ) -> None:
        kept.set_idle(worker, idle=True)

        with transaction.atomic(using=alias):
            kept.insert(messages(3))
            before = heard(listener)

        assert (before, heard(listener)) == (0, 1)

    def test_a_rolled_back_transaction_wakes_nobody(
        self, kept: Store, worker: str, alias: str, listener: "psycopg.Connection[Any]"
    ) -> None:
        kept.set_idle(worker, idle=True)

        with transaction.atomic(using=alias):
            kept.insert(messages(3))
            transaction.set_rollback(True, using=alias)

        assert heard(listener) == 0

    def test_the_hints_of_a_worker_tell_of_it(self, kept: Store, worker: str) -> None:
        hints = kept.hints()
        kept.set_idle(worker, idle=True)
        assert not hints.pending()

        in_thread(lambda: kept.insert([message()]))
        kept.claim(worker, "celery", 1)  # what the socket holds is read with the next answer

        assert hints.pending()
        assert not hints.pending()


def heard(listener: "psycopg.Connection[Any]") -> int:
    """Count the notifications so far: they come in the order of commits, so a last one of our own ends them."""
    end = uuid.uuid4().hex
    listener.execute(sql.SQL("NOTIFY celery, {}").format(sql.Literal(end)))
    payloads: list[str] = []
    for notification in listener.notifies(timeout=30):
        if notification.payload == end:
            return len(payloads)
        payloads.append(notification.payload)
    pytest.fail("the end never came")


@pytest.mark.parametrize("odd", ["x", b"x", None, -1, 2**15, 1e300, 10**30])
def test_a_row_with_counters_that_are_none_can_be_handed_to_a_child(odd: Any) -> None:
    row = ("id", odd, "celery", odd, "", b"{}", 1, False, odd, odd)

    (claimed,) = deliveries([row])

    assert job.unpack(b"".join(job.pack(1, 0, claimed))).delivery == claimed
    assert (claimed.starts, claimed.crashes) == (0, 0)
