"""celery/models.py: rows name themselves, for the admin pages and for logs; migrations make what is declared."""

import json
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection, models

from celery.models import Message, Overview, QueueDepth, TaskMeta, Throughput, Worker

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (TaskMeta(task_id="some id", status="DONE"), "<Task: some id done:DONE>"),
        (Message(task="shop.add", task_id="some id", attempt=2), "<Message: shop.add some id attempt:2>"),
        (Worker(name="w@host", pid=42), "<Worker: w@host pid:42>"),
        (
            Throughput(at=NOON, worker="w@host", done=3, failed=2, retried=1),
            "<Throughput: w@host 2026-11-22 12:00:00+00:00 done:3 failed:2 retried:1>",
        ),
        (QueueDepth(at=NOON, queue="mail", depth=3), "<QueueDepth: mail 2026-11-22 12:00:00+00:00 depth:3>"),
        (Overview(), "<Overview>"),
    ],
)
def test_a_row_names_itself(row: object, text: str) -> None:
    assert str(row) == text


@pytest.mark.django_db
def test_the_migrations_make_what_the_models_declare() -> None:
    output = StringIO()

    call_command("makemigrations", "celery", check=True, dry_run=True, stdout=output)

    assert output.getvalue() == "No changes detected in app 'celery'\n"


@pytest.mark.django_db
def test_the_overview_has_no_table_and_one_permission() -> None:
    assert "celery_overview" not in connection.introspection.table_names()
    assert [found.codename for found in Permission.objects.filter(content_type__model="overview")] == ["view_overview"]


@pytest.mark.parametrize("model", [TaskMeta, Message])
def test_indexes_with_conditions_are_no_warning_where_conditions_are_ignored(
    model: type[models.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.features, "supports_partial_indexes", False)

    assert model.check(databases=["default"]) == []


@pytest.mark.django_db
def test_dumpdata_passes_the_overview_by() -> None:
    """A model without a table of its own would break it for the whole project."""
    text = StringIO()

    call_command("dumpdata", "celery", stdout=text)

    assert json.loads(text.getvalue()) == []
