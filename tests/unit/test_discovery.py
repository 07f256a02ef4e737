import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test.utils import modify_settings

from celery import discovery
from celery.registry import tasks
from tests.shop import tasks as shop_tasks


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an application that can be imported as `bakery`."""
    folder = tmp_path / "bakery"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "bakery"]:
        del sys.modules[name]


def test_the_tasks_of_installed_applications_are_imported(app: Path) -> None:
    (app / "tasks.py").write_text("from celery.task import task\n\n@task\ndef bake() -> None: ...\n")

    with modify_settings(INSTALLED_APPS={"append": "bakery"}):
        found = {module.__name__ for module in discovery.autodiscover()}

    assert {"bakery.tasks", "tests.shop.tasks"} <= found
    assert "bakery.tasks.bake" in tasks


def test_the_registry_can_ask_for_it() -> None:
    assert shop_tasks in tasks.autodiscover()


def test_an_application_without_tasks_is_passed_over(app: Path) -> None:
    assert discovery.find_related_module("bakery", "tasks") is None


def test_an_application_that_is_one_file_is_passed_over(app: Path) -> None:
    (app / "oven.py").touch()

    assert discovery.find_related_module("bakery.oven", "tasks") is None


def test_tasks_may_be_a_package(app: Path) -> None:
    (app / "tasks").mkdir()
    (app / "tasks" / "__init__.py").write_text("FLOUR = 1\n")

    module = discovery.find_related_module("bakery", "tasks")

    assert module is not None
    assert vars(module)["FLOUR"] == 1


def test_an_error_in_the_tasks_is_raised_and_not_taken_for_absence(app: Path) -> None:
    (app / "tasks.py").write_text("import a_module_that_is_not_there\n")

    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        discovery.find_related_module("bakery", "tasks")


def test_any_other_error_in_the_tasks_is_raised_too(app: Path) -> None:
    (app / "tasks.py").write_text("1 / 0\n")

    with pytest.raises(ZeroDivisionError):
        discovery.find_related_module("bakery", "tasks")
