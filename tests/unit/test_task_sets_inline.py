"""Task sets, maps and remote calls with CELERY_ALWAYS_EAGER, inside the transaction of Django's TestCase."""

import operator
from typing import Any

import pytest

from celery.task import TaskSet, dmap, dmap_async, execute_remote, task
from tests.shop import tasks as shop

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _eager(settings: Any) -> None:
    settings.CELERY_ALWAYS_EAGER = True


def test_a_set_is_joined() -> None:
    results = TaskSet(shop.add, [[[number, 1]] for number in range(1100)]).run()

    assert results.ready()
    assert results.join() == list(range(1, 1101))
    assert TaskSet(shop.add, [[[1, 2], {}]]).join() == [3]


def test_the_failure_of_a_subtask_is_raised() -> None:
    with pytest.raises(ValueError, match="no milk"):
        TaskSet(shop.fail, [[["no milk"]]]).join()


def test_a_map_has_its_values() -> None:
    assert dmap(operator.add, [[2, 2], [4, 4]]) == [4, 8]
    assert dmap_async(operator.add, [[2, 2], [4, 4]]).get() == [4, 8]


def test_a_map_may_be_waited_for_inside_a_task() -> None:
    outer = task(name="inline.outer")(map_within)

    assert outer.delay().get() == [4, 8]


def map_within() -> list[int]:
    return dmap(operator.add, [[2, 2], [4, 4]])


def test_a_remote_call_is_made() -> None:
    assert execute_remote(operator.add, 2, 2).get() == 4
