"""The load: what producers send, what they note, and that no server keeps them waiting."""

import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from django.db import connection

from tests.chaos import history, transactions
from tests.chaos.history import Event
from tests.chaos.kinds import KINDS
from tests.helpers import eventually
from tests.shop.daemon import ROOT


class Producing:
    """A producer with a SQLite file of its own, and nobody who works."""

    def __init__(self, folder: Path, broker: str = "django://") -> None:
        self.path = folder / "history"
        self._log = folder / "log"
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CELERY_BROKER_URL": broker,
            "SHOP_DATABASE": str(folder / "db.sqlite3"),
            "CHAOS_HISTORY": str(self.path),
        }
        self._run("-m", "django", "migrate", "--verbosity=0").wait()
        self.process = self._run("-m", "tests.chaos.producer", "p1", "7", "60", "300")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait()

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=self._environment, stdout=log, stderr=log)

    def events(self) -> list[Event]:
        return history.read(self.path) if self.path.exists() else []

    def asked(self, fact: str) -> defaultdict[str, list[str]]:
        """Return the tokens that were asked for, by their route or kind."""
        found = defaultdict[str, list[str]](list)
        for event in self.events():
            if event["event"] == "asked":
                found[event[fact]] += event["tokens"]
        return found

    def answered(self, *names: str) -> list[str]:
        """Return the tokens of which it is known what became of them."""
        return [token for event in self.events() if event["event"] in names for _, token in event["pairs"]]

    def end(self) -> int:
        """Ask it to end after the move in hand, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.slow
def test_a_producer_sends_tasks_of_every_kind_and_notes_what_became_of_each(tmp_path: Path) -> None:
    with Producing(tmp_path) as producing:
        eventually(lambda: len(producing.asked("kind")) > len(KINDS) / 2, within=60)

        assert producing.end() == 0
    asked = [token for tokens in producing.asked("kind").values() for token in tokens]
    assert len(set(asked)) == len(asked)
    assert sorted(producing.answered("confirmed", "rolled_back")) == sorted(asked)
    assert set(producing.asked("kind")) <= set(KINDS)


@pytest.mark.slow
def test_a_server_that_is_silent_does_not_keep_a_producer_waiting(tmp_path: Path, silent_server: int) -> None:
    with Producing(tmp_path, f"amqp://guest:guest@127.0.0.1:{silent_server}//") as producing:
        eventually(lambda: sum(event["event"] == "raised" for event in producing.events()) > 1, within=60)

        assert producing.end() == 0
    straight = {*producing.asked("route")["delay"], *producing.asked("route")["delay_many"]}
    assert straight
    assert not straight & {*producing.answered("confirmed")}


@pytest.mark.django_db(transaction=True)
class TestATransactionThatIsCommitted:
    def test_it_ends_without_a_word(self) -> None:
        with transactions.committed(), transactions.rolled_back():
            pass

    def test_one_that_django_rolled_back_in_silence_is_told(self) -> None:
        with pytest.raises(transactions.NotCommittedError), transactions.committed():
            connection.needs_rollback = True  # as after a savepoint that could not be rolled back

    def test_one_that_was_rolled_back_raises_nothing(self) -> None:
        with transactions.rolled_back():
            assert connection.in_atomic_block
        assert not connection.in_atomic_block
