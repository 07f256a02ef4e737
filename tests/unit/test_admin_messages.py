"""celery/admin/messages.py: what the list of messages shows and finds, and what a person does there."""

import base64
import json
import pickle
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION
from django.test import Client
from pytest_django import Settings

from celery import message as wire
from celery.message import Call
from celery.models import Message, TaskMeta
from celery.registry import tasks
from tests.unit.admin_pages import (
    XSS,
    act,
    confirm,
    later,
    listed,
    log,
    make_dead,
    make_message,
    make_result,
    make_scheduled,
    make_worker,
    root,
    said,
    somebody,
    text_of,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> Client:
    return root()


def pay() -> None:
    """Do nothing."""


def body(*args: Any, **kwargs: Any) -> bytes:
    return wire.encode(Call(task="shop.tasks.pay", task_id="a", args=args, kwargs=kwargs), "json")[2]


def shown(person: Client, row: Message, **columns: Any) -> str:
    Message.objects.filter(pk=row.pk).update(**columns)
    return text_of(person.get(f"/admin/celery/message/{row.pk}/change/"))


class TestTheList:
    @pytest.fixture(autouse=True)
    def _one_of_each_state(self) -> None:
        make_message("waits")
        make_scheduled("scheduled")
        make_message("taken", owner="me")
        make_scheduled("relayed", owner="me")
        make_dead("dead")

    def test_all_are_listed_the_newest_first(self, person: Client) -> None:
        assert listed(person, "message") == ["dead", "relayed", "taken", "scheduled", "waits"]

    @pytest.mark.parametrize(
        ("state", "found"),
        [
            ("waiting", "waits"),
            ("scheduled", "scheduled"),
            ("taken", "taken"),
            ("relayed", "relayed"),
            ("dead", "dead"),
        ],
    )
    def test_one_state_is_listed(self, person: Client, state: str, found: str) -> None:
        assert listed(person, "message", state=state) == [found]

    def test_each_row_has_its_state_as_a_word(self, person: Client) -> None:
        page = text_of(person.get("/admin/celery/message/"))

        words = ("waiting", "scheduled", "taken by a worker", "being relayed", "dead")
        assert all(f'<td class="field-state">{word}</td>' in page for word in words)

    def test_each_row_has_the_moment_that_matters(self, person: Client) -> None:
        Message.objects.filter(task_id="dead").update(dead_at=later(hours=-7), created_at=later(hours=-5))
        Message.objects.filter(task_id="relayed").update(created_at=later(hours=-3))

        page = text_of(person.get("/admin/celery/message/"))

        for moment in ("7 h ago", "in 5", "3 h ago"):
            assert f'<td class="field-when">{moment}' in page
        assert "5 h ago" not in page

    def test_a_state_that_there_is_not_leads_to_the_whole_list(self, person: Client) -> None:
        assert person.get("/admin/celery/message/", {"state": "odd"}).status_code == 302

    def test_bodies_and_headers_are_not_read(self, person: Client, django_assert_max_num_queries: Any) -> None:
        with django_assert_max_num_queries(15) as queries:
            person.get("/admin/celery/message/")

        of_messages = [query["sql"] for query in queries.captured_queries if "celery_message" in query["sql"]]
        assert of_messages
        assert not any('"body"' in statement or '"headers"' in statement for statement in of_messages)


class TestFilters:
    def test_by_queue(self, person: Client) -> None:
        make_message("a")
        make_message("b", queue="mail")
        make_scheduled("c", queue="mail")

        assert listed(person, "message", queue="mail") == ["c", "b"]
        assert listed(person, "message", queue="mail", state="waiting") == ["b"]
        assert listed(person, "message", queue="mail", state="scheduled") == ["c"]

    def test_by_task_and_time(self, person: Client) -> None:
        make_message("a")
        make_message("b", task="shop.tasks.other", created_at=later(hours=-3))
        make_message("c", task="shop.tasks.other")

        assert listed(person, "message", task="shop.tasks.other") == ["c", "b"]
        assert listed(person, "message", task="shop.tasks.other", since="2") == ["c"]
        assert listed(person, "message", since="24") == ["c", "b", "a"]

    def test_for_the_dead_the_time_is_that_of_death(self, person: Client) -> None:
        make_dead("a", created_at=later(hours=-9))
        make_dead("b", dead_at=later(hours=-9))

        assert listed(person, "message", state="dead", since="1") == ["a"]
        assert listed(person, "message", state="dead", since="1", q="a") == ["a"]

    def test_by_worker(self, person: Client) -> None:
        make_message("a", owner="me")
        make_message("b", owner="you")

        assert listed(person, "message", worker="me") == ["a"]
        assert listed(person, "message", worker="me", state="dead") == []

    def test_choices_are_those_of_workers_and_tasks_and_the_one_in_force(self, person: Client) -> None:
        make_worker("me", name="host.7", queues="celery,mail")
        tasks.register(pay, name="shop.tasks.pay")

        page = text_of(person.get("/admin/celery/message/", {"queue": "gone"}))

        for choice in ("?queue=mail", "?queue=gone", "worker=me", "task=shop.tasks.pay", "host.7"):
            assert choice in page


class TestSearch:
    def test_by_an_id(self, person: Client) -> None:
        make_message("order-7")
        make_message("order-77")

        assert listed(person, "message", q="order-7") == ["order-7"]

    def test_by_the_beginning_of_an_id(self, person: Client) -> None:
        for task_id in ("order-7", "order-77", "Order-7", "orders", "reorder-7", "order"):
            make_message(task_id)

        assert listed(person, "message", q="order-") == ["order-7", "order-77"]
        assert listed(person, "message", q="ord") == ["order", "order-7", "order-77", "orders"]

    def test_by_a_name_and_the_beginning_of_it(self, person: Client) -> None:
        make_message("a", task="shop.tasks.pay")
        make_message("b", task="shop.tasks.refund")
        make_dead("c", task="shop.tasks.refund")

        assert listed(person, "message", q="shop.tasks.refund") == ["c", "b"]
        assert listed(person, "message", q="shop.") == ["c", "b", "a"]
        assert listed(person, "message", q="shop.tasks.r", state="dead") == ["c"]
        assert listed(person, "message", q="hop") == []

    def test_together_with_filters(self, person: Client) -> None:
        make_message("order-1")
        make_dead("order-2", queue="mail")
        make_dead("order-3")

        assert listed(person, "message", q="order", state="dead") == ["order-2", "order-3"]
        assert listed(person, "message", q="order", queue="mail") == ["order-2"]
        assert listed(person, "message", q="order-1", state="dead") == []


class TestThePageOfOne:
    def test_arguments_are_read(self, person: Client) -> None:
        row = make_message(body=body(7, "seven", amount=1.5, to=None))

        page = shown(person, row)

        assert "7\n'seven'\namount = 1.5\nto = None" in page

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"\xff\xfe\x00", "cannot be decoded"),
            (b"", "cannot be decoded"),
            (b"[1, 2]", "cannot be decoded"),
            (b'{"task": "t", "id": "a", "args": 1}', "cannot be decoded"),
            (b"[" * 100_000, "cannot be decoded"),
            (b"x" * 1_048_577, "1,048,577 bytes, which is too long to be read here"),
            (body(), ">none<"),
            (body("\0\ud800"), r"'\x00\ud800'"),
            (body("x" * 3000), "… (3,002 characters in all)"),
        ],
        ids=["bytes", "nothing", "list", "args", "deep", "huge", "none", "odd characters", "long"],
    )
    def test_any_body_is_shown_somehow(self, person: Client, content: bytes, text: str) -> None:
        row = make_message()

        assert text in shown(person, row, body=content)

    def test_nothing_is_unpickled(self, person: Client, settings: Settings) -> None:
        settings.CELERY_ACCEPT_CONTENT = ["json", "pickle"]
        content = base64.b64encode(pickle.dumps(_Bomb()))
        headers = json.dumps({"content-type": "application/x-python-serialize", "content-encoding": "base64"})
        row = make_message()

        page = shown(person, row, body=content, headers=headers)

        assert "written as application/x-python-serialize, which is not read here" in page

    def test_its_result_and_its_worker_are_linked(self, person: Client) -> None:
        stored = make_result("a", status="RETRY")
        make_worker("me", name="host.7")
        row = make_message("a", owner="me")

        page = shown(person, row)

        assert f'<a href="/admin/celery/taskmeta/{stored.pk}/change/">RETRY, attempt 1</a>' in page
        assert '<a href="/admin/celery/worker/me/change/">host.7</a>' in page

    def test_it_says_so_where_there_is_no_result_and_no_worker(self, person: Client) -> None:
        row = make_message("a")

        assert "none yet" in shown(person, row)
        assert "nobody" in shown(person, row)
        assert "lost, which has no row any more" in shown(person, row, owner="lost")

    def test_it_says_so_where_results_are_elsewhere(self, person: Client, settings: Settings) -> None:
        settings.CELERY_BACKEND = "cache"
        row = make_message("a")

        assert "kept by CELERY_BACKEND 'cache', not in a table" in shown(person, row)

    def test_the_reason_of_a_dead_one_is_whole(self, person: Client) -> None:
        reason = f"first line\n{'x' * 500} the end"

        assert reason in shown(person, make_dead(reason=reason))


class _Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize("column", ["task", "queue", "reason", "task_id", "headers", "owner", "body"])
def test_what_a_message_says_is_escaped(person: Client, column: str) -> None:
    value: Any = body(XSS) if column == "body" else XSS
    row = make_dead(**{"task_id": "a", column: value})

    pages = (
        person.get("/admin/celery/message/"),
        person.get("/admin/celery/message/", {"q": XSS}),
        person.get("/admin/celery/message/", {"queue": XSS}),
        person.get(f"/admin/celery/message/{row.pk}/change/"),
        person.get(f"/admin/celery/message/{row.pk}/history/"),
        act(person, "message", "delete_selected", row),
    )

    assert not any(b"<script>alert" in page.content for page in pages)


class TestRequeue:
    def test_dead_messages_become_new_attempts(self, person: Client) -> None:
        first, second = make_dead("a"), make_dead("b", attempt=3, crashes=3)

        assert act(person, "message", "requeue", first, second).status_code == 302

        assert said(person, "message") == ["2 messages requeued."]
        assert set(Message.objects.values_list("attempt", "dead_at", "crashes")) == {(2, None, 0), (4, None, 0)}

    def test_each_has_a_log_entry(self, person: Client) -> None:
        act(person, "message", "requeue", make_dead("a"), make_dead("b"), make_message("c"))

        assert log() == [
            (f"<Message: shop.tasks.pay {task_id} attempt:1>", CHANGE, "Requeued as a new attempt.")
            for task_id in ("a", "b")
        ]

    def test_what_is_not_dead_or_has_a_later_attempt_stays(self, person: Client) -> None:
        rows = make_message("a"), make_dead("b"), make_message("b", attempt=2)

        act(person, "message", "requeue", *rows)

        unless = "they are not dead, or have a later attempt in the table"
        assert said(person, "message") == [f"3 messages not requeued: {unless}."]
        assert log() == []


class TestRunNow:
    def test_scheduled_messages_become_ready(self, person: Client) -> None:
        act(person, "message", "run_now", make_scheduled("a"), make_message("b"))

        assert not Message.objects.filter(visible_at__isnull=False).exists()
        unless = "they are not scheduled, or a worker has just taken them"
        assert said(person, "message") == ["1 message made ready.", f"1 message not made ready: {unless}."]
        assert log() == [("<Message: shop.tasks.pay a attempt:1>", CHANGE, "Made ready at once.")]


class TestDrop:
    def test_it_asks_first(self, person: Client) -> None:
        row = make_dead("a")

        page = text_of(act(person, "message", "delete_selected", row))

        assert "Drop 1 message?" in page
        assert "gets TaskDropped" in page
        assert "<Message: shop.tasks.pay a attempt:1>" in page
        assert Message.objects.exists()
        assert log() == []

    def test_then_it_drops_what_no_worker_has(self, person: Client) -> None:
        rows = make_dead("a"), make_message("b"), make_scheduled("c"), make_message("taken", owner="me")

        confirm(person, "message", "delete_selected", *rows)

        assert [message.task_id for message in Message.objects.all()] == ["taken"]
        assert said(person, "message") == ["3 messages dropped.", "1 message not dropped: a worker has taken them."]
        assert {(text.split()[2], flag) for text, flag, _ in log()} == {
            ("a", DELETION),
            ("b", DELETION),
            ("c", DELETION),
        }

    def test_who_waits_for_one_is_told(self, person: Client) -> None:
        confirm(person, "message", "delete_selected", make_message("a"))

        assert "TaskDropped" in TaskMeta.objects.get(task_id="a").result

    def test_what_has_gone_meanwhile_is_counted(self, person: Client) -> None:
        row = make_dead("a")
        Message.objects.all().delete()
        row.pk = 77

        confirm(person, "message", "delete_selected", row)

        assert said(person, "message") == ["1 message not dropped: not in the table any more."]


class TestOtherBrokers:
    def test_the_list_says_where_messages_wait(self, person: Client, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "amqp://guest:secret@localhost:5672//"
        make_message("a")
        make_scheduled("b", owner="me")
        make_scheduled("c", visible_at=later(seconds=-1))

        page = text_of(person.get("/admin/celery/message/"))

        assert "The broker is amqp: messages that wait in its queues are not in this table." in page
        assert "secret" not in page
        for word in ("outbox", "being relayed", "due"):
            assert f'<td class="field-state">{word}</td>' in page

    def test_a_queue_in_the_database_needs_no_such_line(self, person: Client) -> None:
        assert person.get("/admin/celery/message/").context["notices"] == []


def test_a_viewer_sees_no_action() -> None:
    make_message()

    page = text_of(somebody("view_message").get("/admin/celery/message/"))

    assert 'name="action"' not in page
