"""Moves what is due: in place where the queue is the database, else published to the broker and then deleted.

Works in slices, so that a million due rows or a blocked broker never looks like death.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from celery.broker.base import Broker, Passed
from celery.broker.store.base import Store
from celery.exceptions import LeaseLost, MessageTooLarge, UnroutableMessage
from celery.message import Message
from celery.worker import announcer
from celery.worker.announcer import Announce

logger = logging.getLogger("celery.worker")

#: Rows that are published together: the first time, as nobody knows yet how large they are, and at most. With more of
#: them nothing gets faster, and what comes back to be examined waits for longer.
FIRST_PAGE: Final = 32
PAGE: Final = 256
#: Rows that become ready together.
PROMOTED: Final = 1000
#: Bytes of bodies in a page, about, that keep it from growing.
LARGEST_PAGE: Final = 16 * 1024 * 1024
#: Seconds after which the steward gets its turn: what was published comes back to it, to be examined.
TURN: Final = 0.02
#: Seconds after which the queues of a page that have not had their turn wait for the next, and that the messages of one
#: queue may take to be confirmed.
SLICE: Final = 2.0
PATIENCE: Final = 5.0
#: Seconds that messages wait whose queue the broker refuses, is full, or of which it answers nothing; others go on.
REFUSED_PAUSE: Final = 60.0
FULL_PAUSE: Final = 5.0
SILENT_PAUSE: Final = 5.0
#: Seconds between looks when nothing is due earlier.
LONGEST_PAUSE: Final = 0.25

Rows = Sequence[tuple[int, Message]]


class Page(NamedTuple):
    """Rows that were claimed together. If they are as many as were asked for, there may be more."""

    rows: Rows = ()
    is_full: bool = False
    #: Bytes of the bodies.
    weight: int = 0

    @property
    def is_heavy(self) -> bool:
        """Whether bodies take more room than a page should."""
        return self.weight > LARGEST_PAGE


class Relay:
    """The steward's part in schedule and outbox, in the name of `owner`.

    `bury_worn_out` keeps as dead what must not start again, and returns the rest of the rows.
    """

    def __init__(
        self,
        broker: Broker,
        store: Store,
        owner: str,
        *,
        bury_worn_out: Callable[[Rows], Rows],
        announce: Announce = announcer.announce,
    ) -> None:
        self._broker = broker
        self._store = store
        self._owner = owner
        self._bury_worn_out = bury_worn_out
        self._announce = announce
        self._may_have_claims = True
        self._size = FIRST_PAGE
        #: What is worked at, or was last, and what was claimed meanwhile; None: nobody looked.
        self._page = Page()
        self._ahead: Page | None = None
        #: When each queue of the last page had its turn: the one that waited longest goes first.
        self._turns: dict[str, float] = {}

    def step(self) -> float:
        """Move what is due, for about a turn, and return the seconds until the next look."""
        began = time.monotonic()
        move = self._publish_page if self._broker.relays else self._promote_page
        while move(began + SLICE):
            if time.monotonic() > began + TURN:
                return 0.0
        return self._pause()

    def _pause(self) -> float:
        """Return the seconds until the next message is due; what is due already and stays is held by others."""
        due = self._store.next_due()
        left = (due - datetime.now(UTC)).total_seconds() if due else 0.0
        return min(left, LONGEST_PAUSE) if left > 0 else LONGEST_PAUSE

    def _promote_page(self, _deadline: float) -> bool:
        """Make due rows ready. Looks before it writes: an idle worker never takes a write lock."""
        now = datetime.now(UTC)
        due = self._store.next_due()
        if due is None or due > now:
            return False
        moved = self._store.promote(now, PROMOTED)
        if moved:
            self._store.poke()
        return moved == PROMOTED

    def _publish_page(self, deadline: float) -> bool:
        """Claim, publish with confirms, delete what is still ours. A crash between leaves rows that are sent again."""
        if self._may_have_claims:  # of a steward that died at it, or of a page that failed
            self._store.drop_relay_claims(self._owner)
            self._ahead = None
        self._may_have_claims = False
        ahead, self._ahead = self._ahead, None
        is_likely = self._page.is_full if ahead is None else bool(ahead.rows)
        if not is_likely and not self._store.has_relayable(datetime.now(UTC)):
            return False
        self._may_have_claims = True
        self._page = ahead if ahead and ahead.rows else self._take()
        self._may_have_claims = not self._publish_queues(self._bury_worn_out(self._page.rows), deadline)
        if not self._may_have_claims:
            self._grow()
        return self._may_have_claims or self._page.is_full

    def _take(self) -> Page:
        """Claim a page. The next is smaller if bodies are large: as many of them would not fit into memory."""
        rows = self._store.take_for_relay(self._owner, datetime.now(UTC), self._size)
        page = Page(rows, is_full=len(rows) == self._size, weight=sum(len(message.body) for _, message in rows))
        if page.is_heavy:
            self._size = max(len(rows) * LARGEST_PAGE // page.weight, 1)
        return page

    def _take_ahead(self) -> None:
        """Claim the next page while the broker confirms this one: each takes as long as the other (decision 0034)."""
        if self._page.is_full and not self._page.is_heavy and self._ahead is None:
            with suppress(LeaseLost):  # whoever claims next is told
                self._ahead = self._take()

    def _grow(self) -> None:
        if self._page.is_full and 2 * self._page.weight <= LARGEST_PAGE:
            self._size = min(2 * self._size, PAGE)

    def _publish_queues(self, page: Rows, deadline: float) -> bool:
        """Publish queue by queue; False if some rows of `page` have not had their turn, or are not confirmed."""
        queues = {message.queue for _, message in page}
        self._turns = {queue: self._turns.get(queue, 0.0) for queue in queues}
        for position, queue in enumerate(sorted(queues, key=self._turns.__getitem__)):
            if position and time.monotonic() > deadline:
                return False
            self._turns[queue] = time.monotonic()
            if not self._publish_to(queue, [row for row in page if row[1].queue == queue]):
                return False
        return True

    def _publish_to(self, queue: str, rows: Rows) -> bool:
        """Publish to one queue, and delete what has arrived. False: the others of `rows` are to be sent again."""
        passed = self._broker.pass_on(
            [message for _, message in rows], time.monotonic() + PATIENCE, meanwhile=self._take_ahead
        )
        self._store.finish(self._owner, [rows[place][0] for place in passed.arrived])
        if passed.error is None:
            return True
        arrived = set(passed.arrived)
        left = [row for place, row in enumerate(rows) if place not in arrived]
        if isinstance(passed.error, MessageTooLarge):
            return self._sort_out(left, str(passed.error))
        if isinstance(passed.error, UnroutableMessage) or passed.is_refused:
            pause = FULL_PAUSE if passed.is_refused else REFUSED_PAUSE
            logger.error("%d messages for queue %s wait for %.0f s more: %s", len(left), queue, pause, passed.error)
            self._postpone(left, pause)
            return True
        self._slow_down(left, passed)
        return False

    def _slow_down(self, left: Rows, passed: Passed) -> None:
        """Send fewer at once. What was silent throughout waits: it may be one queue that has lost its nodes."""
        self._size = max(self._size // 2, 1)
        if passed.arrived or passed.error is None:
            return
        if passed.is_silent:
            self._postpone(left, SILENT_PAUSE)
        raise passed.error

    def _postpone(self, rows: Rows, seconds: float) -> None:
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        self._store.postpone(self._owner, [row_id for row_id, _ in rows], until)

    def _sort_out(self, rows: Rows, reason: str) -> bool:
        """Find the message that the broker will never take, by halves, and keep it as dead; the others go."""
        if len(rows) > 1:
            middle = len(rows) // 2
            return all(self._publish_to(part[0][1].queue, part) for part in (rows[:middle], rows[middle:]))
        ((row_id, message),) = rows
        self._store.bury(self._owner, row_id, crashes=message.crashes, reason=reason)
        self._announce("job_dead", {"task_id": message.task_id, "name": message.task, "reason": reason})
        return True
