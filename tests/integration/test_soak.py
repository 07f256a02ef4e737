"""A short soak: a worker holds no more after 20,000 tasks than after 5,000. `make soak` is the long one."""

import pytest

from tests.integration.places import Place
from tests.soak import verdict
from tests.soak.run import Plan, soak

PLAN = Plan(tasks=20_000, first=5_000, every=5_000)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.postgres
def test_nothing_grows_with_the_number_of_tasks(postgres_place: Place) -> None:
    # when
    outcome = soak(postgres_place, PLAN)

    # then
    assert [str(bound) for bound in verdict.bounds(outcome, PLAN) if not bound.is_kept] == []
    assert [sample.tasks for sample in outcome.samples] == [0, 5_000, 10_000, 15_000, 20_000, 20_000]
