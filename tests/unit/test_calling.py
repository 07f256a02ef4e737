"""celery/calling.py: when a message is for, said as seconds or as a moment."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from celery.calling import moment

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 6, 1, 12)  # noqa: DTZ001 - naive on purpose


def test_nothing_said_is_no_moment() -> None:
    assert moment("eta", None) is None


@pytest.mark.parametrize("seconds", [0, 90, -5.5])
def test_seconds_count_from_now(seconds: float) -> None:
    before = datetime.now(UTC)

    found = moment("countdown", seconds)

    assert found is not None
    assert before <= found - timedelta(seconds=seconds) <= datetime.now(UTC)


def test_an_aware_moment_is_the_same_in_utc() -> None:
    assert moment("eta", NOON.replace(tzinfo=BERLIN)) == datetime(2026, 6, 1, 10, tzinfo=UTC)


def test_a_naive_moment_is_in_the_current_zone_of_django() -> None:
    with timezone.override(BERLIN):
        assert moment("eta", NOON) == datetime(2026, 6, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, TypeError), ("soon", TypeError), (float("nan"), ValueError), (1e300, OverflowError)],
)
def test_what_is_no_time_is_refused_by_its_name(value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^countdown is a number of seconds, not "):
        moment("countdown", value)
    with pytest.raises(kind, match=r"^expires is a number of seconds or a datetime, not "):
        moment("expires", value)
