"""The demonstration's task. It needs no model, so it may be imported before Django's apps are ready."""

from celery.task import task
from tests.shop.sources import Figures, measure


@task(name="shop.analyse")
def analyse(path: str) -> Figures:
    """Return sha256, bytes, lines and tokens of the Python file at `path`."""
    return measure(path)
