"""Moments as Django's fields take them and answer them, with USE_TZ on or off."""

from datetime import UTC, datetime
from typing import Final, overload

from django.conf import settings
from django.utils import timezone

#: Microseconds of the second of two moments that have one wall-clock time.
LATER: Final = 1


@overload
def as_stored(moment: datetime) -> datetime: ...
@overload
def as_stored(moment: None) -> None: ...
@overload
def as_stored(moment: datetime | None) -> datetime | None: ...
def as_stored(moment: datetime | None) -> datetime | None:
    """Return an aware moment as a DateTimeField takes it.

    Without USE_TZ it is a local time, to the second. Two moments have one such time in autumn: one microsecond marks
    the second of them.
    """
    if moment is None or settings.USE_TZ:
        return moment
    local = moment.astimezone(timezone.get_default_timezone())
    return local.replace(tzinfo=None, microsecond=LATER if local.fold else 0, fold=0)


@overload
def as_moment(value: datetime) -> datetime: ...
@overload
def as_moment(value: None) -> None: ...
@overload
def as_moment(value: datetime | None) -> datetime | None: ...
def as_moment(value: datetime | None) -> datetime | None:
    """Return what a DateTimeField answered as an aware moment; a naive one is of Django's default zone.

    The mark of `as_stored` decides, and not what the value says: PostgreSQL takes each local time of the repeated hour
    for the second one. Moments with other fractions of a second were not made by `as_stored`, and are believed.
    """
    if value is None or timezone.is_aware(value):
        return value
    marked = {0: value.replace(fold=0), LATER: value.replace(fold=1, microsecond=0)}.get(value.microsecond, value)
    return marked.replace(tzinfo=timezone.get_default_timezone()).astimezone(UTC)
