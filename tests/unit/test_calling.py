"""celery/calling.py: when a message is for, said as seconds or as a moment."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import RFC_4122, UUID
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from celery.calling import moment, new_id

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


class TestIds:
    def test_an_id_is_a_uuid_of_version_7(self) -> None:
        found = UUID(new_id())

        assert found.version == 7
        assert found.variant == RFC_4122

    def test_those_of_one_millisecond_differ(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_123_456_789)

        assert len({new_id() for _ in range(1000)}) == 1000

    def test_later_ones_are_larger(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As text too, which is how they are stored."""
        moments = iter(range(1_800_000_000_000_000_000, 2_800_000_000_000_000_000, 10**16))
        monkeypatch.setattr(time, "time_ns", lambda: next(moments))

        found = [new_id() for _ in range(100)]

        assert found == sorted(found)

    def test_it_says_when_it_was_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_123_456_789)

        assert UUID(new_id()).int >> 80 == 1_800_000_000_123
