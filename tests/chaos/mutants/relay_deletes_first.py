"""The relay deletes the rows of messages, and only then publishes them. On RabbitMQ: elsewhere nothing is published."""

import time
from collections.abc import Sequence

from celery.message import Message
from celery.worker.relay import Relay

#: Seconds in between, so that a short run hits them.
PAUSE = 0.3


def plant() -> None:
    Relay._publish_to = _delete_and_publish  # type: ignore[assignment, method-assign]


def _delete_and_publish(self: Relay, _queue: str, rows: Sequence[tuple[int, Message]]) -> bool:
    self._store.finish(self._owner, [row_id for row_id, _ in rows])
    time.sleep(PAUSE)
    self._broker.publish([message for _, message in rows])
    return True
