"""celery/admin/paging.py: which rows a list has, and what it says of those that it has not."""

from typing import Any

import pytest
from django.db.models import Q
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from celery.admin import paging
from celery.models import Message
from tests.unit.admin_pages import listed, make_dead, make_message, make_scheduled, root, text_of


class TestTextFromWhichSomethingBegins:
    @pytest.mark.parametrize(
        ("text", "condition"),
        [
            ("order-7", Q(task_id__gte="order-7", task_id__lt="order-8")),
            ("order-", Q(task_id__gte="order-", task_id__lt="ordes")),
            ("aB", Q(task_id__gte="aB", task_id__lt="aC")),
            ("order-9", Q(task_id__gte="order-9")),
            ("z", Q(task_id__gte="z")),
            ("Z", Q(task_id__gte="Z")),
            ("--", Q(task_id__gte="--")),
            ("aé", Q(task_id__gte="aé", task_id__lt="b")),
        ],
    )
    def test_it_is_a_range(self, text: str, condition: Q) -> None:
        assert paging.from_text_on("task_id", text) == condition

    @given(text=st.text(min_size=1), rest=st.text())
    def test_all_that_begins_so_is_in_it(self, text: str, rest: str) -> None:
        condition: Any = paging.from_text_on("task_id", text)
        bounds = dict(condition.children)

        assert bounds["task_id__gte"] <= text + rest
        assert text + rest < bounds.get("task_id__lt", text + rest + "x")


@pytest.mark.django_db
class TestAList:
    @pytest.fixture
    def person(self, monkeypatch: pytest.MonkeyPatch) -> Client:
        """Somebody on a small scale."""
        monkeypatch.setattr(paging, "LISTED", 5)
        monkeypatch.setattr(paging, "LOOKED_THROUGH", 8)
        return root()

    def test_it_ends_where_it_says(self, person: Client) -> None:
        for number in range(6):
            make_message(f"{number}")

        assert listed(person, "message") == ["5", "4", "3", "2", "1"]
        assert "More than 5 rows match; the first 5 are listed." in text_of(person.get("/admin/celery/message/"))

    def test_a_complete_one_says_nothing(self, person: Client) -> None:
        for number in range(5):
            make_message(f"{number}")

        answer = person.get("/admin/celery/message/")

        assert answer.context["cl"].found.notes == ()
        assert answer.context["cl"].result_count == 5

    def test_it_says_when_it_did_not_look_through_all(self, person: Client) -> None:
        make_dead("lost", queue="mail")
        for number in range(8):
            make_dead(f"{number}")

        for query in ({"state": "dead", "queue": "mail"}, {"queue": "mail"}):
            answer = person.get("/admin/celery/message/", query)
            assert list(answer.context["cl"].result_list) == []
            assert "only the first 8 rows were looked through" in text_of(answer)

    def test_it_looks_through_all_that_there_are_up_to_then(self, person: Client) -> None:
        make_dead("found", queue="mail")
        for number in range(7):
            make_dead(f"{number}")

        answer = person.get("/admin/celery/message/", {"state": "dead", "queue": "mail"})

        assert [row.task_id for row in answer.context["cl"].result_list] == ["found"]
        assert answer.context["cl"].found.notes == ()

    def test_rows_that_vanish_meanwhile_are_left_out(self, person: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        make_message("a")
        make_message("b")
        find = paging.find

        def find_too_late(*args: object, **options: object) -> paging.Found:
            found = find(*args, **options)  # type: ignore[arg-type]
            Message.objects.filter(task_id="a").delete()
            return found

        monkeypatch.setattr("celery.admin.messages.find", find_too_late)

        assert listed(person, "message") == ["b"]

    def test_pages_have_their_rows_in_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celery.admin.base.ReadOnlyAdmin.list_per_page", 2)
        person = root()
        for number in range(5):
            make_scheduled(f"{number}")

        pages = [listed(person, "message", state="scheduled", p=page) for page in (1, 2, 3)]

        assert pages == [["0", "1"], ["2", "3"], ["4"]]
        assert person.get("/admin/celery/message/", {"p": "4"}).status_code == 302
