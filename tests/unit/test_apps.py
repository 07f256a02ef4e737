"""celery/apps.py: SQLite connections are made fit for several processes, unless their OPTIONS speak for themselves."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker, Settings

Connecting = Callable[..., Any]


@pytest.fixture
def connecting(django_db_blocker: DjangoDbBlocker) -> Iterator[Connecting]:
    """Open a connection to a SQLite database of its own, with these OPTIONS."""
    opened = []

    def connect(**options: Any) -> Any:
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": options}
        connection = ConnectionHandler({"default": database})["default"]
        connection.ensure_connection()
        opened.append(connection)
        return connection

    with django_db_blocker.unblock():
        yield connect
        for connection in opened:
            connection.connection.close()  # a database in memory is kept open by Django's own close()


def _patience(connection: Any) -> int:
    """Return the milliseconds that it waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        return int(cursor.fetchone()[0])


def test_a_plain_connection_waits_for_its_turn(connecting: Connecting) -> None:
    connection = connecting()

    assert connection.transaction_mode == "IMMEDIATE"
    assert _patience(connection) == 20_000


def test_options_that_say_it_themselves_are_left_alone(connecting: Connecting) -> None:
    connection = connecting(transaction_mode="EXCLUSIVE", timeout=1.5)

    assert connection.transaction_mode == "EXCLUSIVE"
    assert _patience(connection) == 1_500


def test_each_option_speaks_for_itself_alone(connecting: Connecting) -> None:
    assert _patience(connecting(transaction_mode="EXCLUSIVE")) == 20_000
    assert connecting(timeout=1.5).transaction_mode == "IMMEDIATE"


def test_a_setting_forbids_it(connecting: Connecting, settings: Settings) -> None:
    # given
    settings.CELERY_SQLITE_TUNING = False

    # when
    connection = connecting()

    # then
    assert connection.transaction_mode is None
    assert _patience(connection) == 5_000
