"""The views: who may see results."""

from collections.abc import Iterator
from typing import Any, Final

from django.core import checks
from django.core.checks import CheckMessage
from django.urls import get_resolver

from celery import conf, views


@checks.register("celery")
def check_permission(**_: Any) -> list[CheckMessage]:
    """Check that the function which guards the views can be had: without it they answer nobody."""
    try:
        if isinstance(conf.VIEWS_PERMISSION, str | None):
            views.permission()
    except Exception as error:  # noqa: BLE001 - importing it runs any code
        hint = "Write the dotted path of a function (request, task_id) -> bool."
        return [checks.Error(f"{error}.", hint=hint, id="celery.E010")]
    return []


@checks.register("celery", deploy=True)
def check_open_views(**_: Any) -> list[CheckMessage]:
    """Tell that results are shown to anybody who knows an id."""
    if conf.VIEWS_PERMISSION or not any(callback in _OUR_VIEWS for callback in _callbacks(get_resolver())):
        return []
    text = "celery.urls is included, and anybody who knows or guesses the id of a task sees its state and result."
    hint = "Name a function (request, task_id) -> bool in CELERY_VIEWS_PERMISSION, or silence this check."
    return [checks.Warning(text, hint=hint, id="celery.W012")]


_OUR_VIEWS: Final = (views.is_task_done, views.task_status)


def _callbacks(resolver: Any) -> Iterator[Any]:
    """Return all views behind a resolver; none where the URLconf cannot be imported, which is told by Django."""
    try:
        patterns = list(resolver.url_patterns)
    except Exception:  # noqa: BLE001 - it is the project's code
        return
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _callbacks(pattern)
        else:
            yield pattern.callback
