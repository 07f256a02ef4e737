"""celery/admin/periodic.py: what the list of periodic tasks shows, and sending one beside its schedule."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE
from django.test import Client
from pytest_django import Settings

from celery.admin.periodic import in_words
from celery.exceptions import BrokerUnreachable
from celery.models import Message, PeriodicTaskMeta
from celery.registry import tasks
from celery.schedules import Schedule, crontab, every
from celery.task import periodic_task
from tests.unit.admin_pages import XSS, act, later, listed, log, make_result, root, said, text_of

pytestmark = pytest.mark.django_db

NAME = "shop.tasks.sweep"


class Odd(Schedule):
    """A schedule of a project's own, which fails."""

    def latest(self, now: datetime) -> datetime:
        return now

    def following(self, moment: datetime) -> datetime:
        raise RuntimeError(f"{XSS} after {moment}")

    def __str__(self) -> str:
        raise RuntimeError(XSS)


@pytest.fixture
def person() -> Client:
    return root()


def sweep() -> None:
    """Do nothing."""


def define(run_every: Any) -> None:
    periodic_task(run_every=run_every, name=NAME)(sweep)


def make(name: str = NAME, **fields: Any) -> PeriodicTaskMeta:
    made: PeriodicTaskMeta = PeriodicTaskMeta.objects.create(name=name, **fields)
    return made


def page(person: Client, row: PeriodicTaskMeta) -> str:
    return text_of(person.get(f"/admin/celery/periodictaskmeta/{row.pk}/change/"))


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (every(30), "every 30 s"),
        (every(timedelta(days=1)), "every 1 d"),
        (crontab("*/10 * * * *"), "Every 10th minute of every hour (UTC)"),
        (crontab(0, 3, timezone="Europe/Berlin"), "At 03:00 every day (Europe/Berlin)"),
    ],
)
def test_a_schedule_is_told_in_words(schedule: Schedule, words: str) -> None:
    assert in_words(schedule) == words


def test_a_schedule_without_words_is_told_by_its_class() -> None:
    assert in_words(Odd()) == "Odd without a text: RuntimeError"


class TestTheList:
    def test_it_is_by_name(self, person: Client) -> None:
        make("b")
        make("a")

        assert listed(person, "periodictaskmeta") == ["a", "b"]
        assert listed(person, "periodictaskmeta", q="b") == ["b"]

    def test_a_row_tells_when_it_was_due_and_will_be(self, person: Client) -> None:
        define(crontab("0 0 1 1 *"))
        make(last_run_at=datetime(2026, 1, 1, tzinfo=UTC), total_run_count=3)

        seen = text_of(person.get("/admin/celery/periodictaskmeta/"))

        assert "At 00:00 on January 1 (UTC)" in seen
        assert "2026-01-01 00:00:00," in seen
        assert f"{datetime.now(UTC).year + 1}-01-01 00:00:00, in " in seen

    def test_one_that_was_never_due_says_so(self, person: Client) -> None:
        define(30)

        assert "never" in page(person, make(last_run_at=later(hours=-1)))

    def test_one_that_is_not_known_here_says_so(self, person: Client) -> None:
        assert "not registered in this process" in page(person, make("shop.tasks.gone"))

    def test_a_schedule_that_fails_fails_alone(self, person: Client) -> None:
        define(Odd())

        seen = page(person, make())

        assert "cannot be told: RuntimeError" in seen
        assert b"<script>alert" not in person.get("/admin/celery/periodictaskmeta/").content

    def test_last_results_are_linked_and_asked_for_together(
        self, person: Client, django_assert_max_num_queries: Any
    ) -> None:
        for number in range(20):
            make(f"task {number}", last_task_id=f"id {number}", total_run_count=1)
        stored = make_result("id 7", status="FAILURE")

        with django_assert_max_num_queries(12):
            seen = text_of(person.get("/admin/celery/periodictaskmeta/"))

        assert f'<a href="/admin/celery/taskmeta/{stored.pk}/change/">FAILURE</a>' in seen
        assert seen.count("none yet") == 19

    def test_where_results_are_elsewhere_the_id_is_shown(self, person: Client, settings: Settings) -> None:
        settings.CELERY_BACKEND = "cache"
        make(last_task_id="id-7")

        assert ">id-7<" in text_of(person.get("/admin/celery/periodictaskmeta/"))

    def test_a_task_that_no_worker_has_seen_is_named(self, person: Client) -> None:
        define(30)

        seen = text_of(person.get("/admin/celery/periodictaskmeta/"))

        assert "no worker has looked at them yet" in seen
        assert NAME in seen


class TestRunNow:
    def test_it_is_sent_beside_its_schedule(self, person: Client) -> None:
        define(3600)
        row = make(total_run_count=3, last_task_id="the last one")

        act(person, "periodictaskmeta", "run_now", row)

        sent = Message.objects.get()
        assert sent.task == NAME
        assert said(person, "periodictaskmeta") == [f"Sent: {NAME}, as task {sent.task_id}."]
        row.refresh_from_db()
        assert (row.total_run_count, row.last_task_id) == (3, "the last one")

    def test_it_is_logged(self, person: Client) -> None:
        define(3600)

        act(person, "periodictaskmeta", "run_now", make())

        ((name, flag, text),) = log()
        assert NAME in name
        assert (flag, text) == (CHANGE, f"Sent beside its schedule, as task {Message.objects.get().task_id}.")

    def test_one_that_cannot_be_sent_keeps_no_other(self, person: Client) -> None:
        define(3600)
        rows = make("shop.tasks.gone"), make()

        act(person, "periodictaskmeta", "run_now", *rows)

        wrong, right = said(person, "periodictaskmeta")
        assert wrong.startswith("Not sent: shop.tasks.gone: no task named 'shop.tasks.gone'")
        assert right.startswith(f"Sent: {NAME}")
        assert len(log()) == 1

    def test_a_broker_that_is_away_is_told(self, person: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise BrokerUnreachable("nobody answers")

        define(3600)
        monkeypatch.setattr(type(tasks[NAME]), "delay", refuse)

        act(person, "periodictaskmeta", "run_now", make())

        assert said(person, "periodictaskmeta") == [f"Not sent: {NAME}: nobody answers"]


def test_a_name_is_escaped(person: Client) -> None:
    row = make(XSS, last_task_id=XSS)

    for address in ("", f"{row.pk}/change/", f"{row.pk}/history/"):
        assert b"<script>alert" not in person.get(f"/admin/celery/periodictaskmeta/{address}").content
