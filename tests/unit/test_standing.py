"""celery/standing.py: where a message stands."""

from datetime import UTC, datetime
from itertools import product

import pytest

from celery import standing
from celery.models import Message
from tests.unit.admin_pages import make_message

STANDINGS = ("READY", "SCHEDULED", "IN_RELAY", "TAKEN", "DEAD")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("owner", "visible_at", "dead_at"), [*product([None, "me"], [None, NOW], [None, NOW])], ids=str
)
def test_each_message_stands_at_exactly_one_place(
    owner: str | None, visible_at: datetime | None, dead_at: datetime | None
) -> None:
    make_message(owner=owner, visible_at=visible_at, dead_at=dead_at)

    found = [name for name in STANDINGS if Message.objects.filter(getattr(standing, name)).exists()]

    living = {(None, None): "READY", (None, NOW): "SCHEDULED", ("me", NOW): "IN_RELAY", ("me", None): "TAKEN"}
    assert found == ["DEAD" if dead_at else living[owner, visible_at]]
    assert Message.objects.filter(standing.FREE).exists() == (owner is None)
