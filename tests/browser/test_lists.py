"""The lists in a real browser: a person looks for rows, and does something to them."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from celery import states
from celery.message import to_json
from celery.models import Message, PeriodicTaskMeta, TaskMeta
from tests.browser.conftest import Desk
from tests.helpers import eventually


@pytest.fixture
def messages(transactional_db: None) -> dict[str, Message]:
    """One that waits, one that is scheduled, and two dead ones, by their task ids."""
    now = timezone.now()
    fields: dict[str, dict[str, object]] = {
        "waiting": {},
        "scheduled": {"visible_at": now + timedelta(hours=1)},
        "dead-1": {"dead_at": now, "reason": "killed three times", "crashes": 3},
        "dead-2": {"dead_at": now, "reason": "killed three times", "crashes": 3, "task": "shop.refund"},
    }
    for task_id, more in fields.items():
        body = to_json({"task": "shop.pay", "id": task_id, "args": [4711], "kwargs": {}}).encode()
        Message.objects.create(**{"task_id": task_id, "task": "shop.pay", "queue": "celery", "body": body, **more})
    return {message.task_id: message for message in Message.objects.all()}


def ids(desk: Desk) -> set[str]:
    """Return the task ids of the list."""
    return set(desk.texts("#result_list tbody .field-task_id"))


def search(desk: Desk, term: str) -> None:
    desk.find("#searchbar").send_keys(term, Keys.ENTER)


def choose(desk: Desk, action: str, *rows: Message) -> None:
    """Tick rows and have an action done to them."""
    for row in rows:
        desk.find(f"input[name=_selected_action][value='{row.pk}']").click()
    Select(desk.find("select[name=action]")).select_by_value(action)
    desk.find("button[name=index]").click()


def said(desk: Desk, words: str) -> None:
    """Wait for a message of the admin."""

    def is_said() -> bool:
        assert words in " ".join(desk.texts(".messagelist li"))
        return True

    eventually(is_said)


def entries(flag: int) -> list[str]:
    """Return of whom Django's own log tells."""
    return sorted(LogEntry.objects.filter(action_flag=flag).values_list("object_repr", flat=True))


class TestLooking:
    def test_a_filter_shows_the_dead_alone(self, operator: Desk, messages: dict[str, Message]) -> None:
        operator.open("message/")
        assert ids(operator) == set(messages)

        operator.browser.find_element(By.LINK_TEXT, "dead").click()

        eventually(lambda: ids(operator) == {"dead-1", "dead-2"})

    @pytest.mark.parametrize(
        ("term", "found"),
        [("dead-2", {"dead-2"}), ("shop.re", {"dead-2"}), ("dead", {"dead-1", "dead-2"}), ("x", set())],
    )
    def test_a_search_finds_by_id_and_by_name(
        self, operator: Desk, messages: dict[str, Message], term: str, found: set[str]
    ) -> None:
        operator.open("message/")

        search(operator, term)

        eventually(lambda: ids(operator) == found)

    def test_a_result_is_found_and_its_page_tells_what_went_wrong(self, operator: Desk) -> None:
        # given
        for number in range(3):
            TaskMeta.objects.create(
                task_id=f"id-{number}",
                name="shop.pay",
                status=states.FAILURE if number == 1 else states.DONE,
                traceback="Traceback\nValueError: no <b>address" if number == 1 else "",
            )
        operator.open("taskmeta/")

        # when
        operator.browser.find_element(By.LINK_TEXT, "FAILURE").click()
        eventually(lambda: ids(operator) == {"id-1"})
        operator.browser.find_element(By.LINK_TEXT, "id-1").click()

        # then
        eventually(lambda: "ValueError: no <b>address" in operator.text())

    def test_the_page_of_a_message_shows_arguments_and_reason(
        self, operator: Desk, messages: dict[str, Message]
    ) -> None:
        operator.open(f"message/{messages['dead-1'].pk}/change/")

        assert "4711" in operator.text()
        assert "killed three times" in operator.text()


class TestRequeueing:
    def test_a_dead_message_becomes_a_new_attempt(self, operator: Desk, messages: dict[str, Message]) -> None:
        operator.open("message/?state=dead")

        choose(operator, "requeue", messages["dead-1"])

        said(operator, "1 message requeued")
        row = Message.objects.get(task_id="dead-1")
        assert (row.dead_at, row.attempt, row.crashes) == (None, 2, 0)
        assert Message.objects.get(task_id="dead-2").dead_at is not None
        assert [text for text in entries(CHANGE) if "dead-1" in text] == entries(CHANGE) != []

    def test_the_page_of_a_message_has_a_button_for_it(self, operator: Desk, messages: dict[str, Message]) -> None:
        operator.open(f"message/{messages['dead-2'].pk}/change/")

        operator.browser.find_element(By.XPATH, "//button[text()='Requeue']").click()

        said(operator, "1 message requeued")
        assert Message.objects.get(task_id="dead-2").attempt == 2


def test_a_scheduled_message_is_made_ready(operator: Desk, messages: dict[str, Message]) -> None:
    operator.open("message/?state=scheduled")

    choose(operator, "run_now", messages["scheduled"])

    said(operator, "1 message made ready")
    assert Message.objects.get(task_id="scheduled").visible_at is None
    assert len(entries(CHANGE)) == 1


class TestDropping:
    def test_asks_and_then_deletes(self, operator: Desk, messages: dict[str, Message]) -> None:
        # given
        operator.open("message/")

        # when: asked, nothing has happened yet
        choose(operator, "delete_selected", messages["dead-1"], messages["waiting"])
        eventually(lambda: operator.texts("h1") == ["Drop 2 messages?"])
        assert Message.objects.count() == 4
        operator.find("#content input[type=submit]").click()

        # then
        said(operator, "2 messages dropped")
        assert set(Message.objects.values_list("task_id", flat=True)) == {"scheduled", "dead-2"}
        assert len(entries(DELETION)) == 2
        assert TaskMeta.objects.get(task_id="waiting").status == states.FAILURE

    def test_does_nothing_for_those_who_think_better_of_it(self, operator: Desk, messages: dict[str, Message]) -> None:
        operator.open("message/?state=dead")
        choose(operator, "delete_selected", messages["dead-1"])
        eventually(lambda: operator.texts("h1") == ["Drop 1 message?"])

        operator.find("#content .cancel-link").click()

        eventually(lambda: ids(operator) == {"dead-1", "dead-2"})
        assert Message.objects.count() == 4

    @pytest.mark.usefixtures("messages")
    def test_is_not_offered_to_those_who_may_only_look(self, desk: Desk) -> None:
        # given
        user = User.objects.create_user("reader", "", "secret", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_message"))
        desk.log_in(user)

        # when
        desk.open("message/")

        # then
        assert len(ids(desk)) == 4
        assert desk.texts("select[name=action] option") in ([], ["---------"])


def test_a_periodic_task_runs_now(operator: Desk) -> None:
    # given
    row = PeriodicTaskMeta.objects.create(name="celery.delete_expired_task_meta")
    operator.open("periodictaskmeta/")

    # when
    operator.find(f"input[name=_selected_action][value='{row.pk}']").click()
    Select(operator.find("select[name=action]")).select_by_value("run_now")
    operator.find("button[name=index]").click()

    # then
    said(operator, "delete_expired_task_meta, as task")
    assert Message.objects.get().task == "celery.delete_expired_task_meta"
    assert len(entries(CHANGE)) == 1


def test_the_pages_of_actions_are_silent_under_the_strictest_policy(
    operator: Desk, messages: dict[str, Message]
) -> None:
    operator.open("message/")

    choose(operator, "delete_selected", messages["dead-1"])
    eventually(lambda: operator.texts("h1") == ["Drop 1 message?"])

    assert operator.browser.complaints() == []
    assert operator.browser.hosts() == {"127.0.0.1"}
