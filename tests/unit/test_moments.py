"""celery/moments.py: aware moments, and what Django's fields take."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pytest_django import Settings

from celery.moments import LATER, as_moment, as_stored

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 6, 1, 10, tzinfo=UTC)
#: When Berlin's clocks show 02:00 to 03:00 again.
REPEATED = datetime(2026, 10, 25, 1, tzinfo=UTC)


@pytest.fixture
def naive(settings: Settings) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"


def test_with_time_zones_a_moment_is_stored_as_it_is(settings: Settings) -> None:
    settings.USE_TZ = True
    moment = datetime(2026, 10, 25, 2, 30, 1, 234, tzinfo=BERLIN, fold=1)

    assert as_stored(moment) is moment
    assert as_moment(moment) is moment


@pytest.mark.usefixtures("naive")
class TestWithoutTimeZones:
    def test_it_is_local_and_to_the_second(self) -> None:
        assert as_stored(NOON + timedelta(seconds=1.5)) == datetime(2026, 6, 1, 12, 0, 1)  # noqa: DTZ001 - as it is stored

    @pytest.mark.parametrize("minutes", range(-180, 180, 15))
    def test_what_is_stored_is_the_same_moment_again(self, minutes: int) -> None:
        moment = REPEATED + timedelta(minutes=minutes)

        assert as_moment(as_stored(moment)) == moment

    def test_two_moments_of_one_local_time_are_stored_in_their_order(self) -> None:
        first, second = as_stored(REPEATED - timedelta(minutes=30)), as_stored(REPEATED + timedelta(minutes=30))

        assert second - first == timedelta(microseconds=LATER)

    def test_the_mark_is_believed_and_not_the_database(self) -> None:
        """PostgreSQL takes both for the second."""
        first = as_stored(REPEATED - timedelta(minutes=30))

        assert as_moment(first.replace(fold=1)) == REPEATED - timedelta(minutes=30)

    def test_the_database_is_believed_where_there_can_be_no_mark(self) -> None:
        value = datetime(2026, 10, 25, 2, 30, 0, 234, fold=1)  # noqa: DTZ001 - as it is stored

        assert as_moment(value) == REPEATED + timedelta(minutes=30, microseconds=234)

    def test_other_fractions_of_a_second_are_kept(self) -> None:
        value = datetime(2026, 6, 1, 12, 0, 1, 234)  # noqa: DTZ001 - as it is stored

        assert as_moment(value) == NOON + timedelta(seconds=1, microseconds=234)


def test_no_moment_is_none() -> None:
    assert (as_stored(None), as_moment(None)) == (None, None)
