"""celery/admin/filters.py: choices that cost nothing."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.options import IncorrectLookupParameters
from django.test import Client
from django.utils import timezone

from celery.admin import filters
from tests.unit.admin_pages import make_message, make_worker, root

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> Client:
    return root()


def choices(person: Client, model: str, title: str, **query: str) -> list[str]:
    changelist: Any = person.get(f"/admin/celery/{model}/", query).context["cl"]
    (spec,) = [spec for spec in changelist.filter_specs if spec.title == title]
    return [str(choice["display"]) for choice in spec.choices(changelist)]


def test_queues_are_the_default_one_and_those_of_workers(person: Client) -> None:
    make_worker("1", queues="mail,slow")
    make_message("a", queue="nobody takes from it")

    assert {"celery", "mail", "slow"} <= set(choices(person, "message", "queue"))
    assert "nobody takes from it" not in choices(person, "message", "queue")


def test_the_value_in_force_is_among_the_choices(person: Client) -> None:
    assert "elsewhere" in choices(person, "message", "queue", queue="elsewhere")


def test_workers_of_messages_are_told_apart_by_owner_and_those_of_results_by_name(person: Client) -> None:
    make_worker("1", name="host")
    make_worker("2", name="host")

    assert choices(person, "message", "worker").count("host") == 2
    assert choices(person, "taskmeta", "worker").count("host") == 1


def test_no_more_workers_are_read_than_needed(person: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "MOST_WORKERS", 2)
    for number in range(3):
        make_worker(f"{number}", name=f"host {number}")

    assert choices(person, "message", "worker") == ["All", "host 0", "host 1"]


def test_age_is_in_hours() -> None:
    moment = filters.since({"since": "24"})

    assert moment is not None
    assert abs(timezone.now() - timedelta(hours=24) - moment) < timedelta(minutes=1)
    assert filters.since({}) is None


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "1.5", "x", "9" * 5000, "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_an_age_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(IncorrectLookupParameters):
        filters.since({"since": value})
