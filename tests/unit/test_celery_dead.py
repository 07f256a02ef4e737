import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from celery.models import Message

pytestmark = pytest.mark.django_db


def bury(*task_ids: str, **fields: Any) -> None:
    for task_id in task_ids:
        dead = {"task": "shop.pay", "queue": "celery", "body": b"{}", "dead_at": timezone.now(), "reason": "signal 9"}
        Message.objects.create(**dead | {"task_id": task_id, "crashes": 3} | fields)


def celery_dead(*arguments: str) -> str:
    output = StringIO()
    call_command("celery_dead", *arguments, stdout=output)
    return output.getvalue()


def listed(*arguments: str) -> list[str]:
    return [message["task_id"] for message in json.loads(celery_dead("list", "--json", *arguments))["messages"]]


def dead_ids() -> set[str]:
    return set(Message.objects.filter(dead_at__isnull=False).values_list("task_id", flat=True))


class TestList:
    def test_a_person_reads_a_table(self) -> None:
        bury("order-7")

        first, second = celery_dead("list").splitlines()

        assert first.split() == ["task", "id", "task", "queue", "attempt", "crashes", "dead", "since", "reason"]
        assert second.startswith("order-7  shop.pay  celery  1        3        ")
        assert second.endswith("signal 9")

    def test_none_are_said_to_be_none(self) -> None:
        assert celery_dead("list") == "No message is dead.\n"

    def test_a_program_reads_json(self) -> None:
        bury("order-7", attempt=2)

        answer = json.loads(celery_dead("list", "--json"))

        assert answer["total"] == 1
        assert answer["messages"][0] | {"dead_since": ""} == {
            "task_id": "order-7",
            "task": "shop.pay",
            "queue": "celery",
            "attempt": 2,
            "crashes": 3,
            "dead_since": "",
            "reason": "signal 9",
        }

    def test_none_are_json_too(self) -> None:
        assert json.loads(celery_dead("list", "--json")) == {"total": 0, "messages": []}

    def test_a_queue_may_be_chosen(self) -> None:
        bury("a", queue="mail")
        bury("b")

        assert listed("--queue", "mail") == ["a"]

    def test_a_task_may_be_chosen(self) -> None:
        bury("a", task="shop.ship")
        bury("b")

        assert listed("--task", "shop.ship") == ["a"]

    def test_a_limit_says_how_many_there_are(self) -> None:
        bury("a", "b", "c")

        assert listed("--limit", "2") == ["a", "b"]
        assert celery_dead("list", "--limit", "2").endswith("2 of 3 are shown; --limit shows more.\n")

    def test_a_negative_limit_is_refused(self) -> None:
        with pytest.raises(CommandError, match="--limit"):
            celery_dead("list", "--limit", "-1")

    def test_what_is_not_dead_is_not_shown(self) -> None:
        Message.objects.create(task_id="alive", task="shop.pay", queue="celery", body=b"")

        assert listed() == []

    def test_control_characters_of_a_message_do_not_reach_the_terminal(self) -> None:
        bury("a", reason="\x1b[2J\nsecond line\x07")

        output = celery_dead("list")

        assert output.count("\n") == 2
        assert output.replace("\n", "").isprintable()
        assert r"\x1b[2J\nsecond line\x07" in output

    def test_a_long_reason_is_cut(self) -> None:
        bury("a", reason="x" * 5000)

        assert max(map(len, celery_dead("list").splitlines())) < 300


class TestRequeue:
    def test_by_id(self) -> None:
        bury("a", "b", "c")

        assert celery_dead("requeue", "a", "c") == "Requeued 2 of 2 messages.\n"
        assert dead_ids() == {"b"}

    def test_all(self) -> None:
        bury("a", "b")

        assert celery_dead("requeue", "--all") == "Requeued 2 of 2 messages.\n"
        assert dead_ids() == set()

    def test_all_of_a_task(self) -> None:
        bury("a", task="shop.ship")
        bury("b")

        celery_dead("requeue", "--all", "--task", "shop.ship")

        assert dead_ids() == {"b"}

    def test_all_of_none(self) -> None:
        assert celery_dead("requeue", "--all") == "Requeued 0 of 0 messages.\n"

    def test_one_with_a_later_attempt_is_said_to_stay(self) -> None:
        bury("a")
        Message.objects.create(task_id="a", attempt=2, task="shop.pay", queue="celery", body=b"")

        output = celery_dead("requeue", "a")

        assert output == "Requeued 0 of 1 messages.\nThose left have a later attempt in the table already.\n"


class TestDrop:
    def test_by_id(self) -> None:
        bury("a", "b")

        assert celery_dead("drop", "a") == "Dropped 1 of 1 messages.\n"
        assert dead_ids() == {"b"}

    def test_all(self) -> None:
        bury("a", "b")
        Message.objects.create(task_id="alive", task="shop.pay", queue="celery", body=b"")

        assert celery_dead("drop", "--all") == "Dropped 2 of 2 messages.\n"
        assert Message.objects.get().task_id == "alive"


@pytest.mark.parametrize("action", ["requeue", "drop"])
class TestRefusals:
    def test_unknown_ids_are_named_and_nothing_is_changed(self, action: str) -> None:
        bury("a")

        with pytest.raises(CommandError, match="not dead, so nothing was changed: b, c"):
            celery_dead(action, "c", "a", "b")

        assert dead_ids() == {"a"}

    def test_a_message_that_is_alive_is_not_dead(self, action: str) -> None:
        Message.objects.create(task_id="alive", task="shop.pay", queue="celery", body=b"")

        with pytest.raises(CommandError, match="not dead, so nothing was changed: alive"):
            celery_dead(action, "alive")

    @pytest.mark.parametrize("arguments", [[], ["a", "--all"]])
    def test_ids_or_all_but_not_both_and_not_neither(self, action: str, arguments: list[str]) -> None:
        bury("a")

        with pytest.raises(CommandError, match=r"ids of tasks.*or --all"):
            celery_dead(action, *arguments)

        assert dead_ids() == {"a"}

    def test_a_task_without_all_is_refused(self, action: str) -> None:
        bury("a")

        with pytest.raises(CommandError, match="--task goes with --all"):
            celery_dead(action, "a", "--task", "shop.pay")


def test_without_an_action_the_actions_are_named() -> None:
    with pytest.raises(CommandError, match=r"list \| requeue \| drop"):
        celery_dead()


def test_missing_tables_are_answered_with_the_command_to_run() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE celery_message RENAME TO elsewhere")

    with pytest.raises(CommandError, match=r"run `manage\.py migrate`"):
        celery_dead("list")
