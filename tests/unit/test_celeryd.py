"""celery/bin/celeryd.py: before anything starts, options are checked and places refused where no worker can work."""

import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import OperationalError, connection, connections
from pytest_django import Settings

from celery import backends
from celery.bin import celeryd
from celery.bin.celeryd import MOST_CHILDREN, main, parse_options, preflight, worker_options
from celery.broker import store
from tests.memory_backend import MemoryBackend


class TestOptions:
    def test_what_is_not_said_is_in_the_settings(self, settings: Settings) -> None:
        settings.CELERYD_CONCURRENCY = 7
        settings.CELERY_AMQP_CONSUMER_QUEUE = "mail"
        settings.CELERYD_DRAIN_TIMEOUT = 3
        settings.CELERYD_BEAT = False

        options = worker_options({})

        assert (options.children, options.queues, options.drain_timeout, options.beat) == (7, ("mail",), 3.0, False)
        assert options.name

    def test_what_is_said_wins(self, settings: Settings) -> None:
        settings.CELERYD_CONCURRENCY = 7
        settings.CELERYD_BEAT = True

        options = worker_options({"concurrency": 2, "queues": " a, b,a ,,", "name": "w", "beat": False})

        assert (options.children, options.queues, options.name, options.beat) == (2, ("a", "b"), "w", False)

    def test_a_name_is_cut_to_what_its_column_takes(self) -> None:
        assert worker_options({"name": "w" * 300}).name == "w" * 255

    @pytest.mark.parametrize("number", [0, -1, MOST_CHILDREN + 1, "4"])
    def test_a_number_of_children_that_cannot_be_is_refused(self, number: Any) -> None:
        with pytest.raises(CommandError, match=f"from 1 to {MOST_CHILDREN}, not {number}"):
            worker_options({"concurrency": number})

    def test_a_level_that_there_is_not_is_refused_with_those_that_there_are(self) -> None:
        with pytest.raises(CommandError, match="LOUD is no log level: choose one of DEBUG, INFO"):
            worker_options({"loglevel": "loud"})

    @pytest.mark.parametrize(
        ("queues", "text"),
        [
            (",", "-Q names no queue"),
            ("a," + "b" * 300, "-Q names a queue that cannot be: 'bbb"),
            ("a\0b", "-Q names a queue that cannot be: 'a.x00b'"),
        ],
    )
    def test_queues_that_cannot_be_are_refused(self, queues: str, text: str) -> None:
        with pytest.raises(CommandError, match=text):
            worker_options({"queues": queues})

    def test_periodic_tasks_whose_state_can_be_kept_nowhere_are_refused(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        settings.CELERYD_BEAT = True
        settings.CELERY_PERIODIC_STATUS_BACKEND = "tests.memory_backend.MemoryBackend"

        # then
        with pytest.raises(CommandError, match=r"MemoryBackend' cannot keep the state .* start with --no-beat"):
            worker_options({})
        assert not worker_options({"beat": False}).beat

    def test_the_version_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            parse_options(["--version"])

        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith("celery ")


class TestMain:
    @pytest.fixture(autouse=True)
    def _path_as_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Forget the folders in which it looks for the project."""
        monkeypatch.setattr(sys, "path", list(sys.path))

    def test_without_settings_it_says_how_to_start_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DJANGO_SETTINGS_MODULE")

        with pytest.raises(SystemExit, match=r"set DJANGO_SETTINGS_MODULE, or start it as `manage.py celeryd`"):
            main([])

    @pytest.mark.parametrize("level", ["ERROR", logging.ERROR])
    def test_options_by_name_win_over_the_command_line(self, monkeypatch: pytest.MonkeyPatch, level: Any) -> None:
        # given
        called: list[Any] = []
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.shop.settings")
        monkeypatch.setattr(celeryd, "call_command", lambda command, **options: called.append((command, options)))

        # when
        main(["-c", "3", "-Q", "a"], queues="b", loglevel=level)

        # then
        ((command, options),) = called
        assert command == "celeryd"
        assert (options["concurrency"], options["queues"], options["loglevel"]) == (3, "b", "ERROR")

    def test_what_is_wrong_is_a_sentence_and_no_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # given
        def refuse(*_: Any, **__: Any) -> None:
            raise CommandError("no")

        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.shop.settings")
        monkeypatch.setattr(celeryd, "call_command", refuse)

        # then
        with pytest.raises(SystemExit, match=r"^celeryd: no$"):
            main([])


@pytest.mark.django_db
class TestPreflight:
    @pytest.fixture
    def tables(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
        """The tables that the database has: take some away."""
        found = set(connection.introspection.table_names())
        monkeypatch.setattr(connection.introspection, "table_names", lambda _: list(found))
        monkeypatch.setattr(connections, "close_all", lambda: None)  # this test's transaction is on one
        yield found
        monkeypatch.undo()

    @pytest.mark.usefixtures("tables")
    def test_a_database_with_our_tables_is_fine(self) -> None:
        preflight()

    @pytest.mark.parametrize("missing", ["celery_message", "celery_taskmeta"])
    def test_tables_that_are_missing_are_named_with_the_way_out(self, tables: set[str], missing: str) -> None:
        tables.remove(missing)

        with pytest.raises(CommandError, match=rf"^{missing} is missing in .*'default'.*: run `manage.py migrate`"):
            preflight()

    def test_where_results_live_elsewhere_their_table_is_not_missed(
        self, tables: set[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backends, "default", MemoryBackend)
        tables.remove("celery_taskmeta")

        preflight()

    def test_a_database_that_cannot_be_reached_now_is_waited_for(
        self, tables: set[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        # given
        def refuse(_: Any) -> list[str]:
            raise OperationalError("connection refused")

        monkeypatch.setattr(connection.introspection, "table_names", refuse)

        # when
        preflight()

        # then
        assert "The database 'default' cannot be reached yet: connection refused" in caplog.text

    @pytest.mark.usefixtures("tables")
    def test_a_database_that_is_too_old_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(store.of("default")), "shortcoming", lambda _: "MariaDB 10.5")

        with pytest.raises(CommandError, match=r"DATABASES\['default'\] is too old: MariaDB 10\.5\. Use"):
            preflight()

    def test_a_worker_for_tasks_that_run_where_they_are_sent_is_refused(self, settings: Settings) -> None:
        settings.CELERY_ALWAYS_EAGER = True

        with pytest.raises(CommandError, match="a worker gets nothing"):
            preflight()

    def test_a_worker_for_the_broker_of_tests_is_refused(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "memory://"

        with pytest.raises(CommandError, match=r"no message reaches a worker in another\. Use django://"):
            preflight()


def test_threads_of_imports_are_named_as_forked_processes_have_them_not(caplog: pytest.LogCaptureFixture) -> None:
    # given
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="poller")
    thread.start()

    # when
    try:
        celeryd._warn_of_threads()
    finally:
        end.set()
        thread.join()

    # then
    assert "do not run in child processes: " in caplog.text
    assert "poller" in caplog.text
