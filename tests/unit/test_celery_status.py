import json
from datetime import timedelta
from io import StringIO
from typing import Any, NoReturn

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from celery import broker
from celery.broker import store
from celery.broker.base import Broker
from celery.exceptions import BrokerUnreachable
from celery.models import Message, Worker

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


class Rabbit(Broker):
    """A broker outside the database."""

    relays = True

    def __init__(self, depths: dict[str, int]) -> None:
        super().__init__("rabbit://")
        self.asked: list[str] = []
        self._depths = depths

    def depth(self, queue: str) -> int:
        self.asked.append(queue)
        return self._depths[queue]


class Unreachable(Rabbit):
    def depth(self, queue: str) -> NoReturn:
        self.asked.append(queue)
        raise BrokerUnreachable("connection refused")


def message(**fields: Any) -> None:
    number = Message.objects.count()
    Message.objects.create(**{"task_id": f"id {number}", "task": "shop.pay", "queue": "celery", "body": b""} | fields)


def work(**fields: Any) -> None:
    row = {"owner": "a" * 32, "name": "w@host", "pid": 42, "queues": "celery,mail", "concurrency": 4, "lease": 30}
    Worker.objects.create(**row | fields)


def celery_status(*arguments: str) -> str:
    output = StringIO()
    call_command("celery_status", *arguments, stdout=output)
    return output.getvalue()


def status() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(celery_status("--json"))
    return answer


def use(monkeypatch: pytest.MonkeyPatch, rabbit: Rabbit) -> Rabbit:
    monkeypatch.setattr(broker, "current", lambda: rabbit)
    return rabbit


class TestQueuesInTheDatabase:
    def test_an_empty_default_queue_is_shown(self, settings: Settings) -> None:
        settings.CELERY_AMQP_CONSUMER_QUEUE = "shop"

        assert status()["queues"] == [{"name": "shop", "depth": 0, "oldest": None}]

    def test_depth_and_age_of_the_oldest_are_of_the_ready_messages(self) -> None:
        message(created_at=timezone.now() - MINUTE)
        message(created_at=timezone.now() - 3 * MINUTE)
        message(created_at=timezone.now() - 9 * MINUTE, dead_at=timezone.now())
        message(created_at=timezone.now() - 9 * MINUTE, owner="a" * 32)
        message(created_at=timezone.now() - 9 * MINUTE, visible_at=timezone.now() + MINUTE)

        (queue,) = status()["queues"]

        assert (queue["name"], queue["depth"]) == ("celery", 2)
        assert queue["oldest"] == pytest.approx(180, abs=30)

    def test_queues_of_messages_and_of_workers_are_shown_by_name(self) -> None:
        message(queue="fast")
        work(queues="celery,mail")

        assert [(queue["name"], queue["depth"]) for queue in status()["queues"]] == [
            ("celery", 0),
            ("fast", 1),
            ("mail", 0),
        ]


class TestWorkers:
    def test_one_is_described(self) -> None:
        now = timezone.now()
        work(started_at=now - MINUTE, seen_at=now - timedelta(seconds=7))

        (worker,) = status()["workers"]

        assert worker | {"seen": 0, "started": ""} == {
            "name": "w@host",
            "pid": 42,
            "queues": ["celery", "mail"],
            "children": 4,
            "started": "",
            "seen": 0,
            "is_silent": False,
        }
        assert worker["seen"] == pytest.approx(7, abs=30)
        assert worker["started"] == (now - MINUTE).isoformat(timespec="seconds")

    def test_a_clock_that_runs_ahead_is_not_shown_as_a_negative_age(self) -> None:
        work(seen_at=timezone.now() + MINUTE)

        assert status()["workers"][0]["seen"] == 0


class TestCounts:
    def test_the_schedule_tells_its_size_and_its_next_moment(self) -> None:
        due = timezone.now() + MINUTE
        message(visible_at=due)
        message(visible_at=due + MINUTE)
        message(visible_at=due - 9 * MINUTE, dead_at=timezone.now())

        assert status()["scheduled"] == {"count": 2, "next_due": due.isoformat(timespec="seconds")}

    def test_an_empty_schedule_has_no_next_moment(self) -> None:
        assert status()["scheduled"] == {"count": 0, "next_due": None}

    def test_the_dead_are_counted(self) -> None:
        message(dead_at=timezone.now())

        assert status()["dead"] == 1

    def test_where_the_database_is_the_queue_there_is_no_outbox(self) -> None:
        message()

        assert status()["outbox"] == 0


class TestAnotherBroker:
    def test_it_is_asked_for_the_default_queue_and_those_of_workers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use(monkeypatch, Rabbit({"celery": 5, "mail": 0}))
        work()

        assert status()["queues"] == [
            {"name": "celery", "depth": 5, "oldest": None},
            {"name": "mail", "depth": 0, "oldest": None},
        ]

    def test_what_waits_to_be_published_is_the_outbox(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use(monkeypatch, Rabbit({"celery": 0}))
        now = timezone.now()
        message()
        message(visible_at=now - MINUTE)
        message(visible_at=now - MINUTE, owner="a" * 32)
        message(visible_at=now + MINUTE)
        message(owner="a" * 32)
        message(dead_at=now)

        answer = status()

        assert (answer["outbox"], answer["scheduled"]["count"], answer["dead"]) == (3, 1, 1)


class TestABrokerThatDoesNotAnswer:
    @pytest.fixture(autouse=True)
    def rabbit(self, monkeypatch: pytest.MonkeyPatch) -> Rabbit:
        work()
        message(dead_at=timezone.now())
        return use(monkeypatch, Unreachable({}))

    def test_it_is_an_error_that_says_so(self) -> None:
        with pytest.raises(CommandError, match="the broker does not answer: connection refused") as caught:
            celery_status()

        assert caught.value.returncode == 1

    @pytest.mark.parametrize("arguments", [[], ["--json"]])
    def test_the_rest_is_shown(self, arguments: list[str]) -> None:
        output = StringIO()

        with pytest.raises(CommandError):
            call_command("celery_status", *arguments, stdout=output)

        assert "w@host" in output.getvalue()
        assert "dead" in output.getvalue()

    def test_json_holds_the_error_too(self) -> None:
        output = StringIO()

        with pytest.raises(CommandError):
            call_command("celery_status", "--json", stdout=output)

        answer = json.loads(output.getvalue())
        assert answer["error"] == "the broker does not answer: connection refused"
        assert [queue["depth"] for queue in answer["queues"]] == [None, None]

    def test_it_is_asked_only_once(self, rabbit: Rabbit) -> None:
        with pytest.raises(CommandError):
            celery_status()

        assert len(rabbit.asked) == 1


class TestForPeople:
    def test_an_idle_project(self) -> None:
        assert celery_status() == (
            "queue   depth  oldest\ncelery  0      -\n\nNo worker runs.\n\nscheduled: 0\noutbox: 0\ndead: 0\n"
        )

    def test_a_busy_project(self) -> None:
        now = timezone.now()
        message(created_at=now - timedelta(hours=26))
        message(visible_at=now + MINUTE)
        message(dead_at=now)
        work(seen_at=now)

        queues, workers, counts = celery_status().split("\n\n")

        assert queues.splitlines()[1].startswith("celery  1      1 day, 2:00:")
        assert workers.splitlines()[1].startswith("w@host  42   celery,mail  4         ")
        assert counts.startswith(
            f"scheduled: 1, next at {(now + MINUTE).isoformat(timespec='seconds')}\noutbox: 0\ndead: 1, see"
        )


def test_missing_tables_are_answered_with_the_command_to_run() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE celery_worker RENAME TO elsewhere")

    with pytest.raises(CommandError, match=r"run `manage\.py migrate`"):
        celery_status()


def test_a_database_that_cannot_be_used_is_a_sentence_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> NoReturn:
        raise OperationalError("connection refused\n")

    monkeypatch.setattr(type(store.of("default")), "next_due", refuse)

    with pytest.raises(CommandError, match=r"^the database DATABASES\['default'\] cannot be used: connection refused$"):
        celery_status()
