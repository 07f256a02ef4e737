"""The broker in this process: ``memory://``, for tests. No server, and no database for a message that is due.

What is sent inside a transaction waits for its commit in the hook itself, not in a row. A message for later, and what
a worker keeps for another try, does get a row: the schedule is the database's on every broker.
"""

import heapq
import socket
import threading
import weakref
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Final

from django.db import transaction

from celery.broker import store
from celery.broker.amqp.frames import Arrival
from celery.broker.amqp.properties import delivery_of, headers_of
from celery.broker.base import Broker, Consumer
from celery.message import Delivery, Message

#: Seconds between looks that nobody hinted at.
POLL: Final = 1.0


class MemoryBroker(Broker):
    """Queues that any thread of this process may send to and take from. Each URL has its own: ``memory://name``."""

    relays = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._lock = threading.Lock()
        self._queues: dict[str, list[_Waiting]] = defaultdict(list)
        self._numbers = count(1)
        self._sendings: list[weakref.ref[_Sending]] = []
        self._certain: set[_Sending] = set()
        self._consumers: weakref.WeakSet[MemoryConsumer] = weakref.WeakSet()

    @property
    def sent(self) -> list[Message]:
        """Return what was sent, in its order: also what waits for a commit, but not what was rolled back."""
        with self._lock:
            known = [reference() for reference in self._sendings]
        return [message for sending in known if sending for message in sending.messages]

    def clear(self) -> None:
        """Forget what was sent, and empty every queue."""
        with self._lock:
            self._sendings.clear()
            self._certain.clear()
            self._queues.clear()

    def send(self, messages: Sequence[Message]) -> str | None:
        """Take over `messages`, and remember them. A transaction that is rolled back takes them along."""
        alias = self.alias
        if store.is_in_transaction(alias) and store.has_hooks(alias):
            scheduled = [message for message in messages if message.visible_at]
            if scheduled:
                store.of(alias).insert(scheduled)
            sending = self._note(messages)
            transaction.on_commit(partial(self._commit, sending), using=alias, robust=True)
            return alias
        waits_in = super().send(messages)
        self._certain.add(self._note(messages))
        return waits_in

    def _note(self, messages: Sequence[Message]) -> "_Sending":
        sending = _Sending(messages)
        with self._lock:
            self._sendings.append(weakref.ref(sending))
        return sending

    def _commit(self, sending: "_Sending") -> None:
        """Publish what a transaction has sent. Its hook alone holds it until now: Django drops both at a rollback."""
        if sending not in self._certain:
            self._certain.add(sending)
            self.publish([message for message in sending.messages if not message.visible_at])

    def publish(self, messages: Sequence[Message]) -> None:
        """Put `messages` into their queues."""
        with self._lock:
            for message in messages:
                self._put(_Waiting(-(message.priority or 0), next(self._numbers), message, is_suspect=False))
        self._hint()

    def put_back(self, waiting: Sequence["_Waiting"]) -> None:
        """Return messages to their places in their queues."""
        with self._lock:
            for one in waiting:
                self._put(one)
        self._hint()

    def _put(self, waiting: "_Waiting") -> None:
        heapq.heappush(self._queues[waiting.message.queue], waiting)

    def _hint(self) -> None:
        for consumer in list(self._consumers):
            consumer.hint()

    def pop(self, queue: str, limit: int) -> list["_Waiting"]:
        """Remove and return up to `limit` messages of `queue`, the most urgent and oldest first."""
        with self._lock:
            waiting = self._queues[queue]
            return [heapq.heappop(waiting) for _ in range(min(limit, len(waiting)))]

    def depth(self, queue: str) -> int:
        """Return the number of ready messages in `queue`."""
        with self._lock:
            return len(self._queues[queue])

    def discard_all(self, queue: str) -> int:
        """Delete what is ready in `queue`."""
        with self._lock:
            return len(self._queues.pop(queue, ()))

    def consumer(self, owner: str, queues: Sequence[str]) -> "MemoryConsumer":  # noqa: ARG002 - nobody asks whose it is
        """Return a consumer in this process."""
        made = MemoryConsumer(self, queues)
        self._consumers.add(made)
        return made


class _Sending:
    """The messages of one call of `send`."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = list(messages)


class _Waiting:
    """A message in a queue."""

    def __init__(self, rank: int, number: int, message: Message, *, is_suspect: bool) -> None:
        self.rank = rank
        self.number = number
        self.message = message
        self.is_suspect = is_suspect

    def __lt__(self, other: "_Waiting") -> bool:
        return (self.rank, self.number) < (other.rank, other.number)


class MemoryConsumer(Consumer):
    """The worker's side."""

    errors = (ConnectionError,)
    forgets = True

    def __init__(self, broker: MemoryBroker, queues: Sequence[str]) -> None:
        self._broker = broker
        self._queues = list(queues)
        self._window = 1
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._held: dict[int, _Waiting] = {}

    def connect(self, rows_in_hand: Collection[int] = ()) -> None:  # noqa: ARG002 - rows are the steward's
        """Begin anew; what was held before returns, as suspects."""
        self.close()
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)  # noqa: FBT003 - that is its signature

    def close(self) -> None:
        """Return what is unsettled to its queue, as suspects."""
        held, self._held = self._held, {}
        ends, self._ends = self._ends, None
        for waiting in held.values():
            waiting.is_suspect = True
        self._broker.put_back(list(held.values()))
        for end in ends or ():
            end.close()

    def hint(self) -> None:
        """Make the descriptor readable. Any thread may call this."""
        ends = self._ends
        if ends:
            with suppress(OSError):  # full, or just closed
                ends[1].send(b".")

    def fileno(self) -> int:
        """Return the descriptor of the hints."""
        return self._ends[0].fileno() if self._ends else -1

    def take(self, limit: int) -> list[Delivery]:
        """Take up to `limit` messages, beginning with another queue each time."""
        if self._ends is None:
            raise ConnectionResetError("not connected")
        with suppress(BlockingIOError):
            self._ends[0].recv(65536)
        found: list[_Waiting] = []
        for queue in self._queues if self._window else ():
            found += self._broker.pop(queue, max(limit - len(found), 0))
        self._queues.append(self._queues.pop(0))
        return [self._delivery(waiting) for waiting in found]

    def _delivery(self, waiting: _Waiting) -> Delivery:
        number = next(_numbers)
        self._held[number] = waiting
        message = waiting.message
        properties = {
            "application_headers": headers_of(message),
            "correlation_id": message.task_id,
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
            "priority": -waiting.rank,
        }
        arrival = Arrival("", number, redelivered=waiting.is_suspect, properties=properties, body=message.body)
        return delivery_of(arrival, message.queue, (0, number))

    def next_poll(self) -> float:
        """Return the time to the next look that nobody hinted at."""
        return POLL

    def set_window(self, count: int) -> None:
        """Be told how many messages are wanted; 0: no more."""
        self._window = count

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Forget these."""
        self._struck(deliveries)

    def settle_for_certain(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Forget these, and return those that were ours."""
        mine = [delivery for delivery in deliveries if self.may_settle(delivery)]
        self._struck(mine)
        return mine

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return these to their places in their queues."""
        self._broker.put_back(self._struck(deliveries))

    def _struck(self, deliveries: Sequence[Delivery]) -> list[_Waiting]:
        return [self._held.pop(delivery.tag[1]) for delivery in deliveries if self.may_settle(delivery)]

    def may_settle(self, delivery: Delivery) -> bool:
        """Tell whether a delivery came on the connection that stands now, and is in our hands."""
        return delivery.tag is not None and delivery.tag[1] in self._held


#: No number of a delivery is ever used again, so that an old answer harms no later delivery.
_numbers: Final = count(1)
