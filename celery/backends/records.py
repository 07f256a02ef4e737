"""A result as text, for places that know nothing of columns.

Plain JSON in ASCII, which every store takes. What comes back is untrusted: it is a whole result of this id, or nothing.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

from celery import states
from celery.backends.base import Result

#: The fields that are a text, and those that are something else.
TEXTS: Final = ("task_id", "state", "result", "traceback", "name", "worker")
FIELDS: Final = (*TEXTS, "attempt", "runtime", "date_done")
ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


def to_text(result: Result) -> str:
    """Return `result` as text."""
    fields = {name: getattr(result, name) for name in FIELDS}
    return ENCODER.encode({**fields, "date_done": result.date_done.isoformat()})


def from_text(text: Any, task_id: str) -> Result | None:
    """Return the result of `task_id` in `text`, which may be anything; None if it is not in there."""
    try:
        found = json.loads(text)
        fields = {name: found[name] for name in FIELDS}
        result = Result(**{**fields, "date_done": datetime.fromisoformat(fields["date_done"])})
        is_sound = _is_sound(result)
    except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError):
        return None
    return result if is_sound and result.task_id == task_id else None


def _is_sound(result: Result) -> bool:
    """Tell whether each field is of its type; the moment is, since it was read, but it may have no zone."""
    return (
        all(type(getattr(result, name)) is str for name in TEXTS)
        and result.state in states.ALL_STATES
        and type(result.attempt) is int
        and (result.runtime is None or type(result.runtime) in {int, float})
        and result.date_done.astimezone(UTC) == result.date_done
    )
