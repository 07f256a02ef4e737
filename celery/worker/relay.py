"""Moves what is due: in place where the queue is the database, else published to the broker and then deleted.

Works in slices, so that a million due rows or a blocked broker never looks like death.
"""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from celery.broker.base import Broker
from celery.broker.store.base import Store
from celery.exceptions import MessageTooLarge, UnroutableMessage
from celery.message import Message
from celery.worker import announcer
from celery.worker.announcer import Announce

logger = logging.getLogger("celery.worker")

PAGE: Final = 1000
#: Seconds that one slice may take.
SLICE: Final = 2.0
#: Seconds that messages wait whose queue the broker refuses; the other queues go on.
REFUSED_PAUSE: Final = 60.0
#: Seconds between looks when nothing is due earlier.
LONGEST_PAUSE: Final = 0.25


class Relay:
    """The steward's part in schedule and outbox, in the name of `owner`."""

    def __init__(self, broker: Broker, store: Store, owner: str, announce: Announce = announcer.announce) -> None:
        self._broker = broker
        self._store = store
        self._owner = owner
        self._announce = announce
        self._may_have_claims = True

    def step(self) -> float:
        """Move what is due, for a slice at most, and return the seconds until the next look."""
        deadline = time.monotonic() + SLICE
        move = self._publish_page if self._broker.relays else self._promote_page
        while time.monotonic() < deadline:
            if not move():
                return LONGEST_PAUSE
        return 0.0

    def _promote_page(self) -> bool:
        """Make due rows ready. Looks before it writes: an idle worker never takes a write lock."""
        now = datetime.now(UTC)
        due = self._store.next_due()
        if due is None or due > now:
            return False
        moved = self._store.promote(now, PAGE)
        if moved:
            self._store.poke()
        return moved == PAGE

    def _publish_page(self) -> bool:
        """Claim, publish with confirms, delete what is still ours. A crash between leaves rows that are sent again."""
        if self._may_have_claims:  # of a steward that died at it, or of a page that failed
            self._store.drop_relay_claims(self._owner)
        self._may_have_claims = False
        if not self._store.has_relayable(datetime.now(UTC)):
            return False
        self._may_have_claims = True
        page = self._store.take_for_relay(self._owner, datetime.now(UTC), PAGE)
        for queue in {message.queue for _, message in page}:
            self._publish_to(queue, [(row_id, message) for row_id, message in page if message.queue == queue])
        self._may_have_claims = False
        return len(page) == PAGE

    def _publish_to(self, queue: str, rows: Sequence[tuple[int, Message]]) -> None:
        ids = [row_id for row_id, _ in rows]
        try:
            self._broker.publish([message for _, message in rows])
        except UnroutableMessage as error:
            logger.error("%d messages for queue %s wait for %.0f s more: %s", len(ids), queue, REFUSED_PAUSE, error)  # noqa: TRY400
            self._store.postpone(self._owner, ids, datetime.now(UTC) + timedelta(seconds=REFUSED_PAUSE))
        except MessageTooLarge as error:
            self._sort_out(rows, str(error))
        else:
            self._store.finish(self._owner, ids)

    def _sort_out(self, rows: Sequence[tuple[int, Message]], reason: str) -> None:
        """Find the message that the broker will never take, and keep it as dead; the others go."""
        if len(rows) > 1:
            for row in rows:
                self._publish_to(row[1].queue, [row])
        else:
            ((row_id, message),) = rows
            self._store.bury(self._owner, row_id, crashes=message.crashes, reason=reason)
            self._announce("job_dead", {"task_id": message.task_id, "name": message.task, "reason": reason})
