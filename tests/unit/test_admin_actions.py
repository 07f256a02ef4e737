"""celery/admin/actions.py: acting on more rows than a page has."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.test import Client

from celery import dead, waiting
from celery.admin import actions, paging
from celery.exceptions import ResultBackendUnreachable
from celery.models import Message
from tests.unit.admin_pages import act, confirm, make_dead, make_message, root, said, text_of

pytestmark = pytest.mark.django_db

ACROSS = {"select_across": "1"}


@pytest.fixture
def person() -> Client:
    return root()


def post(person: Client, query: str, action: str, *rows: Message, **more: str) -> Any:
    """Do an action on a list that has filters."""
    chosen = {"action": action, "_selected_action": [row.pk for row in rows], **more}
    return person.post(f"/admin/celery/message/?{query}", chosen)


def many_dead(number: int) -> Sequence[Message]:
    return [make_dead(f"{number:04}") for number in range(number)]


class TestAllOfAList:
    def test_all_that_match_are_acted_on_in_batches(self, person: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(actions, "BATCH", 100)
        batches: list[int] = []
        requeue = dead.requeue_page

        def count_and_requeue(rows: QuerySet[Message]) -> list[Message]:
            batches.append(rows.count())
            return requeue(rows)

        monkeypatch.setattr(dead, "requeue_page", count_and_requeue)
        first, *_ = many_dead(250)
        make_message("waits")

        post(person, "state=dead", "requeue", first, **ACROSS)

        assert said(person, "message") == ["250 messages requeued."]
        assert batches == [100, 100, 50]
        assert LogEntry.objects.count() == 250

    def test_filters_and_search_hold(self, person: Client) -> None:
        rows = make_dead("a", queue="mail"), make_dead("b"), make_dead("c", queue="mail", task="shop.tasks.other")

        post(person, "state=dead&queue=mail&q=shop.tasks.pay", "delete_selected", rows[0], post="yes", **ACROSS)

        assert [message.task_id for message in Message.objects.order_by("id")] == ["b", "c"]

    def test_no_more_than_are_listed(self, person: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(paging, "LISTED", 20)
        first, *_ = many_dead(30)

        page = person.get("/admin/celery/message/?state=dead")
        post(person, "state=dead", "requeue", first, **ACROSS)

        assert "More than 20 rows match; the first 20 are listed." in text_of(page)
        assert said(person, "message") == ["20 messages requeued."]

    def test_the_question_names_a_few_and_says_how_many(self, person: Client) -> None:
        first, *_ = many_dead(25)

        page = text_of(post(person, "state=dead", "delete_selected", first, **ACROSS))

        assert "Drop 25 messages?" in page
        assert page.count("<li><Message:") == 20
        assert "and 5 more" in page
        assert page.count('name="_selected_action"') == 1

    def test_what_came_after_the_question_is_spared(self, person: Client) -> None:
        row = make_dead("a")
        make_dead("b")
        asked = post(person, "state=dead", "delete_selected", row, **ACROSS)
        make_dead("late")

        newest = str(asked.context["newest"])
        post(person, "state=dead", "delete_selected", row, post="yes", newest=newest, **ACROSS)

        assert [message.task_id for message in Message.objects.all()] == ["late"]


class TestOddRequests:
    @pytest.mark.parametrize("key", ["x", "", "1.5", "9" * 40])
    def test_keys_that_cannot_be_are_a_bad_request(self, person: Client, key: str) -> None:
        make_dead()
        chosen = {"action": "requeue", "_selected_action": [key]}

        assert person.post("/admin/celery/message/", chosen).status_code == 400
        assert Message.objects.filter(dead_at__isnull=False).exists()

    def test_a_key_twice_is_one_row(self, person: Client) -> None:
        row = make_dead()

        act(person, "message", "requeue", row, row)

        assert said(person, "message") == ["1 message requeued."]

    def test_an_action_that_there_is_not_is_refused(self, person: Client) -> None:
        assert act(person, "message", "format_disk", make_dead()).status_code == 403

    def test_no_action_is_a_hint(self, person: Client) -> None:
        act(person, "message", "", make_dead())

        assert said(person, "message") == ["No action selected."]


class TestTrouble:
    def test_a_backend_that_is_away_stops_it_and_is_told(self, person: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> Any:
            raise ResultBackendUnreachable("it is away")

        monkeypatch.setattr(waiting, "drop_page", refuse)
        row = make_message()

        confirm(person, "message", "delete_selected", row)

        assert said(person, "message") == ["Stopped: it is away"]
        assert LogEntry.objects.count() == 0


def test_the_question_leads_back_to_the_list_with_its_filters(person: Client) -> None:
    answer = post(person, "state=dead&queue=celery", "delete_selected", make_dead())

    assert '<a href="/admin/celery/message/?state=dead&queue=celery" class="button cancel-link">' in text_of(answer)
