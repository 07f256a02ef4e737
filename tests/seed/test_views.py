"""celery.urls and celery.views: a page asks what became of a task."""

from typing import Any

import pytest
from django.test import Client, RequestFactory
from django.urls import include, path, reverse
from pytest_django import Settings

from celery import backends, urls
from celery.models import TaskMeta
from celery.views import is_task_done, task_status
from tests.seed.table import rows_of

pytestmark = pytest.mark.django_db

row = rows_of("celery.views")
of_urls = rows_of("celery.urls")

urlpatterns = [path("celery/", include("celery.urls"))]


@pytest.fixture(autouse=True)
def _urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


def answer(client: Client, address: str) -> Any:
    found = client.get(address)
    assert found.status_code == 200
    assert found.headers["Content-Type"] == "application/json"
    return found.json()


@row("is_task_done")
@of_urls("celery-is_task_done")
def test_a_page_asks_whether_a_task_is_done(client: Client) -> None:
    backends.default().mark_as_done("x", 4)
    backends.default().mark_as_failure("y", KeyError("no"))

    told = {task_id: answer(client, f"/celery/{task_id}/done/")["task"] for task_id in "xyz"}

    assert told == {
        task_id: {"id": task_id, "executed": executed}
        for task_id, executed in {"x": True, "y": False, "z": False}.items()
    }
    assert reverse("celery-is_task_done", args=["x"]) == reverse("celery-is_task_done", kwargs={"task_id": "x"})
    assert is_task_done(RequestFactory().get("/"), task_id="x").status_code == 200
    assert len(urls.urlpatterns) == 2


@row("task_status")
@of_urls("celery-task_status")
def test_a_page_asks_for_the_status_and_the_result(client: Client) -> None:
    backends.default().mark_as_done("x", {"entries": [1, None]})

    assert answer(client, "/celery/x/status/") == {
        "task": {"id": "x", "status": "DONE", "result": {"entries": [1, None]}}
    }
    assert answer(client, "/celery/z/status/") == {"task": {"id": "z", "status": "PENDING", "result": None}}
    assert reverse("celery-task_status", kwargs={"task_id": "x"}) == "/celery/x/status/"
    assert task_status(RequestFactory().get("/"), task_id="x").status_code == 200


@row("a failure is shown as data")
def test_a_failure_is_shown_as_data(client: Client) -> None:
    backends.default().mark_as_failure("x", KeyError("no such feed"))

    told = answer(client, "/celery/x/status/")["task"]

    assert (told["id"], told["status"]) == ("x", "FAILURE")
    assert told["result"] == {"type": "KeyError", "text": "'no such feed'"}


@row("a failure is shown as data")
@pytest.mark.parametrize("text", ["", "no JSON", '{"module": "os", "class": "system"}'])
def test_so_is_one_that_nobody_can_read(client: Client, text: str) -> None:
    TaskMeta.objects.create(task_id="x", status="FAILURE", result=text)

    assert answer(client, "/celery/x/status/")["task"]["status"] == "FAILURE"
