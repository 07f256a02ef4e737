"""celery/bin/celeryd.py: before anything starts, options are checked and places refused where no worker can work."""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import OperationalError, connection, connections
from pytest_django import Settings

from celery import backends, conf
from celery.bin import celeryd
from celery.bin.celeryd import MOST_CHILDREN, main, parse_options, preflight, run, worker_options
from celery.bin.preflight import warn_of_threads
from celery.bin.values import never_comes
from celery.broker import store
from celery.management.commands.celeryd import Command
from celery.platform import PIDFile
from celery.worker.health.listener import LONGEST_PATH
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

    def test_limits_and_recycling_are_in_the_settings_or_on_the_command_line(self, settings: Settings) -> None:
        # given
        settings.CELERYD_TASK_TIME_LIMIT = 30
        settings.CELERYD_TASK_SOFT_TIME_LIMIT = 20
        settings.CELERYD_MAX_TASKS_PER_CHILD = 100
        settings.CELERYD_MAX_MEMORY_PER_CHILD = 200_000

        # when
        of_settings = worker_options({})
        said = worker_options(
            {"time_limit": 3.5, "soft_time_limit": 2.5, "max_tasks_per_child": 7, "max_memory_per_child": 50_000}
        )

        # then
        assert (of_settings.time_limit, of_settings.soft_time_limit) == (30, 20)
        assert (of_settings.max_tasks, of_settings.max_memory) == (100, 200_000)
        assert (said.time_limit, said.soft_time_limit, said.max_tasks, said.max_memory) == (3.5, 2.5, 7, 50_000)

    def test_without_limits_there_are_none(self) -> None:
        options = worker_options({})

        assert (options.time_limit, options.soft_time_limit, options.max_tasks, options.max_memory) == (None,) * 4
        assert options.socket is None

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ({"time_limit": -1.0}, "--time-limit must be at least 0, not -1.0"),
            ({"time_limit": float("nan")}, "--time-limit must be at least 0, not nan"),
            ({"soft_time_limit": float("inf")}, "--soft-time-limit must be at most 315,360,000, not inf"),
            ({"max_tasks_per_child": 0}, "--max-tasks-per-child must be at least 1, not 0"),
            ({"max_memory_per_child": 5}, "the memory of a child is from 20480 to 315360000 KiB, not 5"),
            ({"max_memory_per_child": 2048}, "KiB, not 2048. For 2048 MiB write 2097152"),
            ({"max_memory_per_child": 10**9}, "KiB, not 1000000000"),
            ({"drain_timeout": -1.0}, "--drain-timeout must be at least 0, not -1.0"),
            ({"umask": "8"}, "'8' is no umask: write octal digits from 000 to 777, such as 022 or 027"),
            ({"log_format": "xml"}, "'xml' is no format of log lines: write json, or"),
            ({"log_format": "%(user)s %(message)s"}, "'%(user)s %(message)s' is no format of log lines: write json"),
            ({"log_format": "%(message)"}, "'%(message)' is no format of log lines: write json"),
            ({"socket": "x" * 200}, "the path of a socket has at most 107 bytes"),
        ],
    )
    def test_what_cannot_be_is_refused_with_what_can(self, given: dict[str, Any], text: str) -> None:
        with pytest.raises(CommandError, match=re.escape(text)):
            worker_options(given)

    def test_a_soft_limit_that_would_never_be_reached_is_refused(self, settings: Settings) -> None:
        settings.CELERYD_TASK_TIME_LIMIT = 10

        with pytest.raises(CommandError, match=r"the soft time limit \(10 s\) would never be reached: make it shorter"):
            worker_options({"soft_time_limit": 10.0})

    def test_the_path_of_a_socket_does_not_depend_on_the_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert worker_options({"socket": "celeryd.sock"}).socket == str(tmp_path / "celeryd.sock")

    def test_a_socket_may_have_a_path_as_long_as_the_kernel_takes(self) -> None:
        assert worker_options({"socket": "/" + "x" * (LONGEST_PATH - 1)}).socket
        with pytest.raises(CommandError, match=f"at most {LONGEST_PATH} bytes"):
            worker_options({"socket": "/" + "x" * LONGEST_PATH})

    @pytest.mark.parametrize(
        ("soft", "hard", "answer"),
        [(10, 10, True), (11, 10, True), (9.5, 10, False), (0, 10, False), (10, None, False)],
    )
    def test_a_soft_limit_never_comes_if_the_hard_one_is_not_later(
        self, soft: float | None, hard: float | None, answer: bool
    ) -> None:
        assert never_comes(soft, hard) is answer

    def test_the_help_tells_how_to_ask_a_worker_that_runs(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            parse_options(["--help"])
        of_script = " ".join(capsys.readouterr().out.split())
        of_command = " ".join(Command().create_parser("manage.py", "celeryd").format_help().split())

        assert "`celeryd --ping [--socket PATH]` asks a worker that runs whether it is well" in of_script
        assert "`celeryd --ping [--socket PATH]` asks a worker that runs whether it is well" in of_command

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

    def test_the_folder_of_the_project_comes_before_the_current_one(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        # given
        (tmp_path / "project").mkdir()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DJANGO_PROJECT_DIR", "project")
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.shop.settings")
        monkeypatch.setattr(celeryd, "call_command", lambda *_, **__: None)

        # when
        main([])

        # then
        assert sys.path[:2] == [str(tmp_path / "project"), str(tmp_path)]

    def test_a_project_that_is_nowhere_is_told_with_the_places_that_were_looked_at(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        # given
        def look() -> None:
            raise ModuleNotFoundError("No module named 'shop'", name="shop")

        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DJANGO_PROJECT_DIR", "/nonexistent")
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
        monkeypatch.setattr("django.setup", look)

        # then
        with pytest.raises(
            SystemExit, match=rf"no module named shop for .*'shop.settings' in /nonexistent, {tmp_path}:"
        ):
            main([])

    def test_a_module_that_the_project_misses_is_its_own_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # given
        def look() -> None:
            raise ModuleNotFoundError("No module named 'requests'", name="requests")

        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
        monkeypatch.setattr("django.setup", look)

        # then
        with pytest.raises(ModuleNotFoundError, match="requests"):
            main([])


class TestRun:
    """What becomes of the options before there is a worker; `run` is stopped where it would begin."""

    @pytest.fixture
    def begun(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
        """The arguments with which the log was opened."""
        found: list[Any] = []
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("celery.log.setup_logger", lambda *arguments: found.append(arguments))
        monkeypatch.setattr(celeryd, "_current_folder", self._stop)
        before = os.umask(0o022)
        yield found
        os.umask(before)

    @staticmethod
    def _stop() -> str:
        raise InterruptedError("that is enough")

    def _run(self, **options: Any) -> int:
        with pytest.raises(InterruptedError):
            run(options)
        found = os.umask(0o022)
        os.umask(found)
        return found

    def test_in_the_foreground_the_log_goes_to_standard_error_and_the_umask_stays(self, begun: list[Any]) -> None:
        mask = self._run()

        assert begun == [(None, None, conf.LOG_FORMAT)]
        assert mask == 0o022

    def test_a_daemon_has_the_log_of_the_settings(self, begun: list[Any], settings: Settings) -> None:
        settings.CELERYD_LOG_FILE = "of_settings.log"
        os.umask(0o002)

        mask = self._run(detach=True)

        assert begun == [(None, "of_settings.log", conf.LOG_FORMAT)]
        assert mask == 0o022

    def test_the_environment_stands_between_the_command_line_and_the_settings(
        self, begun: list[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        settings.CELERYD_LOG_FILE = "of_settings.log"
        settings.CELERYD_UMASK = 0o002
        for name, value in {"LOGFILE": "of_environment.log", "LOGLEVEL": "error", "UMASK": "077"}.items():
            monkeypatch.setenv(f"CELERYD_{name}", value)

        # then
        assert self._run(detach=True, loglevel="debug") == 0o077
        assert begun == [("debug", "of_environment.log", conf.LOG_FORMAT)]
        assert self._run(umask="027") == 0o027

    @pytest.mark.usefixtures("begun")
    def test_the_socket_is_in_the_folder_of_the_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A daemon is in / when it opens it."""
        # given
        looked_at: list[Any] = []

        def work(options: Any, *_: Any) -> int:
            looked_at.append(options)
            return 0

        monkeypatch.setattr(celeryd, "_current_folder", str)
        monkeypatch.setattr(celeryd, "_prepare", looked_at.append)
        monkeypatch.setattr(celeryd, "_held", lambda *_: None)
        monkeypatch.setattr(celeryd, "_work", work)

        # when
        run({"detach": True, "socket": "ping"})

        # then
        assert [options["socket"] for options in looked_at] == [str(tmp_path / "ping")] * 2

    def test_a_umask_of_the_settings_holds_in_the_foreground_too(self, begun: list[Any], settings: Settings) -> None:
        settings.CELERYD_UMASK = "027"

        assert self._run() == 0o027

    def test_a_daemon_does_not_reload(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CELERYD_AUTORELOAD", "1")

        with pytest.raises(CommandError, match="--autoreload is for development, in the foreground"):
            run({"detach": True})

    @pytest.mark.usefixtures("begun")
    def test_the_reloader_gets_the_time_to_drain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celery.bin.autoreload.run", lambda seconds: int(seconds * 10))

        assert run({"autoreload": True, "drain_timeout": 1.5}) == 15

    @pytest.mark.usefixtures("begun")
    def test_the_process_that_the_reloader_started_is_a_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUN_MAIN", "true")

        self._run(autoreload=True)

    def test_a_format_without_effect_is_told(
        self, begun: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("celery.log.is_the_projects", lambda: True)

        self._run(log_format="json", logfile="a.log")
        assert caplog.messages == []
        self._run(log_format="json")

        assert caplog.messages == [
            "--log-format has no effect: LOGGING configures the logger celery, and -f names no file."
        ]


class TestPrepare:
    """What is refused while there is a terminal that can be told."""

    @pytest.fixture(autouse=True)
    def refused(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The sockets that were looked at."""
        found: list[str] = []
        for name in ("preflight", "warn_of_threads"):
            monkeypatch.setattr(celeryd, name, lambda: None)
        monkeypatch.setattr("celery.mail.connect", lambda: None)
        monkeypatch.setattr("celery.worker.connections.prepare", lambda: None)
        monkeypatch.setattr("celery.worker.health.listener.refuse", found.append)
        return found

    def test_a_second_start_is_told_of_the_first_and_not_of_its_socket(
        self, refused: list[str], tmp_path: Path
    ) -> None:
        # given
        path = tmp_path / "celeryd.pid"
        first = PIDFile(path)
        first.write(4711)

        # then
        with pytest.raises(SystemExit, match="celeryd runs already with pid 4711"):
            celeryd._prepare({"pidfile": str(path), "socket": str(tmp_path / "socket")})
        assert refused == []
        assert path.read_text() == "4711\n"
        first.release()

    @pytest.mark.parametrize("has_pidfile", [True, False])
    def test_a_socket_is_looked_at_in_any_case(self, refused: list[str], tmp_path: Path, has_pidfile: bool) -> None:
        pidfile = str(tmp_path / "celeryd.pid") if has_pidfile else None

        celeryd._prepare({"pidfile": pidfile, "socket": str(tmp_path / "socket")})

        assert refused == [str(tmp_path / "socket")]


class TestTheFolder:
    """Where a worker starts anew after HUP."""

    def test_it_has_the_name_that_the_shell_has_for_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A deployment moves the link `current` to the folder of the next release."""
        # given
        (tmp_path / "first").mkdir()
        (tmp_path / "current").symlink_to("first")
        monkeypatch.chdir(tmp_path / "current")

        # then
        monkeypatch.setenv("PWD", str(tmp_path / "current"))
        assert celeryd._current_folder() == str(tmp_path / "current")

    @pytest.mark.parametrize("pwd", ["", ".", "/", "/nonexistent"])
    def test_a_name_that_leads_elsewhere_is_not_believed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pwd: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PWD", pwd)

        assert celeryd._current_folder() == str(tmp_path)

    def test_a_daemon_finds_code_from_there_as_it_leaves_for_another(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a task imports late; `python -c` has "" in its path."""
        # given
        became: list[Any] = []
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", ["", "shop", "/usr/lib"])
        monkeypatch.setattr(celeryd, "daemonize", lambda pidfile, *, umask: became.append((pidfile, umask)))

        # when
        celeryd._held({"detach": True, "pidfile": "a.pid"}, 0o027)

        # then
        assert sys.path == [str(tmp_path), str(tmp_path / "shop"), "/usr/lib"]
        assert became == [("a.pid", 0o027)]


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

    def test_of_several_tables_it_is_said_that_they_are_missing(self, tables: set[str]) -> None:
        tables -= {"celery_message", "celery_worker"}

        with pytest.raises(CommandError, match=r"^celery_message, celery_worker are missing in .*'default'"):
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
            raise OperationalError("connection refused\n\tIs the server running?\n")

        monkeypatch.setattr(connection.introspection, "table_names", refuse)

        # when
        preflight()

        # then
        assert "The database 'default' cannot be reached yet: connection refused Is the server running?" in caplog.text

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
        warn_of_threads()
    finally:
        end.set()
        thread.join()

    # then
    assert "do not run in child processes: " in caplog.text
    assert "poller" in caplog.text
