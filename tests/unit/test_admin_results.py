"""celery/admin/results.py: what the list of results shows and finds."""

import json
from typing import Any

import pytest
from django.contrib.admin.models import DELETION
from django.test import Client
from pytest_django import Settings

from celery.admin import paging, shown
from celery.backends import exceptions as stored_exceptions
from celery.models import TaskMeta
from tests.unit.admin_pages import (
    XSS,
    act,
    confirm,
    later,
    listed,
    log,
    make_message,
    make_result,
    root,
    said,
    text_of,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> Client:
    return root()


def page_of(person: Client, row: TaskMeta) -> str:
    return text_of(person.get(f"/admin/celery/taskmeta/{row.pk}/change/"))


class TestTheList:
    def test_the_newest_are_first(self, person: Client) -> None:
        make_result("old", date_done=later(hours=-3))
        make_result("new")
        make_result("middle", date_done=later(hours=-1))

        assert listed(person, "taskmeta") == ["new", "middle", "old"]

    def test_results_and_tracebacks_are_not_read(self, person: Client, django_assert_max_num_queries: Any) -> None:
        make_result()

        with django_assert_max_num_queries(15) as queries:
            person.get("/admin/celery/taskmeta/")

        of_results = [query["sql"] for query in queries.captured_queries if "celery_taskmeta" in query["sql"]]
        assert of_results
        assert not any('"result"' in statement or '"traceback"' in statement for statement in of_results)

    def test_it_says_so_where_results_are_elsewhere(self, person: Client, settings: Settings) -> None:
        settings.CELERY_BACKEND = "cache"

        assert "CELERY_BACKEND is 'cache', so results are not kept in this table." in text_of(
            person.get("/admin/celery/taskmeta/")
        )

    def test_it_says_nothing_where_they_are_here(self, person: Client) -> None:
        assert person.get("/admin/celery/taskmeta/").context["notices"] == []


class TestFilters:
    @pytest.fixture(autouse=True)
    def _rows(self) -> None:
        make_result("a", date_done=later(minutes=-1))
        make_result("b", date_done=later(minutes=-2), status="FAILURE", worker="host.2")
        make_result("c", date_done=later(hours=-3), status="RETRY", name="shop.tasks.other")
        make_result("d", date_done=later(hours=-4), status="FAILURE", name="shop.tasks.other")

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"state": "DONE"}, ["a"]),
            ({"state": "FAILURE"}, ["b", "d"]),
            ({"state": "RETRY"}, ["c"]),
            ({"state": "PENDING"}, []),
            ({"state": "odd"}, []),
            ({"task": "shop.tasks.other"}, ["c", "d"]),
            ({"task": "shop.tasks.other", "state": "FAILURE"}, ["d"]),
            ({"task": "shop.tasks.other", "state": "DONE"}, []),
            ({"worker": "host.2"}, ["b"]),
            ({"since": "1"}, ["a", "b"]),
            ({"since": "1", "state": "FAILURE", "worker": "host.2", "task": "shop.tasks.pay"}, ["b"]),
        ],
    )
    def test_they_are_combined(self, person: Client, query: dict[str, str], found: list[str]) -> None:
        assert listed(person, "taskmeta", **query) == found


def test_a_time_that_ends_before_what_is_looked_through_leaves_nothing_out(
    person: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "LOOKED_THROUGH", 4)
    for number in range(6):
        make_result(f"{number}", date_done=later(hours=-number - 0.5), worker="host.2")

    young = person.get("/admin/celery/taskmeta/", {"task": "shop.tasks.pay", "since": "3", "worker": "host.1"})
    all_of_them = person.get("/admin/celery/taskmeta/", {"task": "shop.tasks.pay", "since": "9", "worker": "host.1"})

    assert young.context["cl"].found.notes == ()
    assert "only the first 4 rows were looked through" in text_of(all_of_them)


class TestSearch:
    @pytest.fixture(autouse=True)
    def _rows(self) -> None:
        make_result("order-1", date_done=later(hours=-1))
        make_result("order-10", date_done=later(hours=-2), status="FAILURE")
        make_result("Order-2", name="shop.tasks.refund", date_done=later(hours=-3))
        make_result("shop", name="shop.tasks.refund", date_done=later(hours=-4))

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"q": "order-1"}, ["order-1"]),
            ({"q": " order-10 "}, ["order-10"]),
            ({"q": "order"}, ["order-1", "order-10"]),
            ({"q": "order-"}, ["order-1", "order-10"]),
            ({"q": "O"}, ["Order-2"]),
            ({"q": "rder"}, []),
            ({"q": "shop.tasks.refund"}, ["Order-2", "shop"]),
            ({"q": "shop.tasks.pay"}, ["order-1", "order-10"]),
            ({"q": "shop.tasks.r"}, ["shop", "Order-2"]),
            ({"q": "shop.tasks."}, ["order-10", "order-1", "shop", "Order-2"]),
            ({"q": "shop"}, ["shop"]),
            ({"q": "order", "state": "FAILURE"}, ["order-10"]),
            ({"q": "order-1", "state": "FAILURE"}, ["order-10"]),
            ({"q": "shop.tasks.refund", "since": "1"}, []),
            ({"q": "shop.tasks.pay", "since": "2", "state": "DONE"}, ["order-1"]),
            ({"q": "shop.tasks.pay", "task": "shop.tasks.refund"}, []),
            ({"q": "shop.tasks.", "task": "shop.tasks.refund"}, ["shop", "Order-2"]),
        ],
    )
    def test_it_finds_ids_and_names_and_what_begins_so(
        self, person: Client, query: dict[str, str], found: list[str]
    ) -> None:
        assert listed(person, "taskmeta", **query) == found

    def test_it_says_what_it_has_looked_for(self, person: Client) -> None:
        assert "Task ids that begin with 'ord'." in text_of(person.get("/admin/celery/taskmeta/", {"q": "ord"}))
        assert "Task names that begin with 'shop.t'." in text_of(person.get("/admin/celery/taskmeta/", {"q": "shop.t"}))


class TestThePageOfOne:
    def test_the_value_is_legible(self, person: Client) -> None:
        assert '{\n  "total": [\n    1,\n    2\n  ]\n}' in page_of(person, make_result(result='{"total": [1, 2]}'))

    def test_an_exception_and_its_traceback_are(self, person: Client) -> None:
        error = stored_exceptions.dump(ValueError("no such order"))
        row = make_result(
            status="FAILURE", result=error, traceback="Traceback ...\n  File x\nValueError: no such order"
        )

        page = page_of(person, row)

        assert '"class": "ValueError"' in page
        assert '"no such order"' in page
        assert "Traceback ...\n  File x\nValueError" in page

    @pytest.mark.parametrize(
        ("text", "seen"),
        [
            ("", "-"),
            ("no json", "no json"),
            ('"\\ud800 \\u0000"', '"\\ud800 \\u0000"'),
            ("[" * 100_000, "… (100,000 characters in all)"),
            (json.dumps("x" * 2_000_000), "… (2,000,002 characters in all)"),
            ("1" * 5000, "1" * 5000),
        ],
        ids=["nothing", "no json", "odd characters", "deep", "huge", "long number"],
    )
    def test_any_text_is_shown_somehow(self, person: Client, text: str, seen: str) -> None:
        assert seen in page_of(person, make_result(result=text))

    def test_messages_of_the_task_are_linked(self, person: Client) -> None:
        row = make_result("a")

        assert "none in the database" in page_of(person, row)
        make_message("a")
        assert '<a href="/admin/celery/message/?q=a">1 in the database</a>' in page_of(person, row)

    def test_its_worker_is_linked(self, person: Client) -> None:
        assert '<a href="/admin/celery/worker/?q=host.1">host.1</a>' in page_of(person, make_result())
        assert "/worker/?q=" not in page_of(person, make_result("b", worker=""))


@pytest.mark.parametrize("column", ["task_id", "name", "status", "worker", "result", "traceback"])
def test_what_a_result_says_is_escaped(person: Client, column: str) -> None:
    row = make_result(**{"task_id": "a", column: json.dumps(XSS) if column == "result" else XSS})

    pages = (
        person.get("/admin/celery/taskmeta/"),
        person.get("/admin/celery/taskmeta/", {"q": "<script>"}),
        person.get(f"/admin/celery/taskmeta/{row.pk}/change/"),
        person.get(f"/admin/celery/taskmeta/{row.pk}/delete/"),
        act(person, "taskmeta", "delete_selected", row),
    )

    assert not any(b"<script>alert" in page.content for page in pages)


class TestDeleting:
    def test_it_asks_first(self, person: Client) -> None:
        page = text_of(act(person, "taskmeta", "delete_selected", make_result(), make_result("b")))

        assert "Delete 2 task results?" in page
        assert "<Task: b done:DONE>" in page
        assert TaskMeta.objects.count() == 2

    def test_then_it_deletes_and_logs_each(self, person: Client) -> None:
        confirm(person, "taskmeta", "delete_selected", make_result("a"), make_result("b"))

        assert not TaskMeta.objects.exists()
        assert said(person, "taskmeta") == ["2 task results deleted."]
        assert log() == [(f"<Task: {task_id} done:DONE>", DELETION, "") for task_id in ("a", "b")]


def test_a_text_is_cut_where_it_is_long() -> None:
    assert shown.block("x" * 30_000).endswith("… (30,000 characters in all)</pre>")
