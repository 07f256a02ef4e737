"""Taking messages by hand, one at a time, for `celery.messaging.TaskConsumer`: workers take as a dispatcher does."""

import os
import platform
import select
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from celery import broker
from celery import message as wire
from celery.broker import store
from celery.exceptions import BrokerUnreachable, LeaseLost
from celery.message import Delivery

#: Seconds that a broker behind a connection gets to hand over a first message, also by a take that does not wait.
PATIENCE: Final = 0.5
#: Seconds for which messages of the database queue may be held without another take, and between proofs of life in one.
LEASE: Final = 600.0
RENEWAL: Final = 60.0
POLL: Final = 0.1


class Source:
    """Where a consumer's messages come from, and how they are settled."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._held: list[Delivery] = []

    def take(self, timeout: float) -> Delivery | None:
        """Return a message, or None if there is none within `timeout` seconds. Raises BrokerUnreachable."""
        raise NotImplementedError

    def settle(self, delivery: Delivery) -> None:
        """Have the broker forget a message. Raises LeaseLost."""
        raise NotImplementedError

    def give_back(self, delivery: Delivery) -> None:
        """Return a message to its queue. Raises LeaseLost."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is not settled, and let go of the broker."""
        raise NotImplementedError

    def _let_go(self, delivery: Delivery) -> None:
        """Forget what is held; what was lost is not ours any more, even if the same message was taken again since."""
        left = [held for held in self._held if held is not delivery]
        if len(left) == len(self._held):
            raise _lost(delivery)
        self._held = left


def source_of(queue: str) -> Source:
    """Return the source of the messages of `queue`, by the broker of the settings."""
    return Line(queue) if broker.current().relays else Rows(queue)


class Rows(Source):
    """The queue in the database: claims as a worker does, in the name of an owner with a row in ``celery_worker``."""

    def __init__(self, queue: str) -> None:
        super().__init__(queue)
        self._store = store.of(broker.current().alias)
        self._owner = ""
        self._renew_at = 0.0
        #: A statement has raised, and may have been carried out: rows may be ours that we know nothing of.
        self._is_unsure = False

    def take(self, timeout: float) -> Delivery | None:
        """Claim a row. One whose claim or end was not answered comes again."""
        deadline = time.monotonic() + timeout
        self._prove_life()
        while not (found := self._claim()):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            time.sleep(min(POLL, remaining))
            if time.monotonic() >= self._renew_at:
                self._prove_life()
        self._held.append(found[0])
        return found[0]

    def _claim(self) -> list[Delivery]:
        with self._surely():
            return self._store.claim(self._owner, self._queue, 1)

    @contextmanager
    def _surely(self) -> Iterator[None]:
        """Note when a statement raises."""
        before, self._is_unsure = self._is_unsure, True
        yield
        self._is_unsure = before

    def _prove_life(self) -> None:
        """Renew the lease; one that was lost is followed by a new one, which holds nothing of the old."""
        self._renew_at = time.monotonic() + RENEWAL
        if self._owner and self._store.renew(self._owner):
            if self._is_unsure:
                self._store.release_all_but(self._owner, [held.row_id for held in self._held])
            self._is_unsure = False
            return
        self._held, self._is_unsure = [], False
        self._owner = uuid.uuid4().hex
        self._store.enlist(
            self._owner,
            name=f"TaskConsumer on {platform.node()}"[: wire.LONGEST_NAME],
            pid=os.getpid(),
            queues=[self._queue],
            concurrency=0,
            lease=LEASE,
        )

    def settle(self, delivery: Delivery) -> None:
        """Delete the row."""
        self._let_go(delivery)
        with self._surely():
            is_ours = self._store.finish(self._owner, [delivery.row_id])
        if not is_ours:
            raise _lost(delivery)

    def give_back(self, delivery: Delivery) -> None:
        """Free the row, uncounted."""
        self._let_go(delivery)
        with self._surely():
            is_ours = self._store.release(self._owner, [delivery.row_id])
        if not is_ours:
            raise _lost(delivery)

    def close(self) -> None:
        """Free what is held, and take our own row away."""
        held, self._held = self._held, []
        self._store.release(self._owner, [delivery.row_id for delivery in held])
        self._store.retire(self._owner)


class Line(Source):
    """A broker behind a connection, by the consumer that a worker uses; it hands over hardly more than is wanted."""

    def __init__(self, queue: str) -> None:
        super().__init__(queue)
        self._consumer = broker.current().consumer(uuid.uuid4().hex, [queue])
        self._consumer.set_window(1)
        self._consumer.connect()

    def take(self, timeout: float) -> Delivery | None:
        """Take what the broker hands over. A lost connection is made anew; it is told where messages went with it."""
        try:
            return self._take(timeout)
        except self._consumer.errors as error:
            self._consumer.connect()
            if self._held and self._consumer.forgets:
                text = (
                    f"the connection to the broker was lost, and with it {len(self._held)} unsettled messages: {error}"
                )
                self._held = []
                raise BrokerUnreachable(text) from error
        return self._take(timeout)

    def _take(self, timeout: float) -> Delivery | None:
        deadline = time.monotonic() + max(timeout, PATIENCE)
        self._consumer.set_window(max(1, 2 * len(self._held)))
        while not (found := self._consumer.take(1)):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            self._wait(min(remaining, POLL))
        self._held.append(found[0])
        return found[0]

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        if self._consumer.fileno() >= 0:
            poll.register(self._consumer.fileno(), select.POLLIN)
        poll.poll(seconds * 1000)

    def settle(self, delivery: Delivery) -> None:
        """Acknowledge, for certain."""
        self._let_go(delivery)
        try:
            certain = self._consumer.settle_for_certain([delivery])
        except self._consumer.errors as error:
            raise _lost(delivery) from error
        if not certain:
            raise _lost(delivery)

    def give_back(self, delivery: Delivery) -> None:
        """Return it by the consumer."""
        self._let_go(delivery)
        try:
            self._consumer.give_back([delivery])
        except self._consumer.errors as error:
            raise _lost(delivery) from error

    def close(self) -> None:
        """Return what is held, and disconnect."""
        with suppress(*self._consumer.errors):
            self._consumer.give_back(self._held)
        self._held = []
        self._consumer.close()


def _lost(delivery: Delivery) -> LeaseLost:
    return LeaseLost(f"the message {delivery.task_id} is not ours any more: others work on it, and it can come again")
