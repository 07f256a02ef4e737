"""The table: no row is open, no test stands for a row that is not there, and all can be called as in 2009."""

from importlib import import_module
from typing import Any

import pytest

from tests.seed import table
from tests.seed.names import SEED
from tests.seed.table import Key, rows_of

CALLED = [(key, row.called) for key, row in table.rows().items() if row.called is not None]

row = rows_of("celery.result")


@pytest.fixture(scope="module")
def tests() -> dict[str, Any]:
    return table.tests_in(table.modules_with_tests())


def test_no_row_of_the_seed_is_open(tests: dict[str, Any]) -> None:
    assert table.open_rows(table.rows(), tests) == []


def test_no_test_stands_for_a_row_that_is_not_in_the_seed(tests: dict[str, Any]) -> None:
    assert table.strange_rows(table.rows(), tests) == []


def test_every_test_uses_the_names_that_it_stands_for(tests: dict[str, Any]) -> None:
    assert table.idle_rows(tests) == []


def test_no_row_is_there_twice() -> None:
    assert len(table.rows()) == sum(map(len, SEED.values()))


@pytest.mark.parametrize(("key", "called"), CALLED, ids=[str(key) for key, _ in CALLED])
def test_a_name_can_be_called_as_in_2009(key: Key, called: str) -> None:
    assert table.differences(called, table.found(key)) == []


def test_each_row_with_a_name_is_there() -> None:
    """Attributes that only instances have are left to the tests of their rows."""
    # given
    names = [key for key in table.rows() if key.name.isidentifier()]

    # then
    assert [str(key) for key in names if not hasattr(import_module(key.module), key.name)] == []


# -- the table itself, on planted faults

WANTED = [Key("celery.result", "BaseAsyncResult.ready"), Key("celery.result", "status DONE")]


@row("BaseAsyncResult.ready", "status DONE")
def _good() -> None:
    assert AsyncResult("x").ready()  # type: ignore[name-defined]  # noqa: F821 - it is only read


@row("BaseAsyncResult.ready")
def _half() -> None:
    assert True


@pytest.mark.skip
@row("status DONE")
def _skipped() -> None: ...


@row("BaseAsyncResult.rest")
def _strange() -> None: ...


def test_a_row_without_a_test_is_open() -> None:
    assert table.open_rows(WANTED, {"good": _good}) == []
    assert table.open_rows(WANTED, {"half": _half}) == ["celery.result: status DONE"]


def test_a_row_whose_test_is_skipped_is_open() -> None:
    assert table.open_rows(WANTED, {"half": _half, "skipped": _skipped}) == ["celery.result: status DONE"]


def test_a_row_that_nobody_knows_is_told() -> None:
    assert table.strange_rows(WANTED, {"strange": _strange}) == ["strange says celery.result: BaseAsyncResult.rest"]


def test_a_test_that_does_not_use_its_name_is_told() -> None:
    assert table.idle_rows({"good": _good}) == []
    assert table.idle_rows({"half": _half}) == ["half never mentions celery.result: BaseAsyncResult.ready"]


def takes(args: Any, kwargs: Any = None, timeout: float | None = 3, *, extra: int = 0) -> None: ...


@pytest.mark.parametrize(
    ("called", "difference"),
    [
        ("args", []),
        ("args, kwargs=None, **options", []),
        ("arguments", ["parameter 1 is not arguments", "asks for args"]),
        ("kwargs, args", ["parameter 1 is not kwargs", "parameter 2 is not args"]),
        ("args=None", ["args cannot be left out"]),
        ("args, kwargs=None, timeout=5", ["timeout is not 5 by default"]),
        ("args, kwargs=None, timeout=3, immediate=None", ["parameter 4 is not immediate"]),
        ("args, *more", ["takes no *more"]),
        ("", ["asks for args"]),
    ],
)
def test_a_call_that_would_fail_today_is_told(called: str, difference: list[str]) -> None:
    assert table.differences(called, takes) == difference
