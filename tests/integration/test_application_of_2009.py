"""An application written for Celery 0.2 runs on a real celeryd: tests/feeds, unchanged but for Python 3."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client, override_settings

from celery.models import PeriodicTaskMeta, TaskMeta
from celery.registry import tasks as registered
from celery.result import AsyncResult, TaskSetResult
from celery.task import TaskSet, delay_task, is_done
from tests.feeds import tasks as feeds
from tests.helpers import eventually
from tests.integration.worker import WorkerProcess

SOON = 15.0


@pytest.fixture(scope="module")
def shared_settings() -> dict[str, Any]:
    """The worker knows the application."""
    apps = ["celery", "tests.shop", "tests.feeds"]
    return {"INSTALLED_APPS": apps, "ROOT_URLCONF": "tests.feeds.urls", "CELERYD_BEAT": True}


@pytest.fixture(autouse=True)
def _urls() -> Iterator[None]:
    with override_settings(ROOT_URLCONF="tests.feeds.urls"):
        yield


def ask(client: Client, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200
    return json.loads(answer.content)["task"]


def test_a_view_starts_a_task_and_the_urls_tell_of_it(shared: WorkerProcess) -> None:
    # given
    client = Client()

    # when
    task_id = client.get("/update/", {"url": "http://example.com/feed"}).content.decode()

    # then
    eventually(lambda: ask(client, f"/celery/{task_id}/done/") == {"id": task_id, "executed": True}, within=SOON)
    assert ask(client, f"/celery/{task_id}/status/") == {
        "id": task_id,
        "status": "DONE",
        "result": {"url": "http://example.com/feed", "entries": 23, "task": "feeds.update_feed"},
    }
    assert is_done(task_id)
    assert TaskMeta.objects.get_task(task_id).status == "DONE"
    assert f"Updating feed http://example.com/feed for task {task_id}" in shared.text()


def test_apply_async_and_delay_task_take_what_they_took(shared: WorkerProcess) -> None:
    # when
    urgent = Client().get("/update-urgently/", {"url": "u"}).content.decode()
    counted = Client().get("/count/", {"text": "three small words"}).content.decode()

    # then
    assert AsyncResult(urgent).get(timeout=SOON)["entries"] == 1
    assert AsyncResult(counted).get(timeout=SOON) == 3
    assert delay_task("feeds.count_words", text="two words").get(timeout=SOON) == 2


def test_a_task_set_is_joined_in_the_order_of_its_calls(shared: WorkerProcess) -> None:
    # given
    urls = ["a" * length for length in range(1, 21)]

    # when
    result = TaskSet(feeds.UpdateFeedTask, args=[[[url], {}] for url in urls]).run()

    # then
    assert [value["entries"] for value in result.join(timeout=SOON)] == list(range(1, 21))
    assert result.successful()
    assert result.completed_count() == result.total == 20


def test_a_task_may_send_a_set_of_others(shared: WorkerProcess) -> None:
    # when
    taskset_id, subtask_ids = feeds.RefreshAllFeedsTask.delay(["x", "yy"]).get(timeout=SOON)

    # then
    values: list[Any] = TaskSetResult(taskset_id, subtask_ids).join(timeout=SOON)
    assert [value["url"] for value in values] == ["x", "yy"]


def test_a_task_that_retries_with_what_it_was_given_gets_through(shared: WorkerProcess) -> None:
    # when
    result = feeds.FetchFlakyFeedTask.delay("flaky", ledger_path=shared.place.ledger)

    # then
    assert result.get(timeout=SOON) == "fetched flaky"
    assert shared.place.executions()["fetch flaky"] == 3


def test_its_periodic_task_runs_by_the_clock(shared: WorkerProcess) -> None:
    # then
    eventually(lambda: shared.said("Counting clicks.") >= 2, within=SOON)
    meta = PeriodicTaskMeta.objects.get(name="feeds.count_clicks")
    assert meta.total_run_count >= 2
    assert registered.get_all_periodic()["feeds.count_clicks"] is meta.task
