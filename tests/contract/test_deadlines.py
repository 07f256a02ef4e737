"""Questions that a server does not answer: broken off in the worker's own threads, left alone in those of tasks."""

import threading
import time
from collections.abc import Callable

import pytest
from django.db import OperationalError, connections, transaction

from celery.worker import deadlines
from tests.helpers import close_connections

#: A statement that takes seconds, by the vendor of the database.
SLEEP = {"postgresql": "SELECT pg_sleep({})", "mysql": "SELECT SLEEP({})"}
#: Seconds. The server goes on with what nobody waits for any more, and until then nothing in its database is cleared
#: away: other tests wait for that.
LONG = 10


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for an answer for one second."""
    monkeypatch.setattr(deadlines, "ANSWER", 1)
    options = {name: value | {"read_timeout": 1} for name, value in deadlines.OPTIONS.items()}
    monkeypatch.setattr(deadlines, "OPTIONS", options | {"postgresql": {"connect_timeout": 5}})


@pytest.fixture(params=["postgres", "mariadb"])
def alias(request: pytest.FixtureRequest, on_database: Callable[[str], str]) -> str:
    """The alias of a server. SQLite is none: its own timeout bounds every wait."""
    return on_database(request.param)


def in_a_thread(act: Callable[[], object]) -> BaseException | None:
    """Run `act` in a thread that has connections of its own, and return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            raised.append(error)
        finally:
            close_connections()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def ask(alias: str, seconds: float) -> list[tuple[object, ...]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(SLEEP[connections[alias].vendor].format(seconds))
        return list(cursor.fetchall())


class TestThreadOfTheWorker:
    def test_a_question_without_an_answer_fails_and_the_connection_is_made_anew(self, alias: str) -> None:
        def act() -> None:
            deadlines.apply_to_this_thread()
            before = time.monotonic()
            with pytest.raises(OperationalError):
                ask(alias, LONG)
            assert time.monotonic() - before < LONG - 2
            connections[alias].close()
            assert len(ask(alias, 0)) == 1

        assert in_a_thread(act) is None

    def test_one_inside_a_transaction_fails_in_the_same_way(self, alias: str) -> None:
        def act() -> None:
            deadlines.apply_to_this_thread()
            with pytest.raises(OperationalError), transaction.atomic(using=alias):
                ask(alias, LONG)
            connections[alias].close()
            with transaction.atomic(using=alias):
                assert len(ask(alias, 0)) == 1

        assert in_a_thread(act) is None

    def test_an_answer_in_time_is_an_answer(self, alias: str) -> None:
        def act() -> None:
            deadlines.apply_to_this_thread()
            assert len(ask(alias, 0.3)) == 1

        assert in_a_thread(act) is None


def test_a_thread_of_tasks_waits_as_long_as_it_likes(alias: str) -> None:
    assert in_a_thread(lambda: ask(alias, 1.5)) is None
