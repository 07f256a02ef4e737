"""What became of a task, as JSON, for a page that waits for it.

Anybody who knows a task's id may ask, as in 0.2; CELERY_VIEWS_PERMISSION names a function that decides otherwise.
Ids of tasks are random and cannot be guessed, unless you choose them yourself.
"""

import json
import logging
from collections.abc import Callable
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.http import require_safe

from celery import backends, conf, states
from celery.backends.base import Result
from celery.message import is_name

logger = logging.getLogger("celery.views")

LONGEST_TEXT: Final = 10_000
#: No cache may keep an answer that will be another one in a moment.
NOT_KEPT: Final = {"Cache-Control": "no-store"}


@require_safe
def is_task_done(request: HttpRequest, task_id: str) -> JsonResponse:
    """Answer ``{"task": {"id": ..., "executed": true or false}}``: whether the task executed successfully."""
    return _answer(request, task_id, _executed)


@require_safe
def task_status(request: HttpRequest, task_id: str) -> JsonResponse:
    """Answer ``{"task": {"id": ..., "status": ..., "result": ...}}``.

    The result of a failed attempt is ``{"type": ..., "text": ...}``; that of an unfinished task is null.
    """
    return _answer(request, task_id, _status)


def _answer(request: HttpRequest, task_id: str, describe: Callable[[Result | None], dict[str, Any]]) -> JsonResponse:
    _require_permission(request, task_id)
    try:
        stored = backends.default().fetch([task_id]).get(task_id) if is_name(task_id) else None
    except Exception as error:
        logger.exception("The result backend could not be asked for task %s.", task_id)
        trouble = {"type": type(error).__name__, "text": "The result backend cannot be asked now. Try again later."}
        return JsonResponse({"task": {"id": task_id}, "error": trouble}, status=503, headers=NOT_KEPT)
    return JsonResponse({"task": {"id": task_id, **describe(stored)}}, headers=NOT_KEPT)


# -- who may ask


def permission() -> Callable[[HttpRequest, str], bool] | None:
    """Return the function that CELERY_VIEWS_PERMISSION names, or None. Raises ImproperlyConfigured."""
    if not conf.VIEWS_PERMISSION:
        return None
    try:
        found: Any = import_string(conf.VIEWS_PERMISSION)
    except ImportError as error:
        raise ImproperlyConfigured(f"CELERY_VIEWS_PERMISSION cannot be had: {error}") from error
    if not callable(found):
        raise ImproperlyConfigured(f"CELERY_VIEWS_PERMISSION names {found!r:.80}, which cannot be called")
    return found  # type: ignore[no-any-return]


def _require_permission(request: HttpRequest, task_id: str) -> None:
    """Raise PermissionDenied unless the project allows it. An answer that is no bool allows nothing."""
    allows = permission()
    if allows is None:
        return
    answer: Any = allows(request, task_id)
    if not isinstance(answer, bool):  # a coroutine that nobody awaits would count as true
        raise ImproperlyConfigured(
            f"CELERY_VIEWS_PERMISSION must return True or False, not {answer!r:.80}. It cannot be a coroutine function."
        )
    if not answer:
        raise PermissionDenied


# -- what to say


def _executed(stored: Result | None) -> dict[str, Any]:
    return {"executed": stored is not None and stored.state == states.DONE}


def _status(stored: Result | None) -> dict[str, Any]:
    if stored is None:
        return {"status": states.PENDING, "result": None}
    try:
        value = backends.default().to_python(stored)
    except Exception as error:  # noqa: BLE001 - anything can be wrong with a row
        value = error
    return {"status": stored.state, "result": _shown(value)}


def _shown(value: Any) -> Any:
    """Return `value` as JSON can show it: itself if possible, else its repr."""
    if isinstance(value, BaseException):
        return {"type": type(value).__name__, "text": _text(str, value)}
    try:
        return json.loads(json.dumps(value, cls=_Encoder, allow_nan=False))
    except Exception:  # noqa: BLE001 - values of third-party backends are anything
        return _text(repr, value)


class _Encoder(DjangoJSONEncoder):
    """Shows what JSON does not have as its repr."""

    def default(self, o: Any) -> Any:
        try:
            return super().default(o)
        except TypeError:
            return _text(repr, o)


def _text(describe: Callable[[Any], str], value: Any) -> str:
    try:
        return describe(value)[:LONGEST_TEXT]
    except Exception:  # noqa: BLE001 - __str__ and __repr__ of the user's may do anything
        return f"<{type(value).__name__} without a text>"
