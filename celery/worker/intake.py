"""The dispatcher's connection to the broker: connects, takes when there may be something, begins anew when lost."""

import logging
import selectors
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from celery.broker.base import Consumer
from celery.message import Delivery
from celery.worker.crew import Held

logger = logging.getLogger("celery.worker")

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
#: Seconds between looks for messages that are ours and that we do not have. A question that was given up may have been
#: waiting for a lock: it claims when nobody hears the answer any more.
RECONCILE_AFTER: Final = 30.0


class Intake:
    """Wraps the consumer, so that a lost connection is answered in one place."""

    def __init__(
        self,
        consumer: Consumer,
        selector: selectors.BaseSelector,
        held: Mapping[int, Held],
        *,
        on_connect: Callable[[], None],
        on_loss: Callable[[], None],
    ) -> None:
        self._consumer = consumer
        self._selector = selector
        self._on_connect = on_connect
        self._on_loss = on_loss
        self._held = held
        self._is_connected = False
        self._is_readable = False
        self._has_more = False
        self._poll_at = 0.0
        self._pause = FIRST_PAUSE
        self._lost_at = 0.0
        self._reconcile_at = 0.0

    def sleep(self, *, free: int, window: int) -> float:
        """Return the seconds until `take` should be called even if nothing is heard."""
        if self._has_more and self._is_worth_it(free, window):
            return 0.0
        return max(self._poll_at - time.monotonic(), 0.0)

    def take(self, now: float, *, free: int, window: int) -> list[Delivery]:
        """Return what there is for `free` places, if it is time to look. `window` 0: take nothing any more.

        Where there is more than fits, the next look waits until half of the window is free: claims stay large.
        """
        is_worth_it = self._is_worth_it(free, window)
        if not self._is_readable and now < self._poll_at and not (self._has_more and is_worth_it):
            return []
        self._is_readable = False
        limit = free if is_worth_it or not self._has_more else 0
        found = self._guarded(self._take, limit, window) or []
        self._has_more = len(found) >= limit and self._is_connected
        return found

    @staticmethod
    def _is_worth_it(free: int, window: int) -> bool:
        return 0 < window <= 2 * free

    def _take(self, limit: int, window: int) -> list[Delivery]:
        if not self._is_connected:
            self._connect()
        self._consumer.set_window(window)
        self._reconcile()
        found = self._consumer.take(limit)
        self._note_recovery()
        self._poll_at = time.monotonic() + self._consumer.next_poll()
        return found

    def _reconcile(self) -> None:
        """Now and then, have what was taken without our knowledge given back."""
        now = time.monotonic()
        if now >= self._reconcile_at:
            self._consumer.give_back_all_but(self._rows())
            self._reconcile_at = now + RECONCILE_AFTER

    def _rows(self) -> list[int]:
        return [held.delivery.row_id for held in self._held.values() if held.delivery.row_id]

    def _note_recovery(self) -> None:
        """A broker that takes connections and refuses whatever follows has not recovered: only taking proves it."""
        if self._lost_at:
            logger.warning("Connected to the broker again, after %.1f s.", time.monotonic() - self._lost_at)
        self._lost_at, self._pause = 0.0, FIRST_PAUSE

    def _connect(self) -> None:
        self._consumer.connect(self._rows())
        self._is_connected = True
        if self._consumer.fileno() >= 0:
            self._selector.register(self._consumer.fileno(), selectors.EVENT_READ, self._note_readable)
        self._on_connect()

    def _note_readable(self) -> None:
        self._is_readable = True

    def stop(self) -> None:
        """Ask for no more. First of all: what is given back would come here again."""
        if self._is_connected:
            self._guarded(self._consumer.set_window, 0)

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge, if the connection that they came on still stands."""
        tagged = [delivery for delivery in deliveries if delivery.tag is not None]
        if tagged and self._is_connected:
            self._guarded(self._consumer.settle, tagged)
            self._poll_at = min(self._poll_at, time.monotonic() + self._consumer.next_poll())

    def may_settle(self, delivery: Delivery) -> bool:
        """Tell whether the connection that it came on still stands."""
        return self._is_connected and self._consumer.may_settle(delivery)

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return deliveries to their queue; those of a lost connection are there already."""
        if deliveries and self._is_connected:
            self._guarded(self._consumer.give_back, deliveries)

    def _guarded(self, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except self._consumer.errors as error:
            self._lose(error)
            return None

    def _lose(self, error: Exception) -> None:
        if not self._lost_at:
            self._lost_at = time.monotonic()
            logger.error("The broker is not reachable; trying until it is: %s", self._consumer.told(error))
        self.close()
        self._has_more = False
        self._poll_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if self._consumer.forgets:
            self._on_loss()

    def close(self) -> None:
        """Let go of the connection."""
        if self._is_connected and self._consumer.fileno() >= 0:
            self._selector.unregister(self._consumer.fileno())
        self._is_connected = False
        self._consumer.close()
