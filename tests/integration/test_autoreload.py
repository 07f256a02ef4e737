"""celeryd --autoreload: a developer edits the tasks of a project, and the worker runs the new ones."""

import os
import signal

import pytest

from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place
from tests.integration.project import SOON, Project
from tests.integration.worker import in_group

IMPORT = "from garden.helpers import ANSWER\nfrom"


@pytest.fixture
def project(sqlite_place: Place) -> Project:
    return Project(sqlite_place)


def test_a_change_of_a_task_is_run_by_the_next_worker(project: Project) -> None:
    # given
    with project.running("--autoreload", "-c", "1") as process:
        project.wait_until_ready()
        assert project.ask() == "first"

        # when
        project.answer("a new value")
        project.wait_until_ready(times=2)

        # then
        assert project.ask() == "a new value"
        assert project.said("tasks.py has changed: the worker starts anew.") == 1

        # when
        os.killpg(process.pid, signal.SIGINT)

        # then
        assert process.wait(SOON) == 0
        eventually(lambda: in_group(process.pid) == [], within=SOON)
        assert project.said("Traceback") == 0


def test_a_module_that_came_later_is_watched_too(project: Project) -> None:
    """The reloader has never imported it."""
    # given
    helpers = project.tasks.with_name("helpers.py")
    with project.running("--autoreload", "-c", "1"):
        project.wait_until_ready()
        helpers.write_text("ANSWER = 'of helpers'\n")
        project.tasks.write_text(project.tasks.read_text().replace("'first'", "ANSWER").replace("from", IMPORT, 1))
        project.wait_until_ready(times=2)
        assert project.ask() == "of helpers"

        # when
        helpers.write_text("ANSWER = 'of better helpers'\n")
        project.wait_until_ready(times=3)

        # then
        assert project.ask() == "of better helpers"


def test_a_syntax_error_is_waited_out(project: Project) -> None:
    # given
    with project.running("--autoreload", "-c", "1"):
        project.wait_until_ready()

        # when
        project.tasks.write_text("def value(:\n")

        # then
        eventually(lambda: project.said("The worker ended (exit code 1); it starts anew when a file changes."), SOON)
        assert project.said("SyntaxError") == 1

        # when
        project.answer("mended")
        project.wait_until_ready(times=2)

        # then
        assert project.ask() == "mended"


def test_a_running_task_is_given_back_and_runs_again(project: Project) -> None:
    # given
    place, gate = project.place, project.place.folder / "gate"
    with project.running("--autoreload", "-c", "1", CELERYD_DRAIN_TIMEOUT="0.3"):
        project.wait_until_ready()
        result = oddities.hold.delay(place.ledger, "held", str(gate))
        eventually(lambda: place.was_executed("held"), within=SOON)

        # when
        project.answer("a new value")
        eventually(lambda: place.executions() == {"held": 2}, within=SOON)
        gate.touch()

        # then
        assert result.get(timeout=SOON) == "held"
        assert project.ask() == "a new value"


def test_a_reloader_that_is_killed_takes_the_worker_along(project: Project) -> None:
    # given
    with project.running("--autoreload", "-c", "1") as process:
        project.wait_until_ready()
        assert len(in_group(process.pid)) == 5

        # when
        process.kill()

        # then
        process.wait()
        eventually(lambda: in_group(process.pid) == [], within=SOON)


def test_a_daemon_does_not_reload(project: Project) -> None:
    # when
    ended = project.run("--autoreload", "--daemon")

    # then
    assert ended.returncode == 1
    assert "--autoreload is for development, in the foreground: leave out --daemon, or it." in ended.stderr
    assert not list(project.folder.glob("celeryd.*"))
