"""The broker on RabbitMQ: ``amqp://user:password@host:port/vhost``, or ``amqps://`` for TLS.

Here are the broker and the worker's side; `publisher` publishes, `line` and `transport` have the connections,
`queues` what is declared, and `frames` and `properties` what is read and written.
"""

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

from amqp import spec
from amqp.exceptions import AMQPError

from celery import conf
from celery.broker.amqp.frames import ACK, NACK, Arrival, Inbox, Ledger, settlement
from celery.broker.amqp.line import user_timeout
from celery.broker.amqp.properties import anew, delivery_of, returns_of
from celery.broker.amqp.publisher import NO_METHOD, Publisher, explained
from celery.broker.amqp.queues import declare
from celery.broker.amqp.transport import Connection, connect, server_of
from celery.broker.base import Consumer
from celery.broker.outbox import OutboxBroker
from celery.exceptions import CeleryError, UnroutableMessage
from celery.message import Delivery

logger = logging.getLogger("celery.broker")

#: Seconds that connecting may take, and the round trip that makes an acknowledgement certain.
CONNECT_TIMEOUT: Final = 5.0
ROUND_TRIP_TIMEOUT: Final = 5.0
#: Seconds between heartbeats; after two that are missed the connection counts as lost, on either side.
HEARTBEAT: Final = 10.0
TICK: Final = 1.0
SURPLUS_POLL: Final = 0.01
#: Seconds for which acknowledgements are held back, to go with others in one frame.
HOLD_BACK: Final = 0.02
#: Seconds for which the dispatcher may hang in a write to a server that does not read.
WRITE_TIMEOUT: Final = 1.0
#: The most messages that RabbitMQ may hand us unsettled.
LARGEST_WINDOW: Final = 1024
#: Seconds that messages lie here, because all who could take them are busy, before others get them.
CROWDED: Final = 60.0
#: How often a message of a quorum queue may come back before it is published anew: RabbitMQ 4 drops it after 20 times.
MOST_RETURNS: Final = 10


class AmqpBroker(OutboxBroker):
    """Messages wait on RabbitMQ. Connections are unpooled: one a process and thread, for publishing."""

    def make_publisher(self) -> Publisher:
        """Return a publisher with a connection of its own."""
        return Publisher(self.url)

    def consumer(self, owner: str, queues: Sequence[str]) -> "AmqpConsumer":
        """Return a consumer with a connection of its own."""
        return AmqpConsumer(self.url, owner, queues)


class AmqpConsumer(Consumer):
    """The worker's side: one connection, one channel, a subscription for each queue. Only `connect` waits for long."""

    errors = (AMQPError, OSError, UnroutableMessage)
    forgets = True

    def __init__(self, url: str, owner: str, queues: Sequence[str]) -> None:
        self._url = url
        self.place = f"RabbitMQ at {server_of(url)}"
        self._owner = owner
        self._queues = list(queues)
        self._window = max(1, 2 * int(conf.DAEMON_CONCURRENCY))
        self._connection: Connection | None = None
        self._fileno = -1
        self._epoch = 0
        self._subscription = 0
        self._hold_until = float("inf")
        #: Since when nobody has had room for what has arrived; whether the flow was stopped for that.
        self._crowded_since = float("inf")
        self._is_stopped = False

    def connect(self, rows_in_hand: Collection[int] = ()) -> None:  # noqa: ARG002 - rows are the steward's
        """Connect, declare the queues and subscribe to them. Raises one of `errors`."""
        self.close()
        try:
            self._open()
        except BaseException as error:
            self.close()
            if isinstance(error, CeleryError) or not isinstance(error, OSError | AMQPError):
                raise
            raise explained(error, self._url) from error

    def _open(self) -> None:
        self._inbox = Inbox()
        self._ledger = Ledger()
        self._epoch = next(_epochs)
        self._qos_sent = 0
        self._connection = connect(
            self._url,
            patience=CONNECT_TIMEOUT,
            write_timeout=WRITE_TIMEOUT,
            heartbeat=HEARTBEAT,
            socket_settings=user_timeout(2 * HEARTBEAT),
            frame_handler=self._inbox.bind,
        )
        self._connection.deadline = time.monotonic() + CONNECT_TIMEOUT
        self._channel = self._connection.channel()
        for queue in self._queues:
            declare(self._channel, queue)
        self._next_tick = 0.0
        self._hold_until = self._crowded_since = float("inf")
        self._is_stopped = False
        self._fileno = int(self._connection.sock.fileno())
        if self._window:
            self._subscribe()

    def _subscribe(self) -> None:
        """Begin to consume with the present window. Nothing here waits for an answer."""
        self._subscription += 1
        self._send_qos()
        for number, queue in enumerate(self._queues):
            self._channel.basic_consume(queue, self._consumer_tag(number), nowait=True)

    def _consumer_tag(self, number: int) -> str:
        return f"{self._owner}.{self._subscription}.{number}"

    def _send_qos(self) -> None:
        self._qos_sent += 1
        self._channel.send_method(spec.Basic.Qos, "lBb", (0, self._prefetch(), False))

    def _prefetch(self) -> int:
        """Return the limit for each queue: RabbitMQ counts every subscription on its own."""
        return max(1, self._window // len(self._queues))

    def told(self, error: Exception) -> str:
        """Return what the log says of one of `errors`."""
        return super().told(error).replace(NO_METHOD, "", 1)

    def set_window(self, count: int) -> None:
        """Ask for at most about `count` unsettled messages; below a factor of two nothing changes. 0: for no more.

        A new limit does not reach a subscription that exists; what the old one has delivered is kept.
        """
        wanted, before = min(max(count, 0), LARGEST_WINDOW), self._window
        is_near = wanted == before or before / 2 < wanted < 2 * before
        if self._connection is None or not is_near:
            self._window = wanted
        if self._connection is None or is_near:
            return
        if before and not self._is_stopped:
            self._unsubscribe()
        if wanted and not self._is_stopped:
            self._subscribe()

    def _unsubscribe(self) -> None:
        for number in range(len(self._queues)):
            self._channel.basic_cancel(self._consumer_tag(number), nowait=True)

    def fileno(self) -> int:
        """Return the socket's descriptor: the same until `close`, even if the connection was lost."""
        return self._fileno

    def take(self, limit: int) -> list[Delivery]:
        """Read what has arrived and return up to `limit` messages. Also gives and watches for signs of life."""
        connection = self._live()
        arrived = self._inbox.arrived
        while connection.pump() and len(arrived) < limit:
            pass
        now = time.monotonic()
        if now >= self._hold_until:
            self._hold_until = float("inf")
            self._settle_rest()
        if now >= self._next_tick:
            connection.heartbeat_tick()
            self._next_tick = now + TICK
        if not self._window:
            limit = self._return_unwanted()
        self._make_way(limit, now)
        found = [arrived.popleft() for _ in range(min(limit, len(arrived)))]
        taken = [self._delivery(arrival) for arrival in found]
        worn = [
            delivery
            for delivery, arrival in zip(taken, found, strict=True)
            if arrival.redelivered and returns_of(arrival) >= MOST_RETURNS
        ]
        return self._renew(taken, worn) if worn else taken

    def _renew(self, taken: list[Delivery], worn: list[Delivery]) -> list[Delivery]:
        """Publish anew what RabbitMQ would drop after a few more returns; return those of `taken` that go on here."""
        publisher = Publisher(self._url)
        try:
            publisher.publish([anew(delivery) for delivery in worn])
        except CeleryError:  # it may be examined, and stored, before it comes back too often
            return taken
        finally:
            publisher.drop()
        self.settle(worn)
        logger.warning("%d messages came back from RabbitMQ %d times: published anew.", len(worn), MOST_RETURNS)
        return [delivery for delivery in taken if delivery not in worn]

    def _make_way(self, limit: int, now: float) -> None:
        """Let others have what we have no room for, and ask for nothing until we have: it may be for hours.

        RabbitMQ would close the channel for what lies here unsettled, after its consumer_timeout.
        """
        if limit > 0:
            self._crowded_since = float("inf")
            if self._is_stopped and self._window:
                self._is_stopped = False
                self._subscribe()
        elif self._inbox.arrived:
            self._crowded_since = min(self._crowded_since, now)
            if now - self._crowded_since >= CROWDED and not self._is_stopped:
                self._is_stopped = True
                self._unsubscribe()
            if self._is_stopped:
                self._return_unwanted()

    def _return_unwanted(self) -> int:
        """Return what a subscription that has ended still delivered: others wait for it. There is nothing to take."""
        arrived = self._inbox.arrived
        self.give_back([self._delivery(arrived.popleft()) for _ in range(len(arrived))])
        return 0

    def _delivery(self, arrival: Arrival) -> Delivery:
        self._ledger.add(arrival.tag)
        return delivery_of(arrival, self._queue_of(arrival.consumer), (self._epoch, arrival.tag))

    def _queue_of(self, consumer: str) -> str:
        return self._queues[int(consumer.rpartition(".")[2])]

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge what lies below the first open tag in one frame, and hold the rest back for a moment."""
        settled = self._ledger.settle(delivery.tag[1] for delivery in deliveries if self.may_settle(delivery))
        self._write(settlement(self._channel.channel_id, ACK, settled))
        if not self._ledger.holds_back:
            self._hold_until = float("inf")
        elif self._hold_until == float("inf"):
            self._hold_until = time.monotonic() + HOLD_BACK

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return these to the head of their queue; RabbitMQ marks them as delivered before."""
        self._answer(NACK, deliveries)

    def settle_for_certain(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Acknowledge, and wait for an answer that RabbitMQ gives only after it has read the acknowledgements."""
        mine = [delivery for delivery in deliveries if self.may_settle(delivery)]
        self._answer(ACK, mine)
        if mine:
            self._send_qos()
            connection = self._live()
            connection.deadline = time.monotonic() + ROUND_TRIP_TIMEOUT
            while self._inbox.qos_answers < self._qos_sent:
                connection.drain_events()
        return mine

    def _answer(self, verb: int, deliveries: Iterable[Delivery]) -> None:
        """Settle at once. What was held back goes first: a frame for many must not take it along."""
        held_back = self._ledger.rest()
        settled = self._ledger.settle(delivery.tag[1] for delivery in deliveries if self.may_settle(delivery))
        settled += self._ledger.rest()
        self._write(
            settlement(self._channel.channel_id, ACK, held_back) + settlement(self._channel.channel_id, verb, settled)
        )

    def _write(self, frames: bytes) -> None:
        if frames:
            self._live().write(frames)

    def _settle_rest(self) -> None:
        """Acknowledge what was held back in vain: something below it takes long."""
        self._write(settlement(self._channel.channel_id, ACK, self._ledger.rest()))

    def may_settle(self, delivery: Delivery) -> bool:
        """Tell whether RabbitMQ waits for our word on a delivery."""
        return delivery.tag is not None and delivery.tag[0] == self._epoch and delivery.tag[1] in self._ledger

    def next_poll(self) -> float:
        """Return the time to the next look at the heartbeat; little while there is more in hand than was taken."""
        if self._connection is not None and self._inbox.arrived:
            return SURPLUS_POLL
        return min(TICK, max(self._hold_until - time.monotonic(), 0.0))

    def close(self) -> None:
        """Let go of the connection, without waiting; what is unsettled returns to its queue."""
        if self._connection is not None:
            with suppress(*self.errors):
                self._settle_rest()
        connection, self._connection = self._connection, None
        self._epoch, self._fileno = 0, -1
        if connection is not None:
            connection.leave()

    def _live(self) -> Connection:
        if self._connection is None:
            raise ConnectionResetError("not connected")
        return self._connection


_epochs: Final = count(1)
