"""The views: who may see results."""

from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.urls import get_resolver

from celery import conf, views


@checks.register("celery")
def check_permission(**_: Any) -> list[CheckMessage]:
    """Check that the function which guards the views can be had: without it they answer nobody."""
    hint = "Write the dotted path of a function (request, task_id) -> bool."
    if conf.VIEWS_PERMISSION == "":  # a variable of the environment that is not set: it must not open the views unseen
        text = "CELERY_VIEWS_PERMISSION = '' names no function."
        return [checks.Error(text, hint=f"{hint} None lets anybody see results.", id="celery.E010")]
    try:
        if isinstance(conf.VIEWS_PERMISSION, str | None):
            views.permission()
    except Exception as error:  # noqa: BLE001 - importing it runs any code
        return [checks.Error(f"{error}.", hint=hint, id="celery.E010")]
    return []


@checks.register("celery", deploy=True)
def check_open_views(**_: Any) -> list[CheckMessage]:
    """Tell that results are shown to anybody who knows an id."""
    has_urls = getattr(settings, "ROOT_URLCONF", None)
    if conf.VIEWS_PERMISSION or not has_urls or not any(one in _OUR_VIEWS for one in _callbacks(get_resolver())):
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
