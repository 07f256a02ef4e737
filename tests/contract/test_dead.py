"""Dead messages, on each database."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from celery import dead, waiting
from celery import message as wire
from celery.broker.store.base import Store
from celery.message import Message
from celery.models import Message as Row

ME = "a" * 32


@pytest.fixture(autouse=True)
def _queue_in_turn(alias: str, settings: Settings) -> None:
    settings.CELERY_BROKER_URL = f"django://{alias}"


def bury(kept: Store, *task_ids: str, **fields: Any) -> None:
    for task_id in task_ids:
        dead_one: dict[str, Any] = {"task": "shop.pay", "body": b"{}", "queue": "celery", "crashes": 3, "reason": "bad"}
        kept.insert([Message(**dead_one | {"task_id": task_id} | fields)])


def row(task_id: str, alias: str) -> Row:
    return Row.objects.using(alias).get(task_id=task_id)


def ids(rows: Sequence[Row]) -> list[str]:
    return [row.task_id for row in rows]


class TestLookingAtThem:
    def test_only_the_dead_are_shown_and_the_longest_dead_first(self, kept: Store) -> None:
        bury(kept, "b")
        bury(kept, "a")
        kept.insert([Message(task_id="alive", task="shop.pay", body=b"", queue="celery")])

        assert ids(list(dead.messages())) == ["b", "a"]


class TestRequeueing:
    def test_it_becomes_a_ready_message_with_nothing_held_against_it(self, kept: Store, alias: str) -> None:
        bury(kept, "x", attempt=2, headers={wire.STARTS: 3})
        Row.objects.using(alias).update(suspect=True, visible_at="2026-01-01T00:00Z", owner="b" * 32)

        assert dead.requeue(dead.messages()) == 1

        got = row("x", alias)
        assert (got.attempt, got.dead_at, got.reason, got.crashes, got.starts) == (3, None, "", 0, 0)
        assert (got.suspect, got.owner, got.visible_at) == (False, None, None)

    def test_a_worker_takes_it_as_it_was_sent(self, kept: Store) -> None:
        bury(kept, "x", body=b"\0\xff", priority=4, headers={"traceparent": "00"})
        dead.requeue(dead.messages())

        kept.enlist(ME, name="w", pid=1, queues=["celery"], concurrency=1, lease=30)
        (delivery,) = kept.claim(ME, "celery", 10)
        assert (delivery.task_id, delivery.attempt, delivery.body, delivery.rank) == ("x", 2, b"\0\xff", -4)
        assert wire.unpack_headers(delivery.headers)[2] == {"traceparent": "00"}

    @pytest.mark.parametrize("name", [wire.ATTEMPT, wire.CRASHES, wire.STARTS, wire.RELAYED, wire.UNKNOWN_FOR])
    def test_headers_of_its_history_are_forgotten(self, kept: Store, alias: str, name: str) -> None:
        bury(kept, "x", headers={name: 3, "kept": 1})

        dead.requeue(dead.messages())

        assert wire.unpack_headers(row("x", alias).headers)[2] == {"kept": 1}

    def test_headers_of_its_content_are_kept(self, kept: Store, alias: str) -> None:
        bury(kept, "x", content_type="application/x-yaml", content_encoding="utf-8", headers={wire.CRASHES: 3})

        dead.requeue(dead.messages())

        assert wire.unpack_headers(row("x", alias).headers) == ("application/x-yaml", "utf-8", {})

    def test_one_that_a_later_attempt_has_overtaken_stays_dead(self, kept: Store, alias: str) -> None:
        bury(kept, "x", attempt=1)
        bury(kept, "x", attempt=2)

        assert dead.requeue(dead.messages()) == 1

        rows = Row.objects.using(alias).order_by("attempt")
        assert [(row.attempt, row.dead_at is None) for row in rows] == [(1, False), (3, True)]

    def test_only_the_chosen_are_requeued(self, kept: Store, alias: str) -> None:
        bury(kept, "x", "y")

        dead.requeue(dead.messages().filter(task_id="x"))

        assert ids(list(dead.messages())) == ["y"]

    def test_more_than_a_page_are_requeued_page_by_page(self, kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(waiting, "PAGE", 3)
        sizes: list[int] = []
        requeue_page = dead.requeue_page

        def count_and_requeue(page: Any) -> list[Row]:
            sizes.append(page.count())
            return requeue_page(page)

        monkeypatch.setattr(dead, "requeue_page", count_and_requeue)
        bury(kept, *"abcdefg")
        bury(kept, "b", "d", attempt=2)

        assert dead.requeue(dead.messages()) == 7

        assert sizes == [3, 3, 3]
        assert [(one.task_id, one.attempt) for one in dead.messages()] == [("b", 1), ("d", 1)]

    def test_no_statement_changes_the_table_by_a_condition_on_itself(self, kept: Store, alias: str) -> None:
        """MySQL refuses that: error 1093. MariaDB has allowed it since 11.1."""
        bury(kept, "x")

        with CaptureQueriesContext(connections[alias]) as queries:
            dead.requeue(dead.messages())

        changes = [query["sql"] for query in queries.captured_queries if query["sql"].startswith("UPDATE")]
        assert changes
        assert not any("SELECT" in statement for statement in changes)

    def test_what_is_not_dead_stays_as_it_is(self, kept: Store, alias: str) -> None:
        kept.insert([Message(task_id="alive", task="shop.pay", body=b"", queue="celery")])

        assert dead.requeue(Row.objects.using(alias).all()) == 0
        assert row("alive", alias).attempt == 1

    def test_one_that_stays_dead_keeps_its_history(self, kept: Store, alias: str) -> None:
        bury(kept, "x", attempt=1, headers={wire.CRASHES: 3})
        bury(kept, "x", attempt=2)

        dead.requeue(dead.messages())

        assert wire.unpack_headers(dead.messages().get().headers)[2] == {wire.CRASHES: 3}

    def test_idle_workers_are_woken(self, kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        poked: list[bool] = []
        monkeypatch.setattr(kept, "poke", lambda: poked.append(True))
        bury(kept, "x")

        dead.requeue(dead.messages())

        assert poked == [True]


class TestDropping:
    def test_it_is_gone_and_the_others_stay(self, kept: Store, alias: str) -> None:
        bury(kept, "x", "y")
        kept.insert([Message(task_id="alive", task="shop.pay", body=b"", queue="celery")])

        assert dead.drop(dead.messages().filter(task_id="x")) == 1

        assert sorted(ids(list(Row.objects.using(alias).all()))) == ["alive", "y"]

    def test_only_the_dead_are_dropped_page_by_page(
        self, kept: Store, alias: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting, "PAGE", 3)
        bury(kept, *"abcdefg")
        kept.insert([Message(task_id="alive", task="shop.pay", body=b"", queue="celery")])

        assert dead.drop(Row.objects.using(alias).all()) == 7
        assert ids(list(Row.objects.using(alias).all())) == ["alive"]

    def test_without_any_nothing_is_dropped(self, kept: Store) -> None:
        assert dead.drop(dead.messages()) == 0
