"""Nobody asks whose a message is: a claim takes what others hold, and whoever finishes a message deletes it.

On the database broker: on RabbitMQ the server itself gives a message to one worker only.
"""

from collections.abc import Sequence
from typing import Any

from celery.broker.store import base, postgresql, sqlite


def plant() -> None:
    for module in (base, postgresql, sqlite):
        vars(module).update(READY="visible_at IS NULL AND dead_at IS NULL")
    base.Store._own = _change_any  # type: ignore[assignment, method-assign]


def _change_any(self: Any, change: str, _owner: str, ids: Sequence[int]) -> set[int]:
    if not ids:
        return set()
    among, values = self.among(ids)
    return {row_id for (row_id,) in self.rows(f"{change} WHERE id {among} RETURNING id", values)}
