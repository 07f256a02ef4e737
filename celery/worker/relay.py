"""Moves what is due: in place where the queue is the database, else published to the broker and then deleted.

Works in slices, so that a million due rows or a blocked broker never looks like death.
"""

import logging
import time
from datetime import UTC, datetime
from typing import Final

from celery.broker.base import Broker
from celery.broker.store.base import Store

logger = logging.getLogger("celery.worker")

PAGE: Final = 1000
#: Seconds that one slice may take.
SLICE: Final = 2.0
#: Seconds between looks when nothing is due earlier.
LONGEST_PAUSE: Final = 0.25


class Relay:
    """The steward's part in schedule and outbox, in the name of `owner`."""

    def __init__(self, broker: Broker, store: Store, owner: str) -> None:
        self._broker = broker
        self._store = store
        self._owner = owner

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
        if not self._store.has_relayable(datetime.now(UTC)):
            return False
        page = self._store.take_for_relay(self._owner, datetime.now(UTC), PAGE)
        try:
            self._broker.publish([message for _, message in page])
        except Exception:
            self._store.drop_relay_claims(self._owner)
            raise
        self._store.finish(self._owner, [row_id for row_id, _ in page])
        return len(page) == PAGE
