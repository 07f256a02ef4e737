"""Starting celeryd in all the wrong ways, and looking at one that runs."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from celery.bin.celeryd import worker_options
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.project import Project
from tests.integration.worker import WorkerProcess, run_celeryd, run_command, run_python
from tests.servers.base import free_port
from tests.shop import tasks

SOON = 15.0


def test_a_missing_migration_is_named_and_ends_it(sqlite_place: Place, tmp_path: Path) -> None:
    # given
    empty = Place(kind="sqlite", database=str(tmp_path / "empty.sqlite3"), broker_url="django://", folder=tmp_path)

    # when
    ended = run_celeryd(empty)

    # then
    assert ended.returncode == 1
    assert "missing in DATABASES['default']: run `manage.py migrate` first." in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-c", "0"], "the number of children is from 1 to 1000, not 0"),
        (["-c", "-1"], "the number of children is from 1 to 1000, not -1"),
        (["-c", "1001"], "the number of children is from 1 to 1000, not 1001"),
        (["-c", "many"], "invalid int value: 'many'"),
        (["-l", "LOUD"], "LOUD is no log level: choose one of DEBUG"),
        (["-Q", " , "], "-Q names no queue"),
        (["-Q", "mail," + "x" * 300], "-Q names a queue that cannot be: 'xxx"),
        (["-Q", "lone\udcff"], "-Q names a queue that cannot be: 'lone"),
        (["-f", "/nonexistent/celeryd.log"], "/nonexistent/celeryd.log"),
        (["-p", "/nonexistent/celeryd.pid"], "the pid file /nonexistent/celeryd.pid cannot be written"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_option_ends_it_with_a_sentence(sqlite_place: Place, options: list[str], words: str) -> None:
    # when
    ended = run_celeryd(sqlite_place, *options)

    # then
    assert ended.returncode in {1, 2}
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("queues", ["mail\0", "\ud800", "x" * 256, "celery,x\0y"])
def test_a_queue_that_no_database_could_keep_is_refused(queues: str) -> None:
    with pytest.raises(CommandError, match="-Q names a queue that cannot be: "):
        worker_options({"queues": queues})


@pytest.mark.parametrize("children", [1, 1000])
def test_from_one_to_a_thousand_children_are_possible(children: int) -> None:
    assert worker_options({"concurrency": children}).children == children


def test_the_console_script_runs_the_checks_of_the_project(sqlite_place: Place) -> None:
    # given
    code = "from celery.bin.celeryd import main; main(['-c', '1'])"

    # when
    ended = run_python(sqlite_place, "-c", code, settings={"ROOT_URLCONF": "tests.integration.no_such_module"})

    # then
    assert ended.returncode == 1
    assert "no_such_module" in ended.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"CELERY_BROKER_URL": "carrier-pigeon://home"}, "carrier-pigeon"),
        ({"CELERY_BROKER_URL": "django://elsewhere"}, "elsewhere"),
        ({"CELERYD_CONCURRENCY": "four"}, "CELERYD_CONCURRENCY"),
        ({"CELERYD_DRAIN_TIMEOUT": "soon"}, "CELERYD_DRAIN_TIMEOUT"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_setting_ends_it_with_a_sentence(sqlite_place: Place, settings: dict[str, str], words: str) -> None:
    # when
    ended = run_celeryd(sqlite_place, settings=settings)

    # then
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_two_workers_cannot_have_one_pid_file(sqlite_place: Place) -> None:
    # given
    with WorkerProcess(sqlite_place) as worker:
        # when
        ended = run_celeryd(sqlite_place, "-p", str(worker.pidfile))

        # then
        assert ended.returncode == 1
        assert f"celeryd runs already with pid {worker.pid}" in ended.stderr
        assert int(worker.pidfile.read_text()) == worker.pid
        assert worker.stop() == 0
        assert not worker.pidfile.exists()


def test_two_workers_are_started_in_one_folder(sqlite_place: Place) -> None:
    """In the foreground nothing is written there: no log, and no pid file that the second would trip over."""
    # given
    project = Project(sqlite_place)
    home = project.folder.parent / "home"
    home.mkdir()

    # when
    with project.running("-c", "1", cwd=home), project.running("-c", "1", cwd=home):
        project.wait_until_ready(times=2)

        # then
        assert project.ask() == "first"
        assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CELERYD_CONCURRENCY", "many", "CELERYD_CONCURRENCY = 'many' in the environment: write a whole number"),
        ("CELERYD_NO_BEAT", "perhaps", "CELERYD_NO_BEAT = 'perhaps' in the environment: write 1, yes or true"),
        ("CELERYD_UMASK", "999", "CELERYD_UMASK = '999' in the environment: '999' is no umask"),
    ],
)
def test_a_bad_value_in_the_environment_ends_it_with_a_sentence(
    sqlite_place: Place, variable: str, value: str, words: str
) -> None:
    # given
    variables: dict[str, Any] = {variable: value}

    # when
    ended = Project(sqlite_place).run(**variables)

    # then
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"celeryd: {words}")
    assert "Traceback" not in ended.stderr


def test_a_misspelt_variable_is_told_and_those_of_kubernetes_are_not(sqlite_place: Place) -> None:
    # given
    project = Project(sqlite_place)
    others: dict[str, Any] = {"CELERYD_PORT": "tcp://10.0.0.1:80", "CELERYD_SERVICE_HOST": "10.0.0.1"}

    # when
    with project.running("-c", "1", CELERYD_LOG_LEVEL="DEBUG", **others):
        project.wait_until_ready()

    # then
    assert project.said("in the environment says nothing to celeryd") == 1
    assert project.said("CELERYD_LOG_LEVEL in the environment says nothing to celeryd. Do you mean CELERYD_LOGLEVEL?")


def test_hup_keeps_environment_and_options_and_takes_new_code(sqlite_place: Place) -> None:
    # given
    project = Project(sqlite_place)
    with project.running("-c", "3", CELERYD_CONCURRENCY="2", CELERYD_NAME="gardener") as process:
        project.wait_until_ready()
        assert project.ask() == "first"

        # when
        project.answer("new code")
        process.send_signal(signal.SIGHUP)
        project.wait_until_ready(times=2)

        # then
        assert project.ask() == "new code"
        assert project.said(f"Worker gardener is ready: pid {process.pid}, 3 children") == 2


def test_hup_takes_the_release_that_the_link_leads_to(sqlite_place: Place) -> None:
    # given
    project = Project(sqlite_place)
    current, releases = project.folder.parent / "current", project.folder.parent
    shutil.copytree(project.folder, releases / "second")
    (releases / "second" / "garden" / "tasks.py").write_text(project.tasks.read_text().replace("first", "second"))
    current.symlink_to(project.folder)
    environment = {"PWD": str(current), "DJANGO_PROJECT_DIR": ""}
    with project.running("-c", "1", cwd=current, **environment) as process:
        project.wait_until_ready()
        assert project.ask() == "first"

        # when
        current.unlink()
        current.symlink_to(releases / "second")
        process.send_signal(signal.SIGHUP)
        project.wait_until_ready(times=2)

        # then
        assert project.ask() == "second"


def test_a_stale_pid_file_is_no_obstacle(sqlite_place: Place) -> None:
    # given
    worker = WorkerProcess(sqlite_place)
    worker.pidfile.write_text("1\n")

    # when
    with worker:
        # then
        assert int(worker.pidfile.read_text()) == worker.pid


def test_a_pid_file_is_free_as_soon_as_its_worker_was_killed(sqlite_place: Place) -> None:
    # given
    with WorkerProcess(sqlite_place) as worker:
        worker.process.kill()
        worker.process.wait()

    # when
    with WorkerProcess(sqlite_place) as worker:
        # then
        assert int(worker.pidfile.read_text()) == worker.pid


@pytest.mark.postgres
def test_a_database_that_cannot_be_reached_at_the_start_is_waited_for(sqlite_place: Place, tmp_path: Path) -> None:
    # given
    folder = tmp_path / "away"
    folder.mkdir()
    address = f"postgres://celery@127.0.0.1:{free_port()}/nowhere"
    away = Place(kind="postgresql", database=address, broker_url="django://", folder=folder)
    worker = WorkerProcess(away)

    # when
    worker.start()
    try:
        # then
        eventually(lambda: worker.said("cannot be reached yet"), within=SOON)
        eventually(lambda: worker.said("The broker is not reachable; trying until it is"), within=SOON)
        assert worker.stop(within=10) == 0
    finally:
        worker.abandon()


@pytest.mark.rabbitmq
@pytest.mark.postgres
def test_a_broker_that_cannot_be_reached_at_the_start_is_waited_for(postgres_place: Place) -> None:
    # given
    away = Place(
        kind="rabbitmq",
        database=postgres_place.database,
        broker_url=f"amqp://guest:guest@127.0.0.1:{free_port()}//",
        folder=postgres_place.folder,
    )
    worker = WorkerProcess(away)

    # when
    worker.start()
    try:
        # then
        eventually(lambda: worker.said("The broker is not reachable; trying until it is"), within=SOON)
        assert worker.stop(within=10) == 0
    finally:
        worker.abandon()


def test_the_status_shows_what_runs(place: Place) -> None:
    # given
    with WorkerProcess(place, name="on-show") as worker:
        tasks.add.delay(1, 1).get(timeout=SOON)
        tasks.add.apply_async((1, 1), countdown=3600)
        tasks.add.apply_async((1, 1), queue=f"{place.queue}-elsewhere") if not place.is_relaying else None

        # when
        shown = run_command(place, "celery_status", "--json")

        # then
        assert shown.returncode == 0, shown.stderr
        status = json.loads(shown.stdout)
        (row,) = status["workers"]
        assert (row["name"], row["pid"], row["children"], row["queues"]) == ("on-show", worker.pid, 2, [place.queue])
        assert status["scheduled"]["count"] == 1
        assert status["dead"] == status["outbox"] == 0
        assert {queue["name"]: queue["depth"] for queue in status["queues"]}[place.queue] == 0
        assert status["error"] is None
