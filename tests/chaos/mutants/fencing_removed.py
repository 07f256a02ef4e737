"""Who finishes a message is not asked whether it is theirs, and a later result of an attempt replaces an earlier one.

On the database broker: on RabbitMQ the server itself gives a message to one worker only.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from celery.backends import database
from celery.broker.store.base import Store


def plant() -> None:
    Store.finish = _finish_any  # type: ignore[assignment, method-assign]
    Store.held = _hold_any  # type: ignore[assignment, method-assign]
    anything = replace(database.STORED, condition="1 = 1", may_replace=lambda _stored, _new: True)
    vars(database).update(STORED=anything)


def _finish_any(self: Any, _owner: str, ids: Sequence[int]) -> set[int]:
    if ids:
        self.delete_rows(ids)
    return set(ids)


def _hold_any(_self: Any, _owner: str, ids: Sequence[int]) -> set[int]:
    return set(ids)
