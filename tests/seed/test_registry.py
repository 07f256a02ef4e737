"""celery.registry and celery.discovery: the tasks of this process, and how they are found."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test.utils import modify_settings

from celery import discovery, registry
from celery.registry import AlreadyRegistered, NotRegistered, TaskRegistry, tasks
from celery.task import PeriodicTask, Task, delay_task
from celery.testing import Worker
from tests.seed.table import rows_of

row = rows_of("celery.registry")
of_discovery = rows_of("celery.discovery")


class Regular(Task):
    name = "seed.regular"

    def run(self) -> str:
        return "ran"


class Hourly(PeriodicTask):
    name = "seed.hourly"
    run_every = 3600

    def run(self) -> None: ...


def function(x: int) -> int:
    return 2 * x


@pytest.fixture
def made() -> TaskRegistry:
    return TaskRegistry()


@row("tasks")
@pytest.mark.django_db
def test_the_registry_of_the_process_is_what_workers_look_into(bench: Worker) -> None:
    tasks.register(Regular)
    result = delay_task("seed.regular")
    bench.run()

    assert result.get() == "ran"


@row("TaskRegistry", "TaskRegistry.register", "register a class", "register an instance")
def test_classes_and_instances_are_registered_under_their_names(made: TaskRegistry) -> None:
    made.register(Regular)
    assert isinstance(made["seed.regular"], Regular)

    instance = Hourly()
    made.register(instance)
    made.register(Regular(), name="seed.other")

    assert made["seed.hourly"] is instance
    assert sorted(made) == ["seed.hourly", "seed.other", "seed.regular"]
    assert isinstance(made, dict)


@row("register a function", "TaskRegistry.register")
def test_a_function_gets_a_name_and_a_type(made: TaskRegistry) -> None:
    made.register(function, "seed.function")

    registered: Any = made["seed.function"]
    assert (registered.name, registered.type, registered(2)) == ("seed.function", "regular", 4)


@row("register task_name=")
def test_a_name_may_be_given_as_task_name(made: TaskRegistry) -> None:
    made.register(function, task_name="seed.function")

    assert made.get_task("seed.function") is function


@row("TaskRegistry.unregister", "TaskRegistry.NotRegistered")
def test_a_task_can_be_forgotten_by_itself_or_by_its_name(made: TaskRegistry) -> None:
    for given in (Regular, Regular(), "seed.regular"):
        made.register(Regular)
        made.unregister(given)
        assert made == {}

    with pytest.raises(made.NotRegistered):
        made.unregister("seed.regular")


@row("TaskRegistry.get_all", "TaskRegistry.filter_types", "TaskRegistry.get_all_regular")
@row("TaskRegistry.get_all_periodic")
def test_tasks_are_told_apart_by_their_type(made: TaskRegistry) -> None:
    for task in (Regular, Hourly):
        made.register(task)
    made.register(function, "seed.function")

    assert set(made.get_all()) == {"seed.regular", "seed.hourly", "seed.function"}
    assert made.get_all_regular() == made.filter_types("regular")
    assert set(made.get_all_regular()) == {"seed.regular", "seed.function"}
    assert set(made.get_all_periodic()) == set(made.filter_types(type="periodic")) == {"seed.hourly"}


@row("TaskRegistry.get_task", "NotRegistered")
def test_an_unknown_name_is_an_error(made: TaskRegistry) -> None:
    made.register(Regular)

    assert made.get_task("seed.regular") is made["seed.regular"]
    for ask in (made.get_task, made.__getitem__):
        with pytest.raises(NotRegistered, match=r"seed\.unknown"):
            ask("seed.unknown")


@row("AlreadyRegistered", "TaskRegistry.AlreadyRegistered")
def test_a_name_belongs_to_one_task(made: TaskRegistry) -> None:
    made.register(Regular)

    with pytest.raises(made.AlreadyRegistered) as raised:
        made.register(function, "seed.regular")
    assert raised.type is AlreadyRegistered


# -- discovery


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an installed application, which has no tasks yet."""
    folder = tmp_path / "seed_feeds"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with modify_settings(INSTALLED_APPS={"append": "seed_feeds"}):
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "seed_feeds"]:
        del sys.modules[name]


TASKS = """
from celery.task import Task, tasks

class Fetch(Task):
    name = "seed_feeds.fetch"

    def run(self):
        return "fetched"

tasks.register(Fetch)
"""


@of_discovery("autodiscover")
@row("TaskRegistry.autodiscover")
def test_the_tasks_of_all_applications_are_found(app: Path) -> None:
    (app / "tasks.py").write_text(TASKS)

    found = {module.__name__ for module in discovery.autodiscover()}

    assert {"seed_feeds.tasks", "tests.shop.tasks"} <= found
    assert tasks["seed_feeds.fetch"]() == "fetched"
    assert {module.__name__ for module in registry.tasks.autodiscover()} == found


@of_discovery("find_related_module")
def test_an_application_without_tasks_is_passed_over(app: Path) -> None:
    assert discovery.find_related_module("seed_feeds", "tasks") is None

    (app / "tasks.py").write_text(TASKS)
    importlib.invalidate_caches()

    found = discovery.find_related_module(app="seed_feeds", related_name="tasks")
    assert found is not None
    assert found.__name__ == "seed_feeds.tasks"


@of_discovery("fix: an ImportError inside a tasks module was swallowed")
def test_an_import_error_in_the_tasks_is_raised(app: Path) -> None:
    (app / "tasks.py").write_text("import no_such_package_anywhere")

    for find in (discovery.autodiscover, lambda: discovery.find_related_module("seed_feeds", "tasks")):
        with pytest.raises(ImportError, match="no_such_package_anywhere"):
            find()
