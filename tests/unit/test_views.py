import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.http import HttpRequest
from django.test import Client
from django.urls import include, path, reverse
from pytest_django import Settings

from celery import backends, states
from celery.backends.base import BaseBackend, Result

urlpatterns = [path("tasks/", include("celery.urls"))]


class Kept(BaseBackend):
    """Keeps results in memory; `value` stands in for what a third-party backend makes of one."""

    def __init__(self) -> None:
        self.rows: dict[str, Result] = {}
        self.value: Any = None

    def store(self, results: Any) -> set[str]:
        self.rows.update({result.task_id: result for result in results})
        return {result.task_id for result in results}

    def fetch(self, task_ids: Any) -> dict[str, Result]:
        return {task_id: self.rows[task_id] for task_id in task_ids if task_id in self.rows}

    def to_python(self, stored: Result) -> Any:
        return super().to_python(stored) if self.value is None else self.value


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Kept:
    settings.ROOT_URLCONF = __name__
    made = Kept()
    monkeypatch.setattr(backends, "default", lambda: made)
    return made


def status(client: Client, task_id: str) -> Any:
    answer = client.get(reverse("celery-task_status", args=[task_id]))
    assert answer.status_code == 200
    return answer.json()["task"]


class TestIsTaskDone:
    @pytest.mark.parametrize(
        ("state", "executed"), [(states.DONE, True), (states.FAILURE, False), (states.RETRY, False), (None, False)]
    )
    def test_only_done_is_executed(self, client: Client, backend: Kept, state: str | None, executed: bool) -> None:
        if state:
            backend.store([Result(task_id="x", state=state)])

        answer = client.get("/tasks/x/done/")

        assert answer.json() == {"task": {"id": "x", "executed": executed}}

    def test_its_address_has_the_classic_name(self) -> None:
        assert reverse("celery-is_task_done", args=["x"]) == "/tasks/x/done/"


class TestTaskStatus:
    def test_of_an_unknown_task_it_is_pending(self, client: Client) -> None:
        assert status(client, "x") == {"id": "x", "status": "PENDING", "result": None}

    @pytest.mark.parametrize("value", [None, 0, [1, "zwei", {"drei": 3.5}], "x" * 100_000])
    def test_shows_a_value(self, client: Client, backend: Kept, value: Any) -> None:
        backend.mark_as_done("x", value)

        assert status(client, "x") == {"id": "x", "status": "DONE", "result": value}

    def test_shows_moments_as_text(self, client: Client, backend: Kept) -> None:
        backend.mark_as_done("x", {"at": datetime(2026, 7, 1, 12, tzinfo=UTC)})

        assert status(client, "x")["result"] == {"at": "2026-07-01T12:00:00Z"}

    @pytest.mark.parametrize("state", [states.FAILURE, states.RETRY])
    def test_shows_an_exception_as_data(self, client: Client, backend: Kept, state: str) -> None:
        backend.store_result("x", ValueError("no money", 7), state)

        assert status(client, "x") == {
            "id": "x",
            "status": state,
            "result": {"type": "ValueError", "text": "('no money', 7)"},
        }

    def test_shows_an_exception_that_is_unknown_here_by_its_name(self, client: Client, backend: Kept) -> None:
        text = json.dumps({"module": "nowhere", "class": "NoMoney", "args": ["at all"]})
        backend.store([Result(task_id="x", state=states.FAILURE, result=text)])

        assert status(client, "x")["result"] == {"type": "NoMoney", "text": "at all"}

    def test_a_row_that_cannot_be_read_is_shown_as_its_trouble(self, client: Client, backend: Kept) -> None:
        backend.store([Result(task_id="x", state=states.DONE, result="{not JSON")])

        found = status(client, "x")

        assert found["status"] == "DONE"
        assert found["result"]["type"] == "UnreadableResult"
        assert "JSONDecodeError" in found["result"]["text"]

    @pytest.mark.parametrize("value", [{1, 2}, b"\xff", object(), [b"\xff"], 1j, {(1, 2): 3}, float("nan")])
    def test_what_json_does_not_have_is_shown_in_words(self, client: Client, backend: Kept, value: Any) -> None:
        backend.store([Result(task_id="x", state=states.DONE)])
        backend.value = value

        shown = json.dumps(status(client, "x")["result"])

        assert json.dumps(repr(value)) in shown or json.dumps(repr(b"\xff")) in shown

    def test_what_contains_itself_is_shown_in_words(self, client: Client, backend: Kept) -> None:
        backend.store([Result(task_id="x", state=states.DONE)])
        backend.value = value = [1]
        value.append(value)  # type: ignore[arg-type]

        assert status(client, "x")["result"] == "[1, [...]]"

    @pytest.mark.parametrize("method", ["__str__", "__repr__"])
    def test_what_cannot_say_what_it_is_is_no_trouble(self, client: Client, backend: Kept, method: str) -> None:
        base: type = ValueError if method == "__str__" else object
        mute = type("Mute", (base,), {method: lambda _: 1 / 0})
        backend.store([Result(task_id="x", state=states.FAILURE)])
        backend.value = mute()

        assert "<Mute without a text>" in json.dumps(status(client, "x")["result"])


BOTH = pytest.mark.parametrize("view", ["done", "status"])


@BOTH
class TestBoth:
    @pytest.mark.parametrize("task_id", ["a b", "a/b", "é", "a/done/b", "%2F", "..", "x" * 255, "a?b", "a\u2028b"])
    def test_an_id_may_have_odd_characters(self, client: Client, backend: Kept, view: str, task_id: str) -> None:
        backend.mark_as_done(task_id, 1)
        name = {"done": "celery-is_task_done", "status": "celery-task_status"}[view]

        answer = client.get(reverse(name, args=[task_id]))

        assert answer.status_code == 200
        assert answer.json()["task"]["id"] == task_id

    @pytest.mark.parametrize("task_id", ["%ff", "%ED%A0%80"])
    def test_an_id_that_is_no_utf_8_is_unknown(self, client: Client, view: str, task_id: str) -> None:
        assert client.get(f"/tasks/{task_id}/{view}/").status_code == 200

    @pytest.mark.parametrize("task_id", ["%00", "a%00b", "x" * 256])
    def test_an_id_that_no_task_can_have_is_never_asked_for(
        self, client: Client, backend: Kept, monkeypatch: pytest.MonkeyPatch, view: str, task_id: str
    ) -> None:
        monkeypatch.setattr(backend, "fetch", lambda _: pytest.fail("it was asked"))

        answer = client.get(f"/tasks/{task_id}/{view}/")

        assert answer.status_code == 200
        assert answer.json()["task"].get("status", "PENDING") == "PENDING"

    def test_no_cache_may_keep_the_answer(self, client: Client, view: str) -> None:
        assert client.get(f"/tasks/x/{view}/")["Cache-Control"] == "no-store"

    def test_head_is_answered_like_get(self, client: Client, view: str) -> None:
        answer = client.head(f"/tasks/x/{view}/")

        assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
    def test_nothing_else_is_allowed(self, client: Client, view: str, method: str) -> None:
        answer = getattr(client, method)(f"/tasks/x/{view}/")

        assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")

    def test_a_backend_that_is_down_is_told_without_its_secrets(
        self,
        client: Client,
        backend: Kept,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        view: str,
    ) -> None:
        def refuse(_: Any) -> Any:
            raise OperationalError("no connection to user:s3cret@db")

        monkeypatch.setattr(backend, "fetch", refuse)

        answer = client.get(f"/tasks/x/{view}/")

        assert answer.status_code == 503
        assert answer["Cache-Control"] == "no-store"
        assert answer.json() == {
            "task": {"id": "x"},
            "error": {
                "type": "OperationalError",
                "text": "The result backend cannot be asked now. Try again later.",
            },
        }
        assert "s3cret" in caplog.text

    @pytest.mark.parametrize(("task_id", "code"), [("mine", 200), ("yours", 403)])
    def test_a_permission_decides(self, client: Client, settings: Settings, view: str, task_id: str, code: int) -> None:
        settings.CELERY_VIEWS_PERMISSION = f"{__name__}.is_mine"

        assert client.get(f"/tasks/{task_id}/{view}/").status_code == code

    def test_who_may_not_see_it_does_not_learn_whether_the_backend_is_up(
        self, client: Client, settings: Settings, backend: Kept, monkeypatch: pytest.MonkeyPatch, view: str
    ) -> None:
        settings.CELERY_VIEWS_PERMISSION = f"{__name__}.is_mine"
        monkeypatch.setattr(backend, "fetch", lambda _: pytest.fail("it was asked"))

        assert client.get(f"/tasks/yours/{view}/").status_code == 403

    @pytest.mark.parametrize("name", ["nowhere.is_mine", "celery.conf.SETTINGS", "celery.conf.is_mine"])
    def test_a_permission_that_cannot_be_had_lets_nobody_in(
        self, client: Client, settings: Settings, view: str, name: str
    ) -> None:
        settings.CELERY_VIEWS_PERMISSION = name

        with pytest.raises(ImproperlyConfigured, match="CELERY_VIEWS_PERMISSION"):
            client.get(f"/tasks/x/{view}/")

    def test_a_permission_that_answers_neither_yes_nor_no_lets_nobody_in(
        self, client: Client, settings: Settings, view: str
    ) -> None:
        settings.CELERY_VIEWS_PERMISSION = f"{__name__}.something"  # a coroutine that nobody awaits is true as well

        with pytest.raises(ImproperlyConfigured, match="must return True or False"):
            client.get(f"/tasks/x/{view}/")


def is_mine(request: HttpRequest, task_id: str) -> bool:
    assert isinstance(request, HttpRequest)
    return task_id == "mine"


def something(request: HttpRequest, task_id: str) -> str:
    return "no"
