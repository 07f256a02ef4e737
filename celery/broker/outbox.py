"""What brokers outside the database share: sending inside a transaction, by way of rows that are its outbox.

Each transaction's rows are published by one hook after its commit; what that cannot do is left to the relay.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from django.db import connections, transaction

from celery import message as wire
from celery.broker import store
from celery.broker.base import OUTBOX_GRACE, Broker, Passed, nothing
from celery.message import Message

logger = logging.getLogger("celery.broker")

#: Outbox rows that are published, and deleted, together.
FORWARDED: Final = 1000


class Publisher(Protocol):
    """What a driver has for each thread that sends: a connection, which a forked process drops and makes anew."""

    def publish(self, messages: Sequence[Message]) -> None:
        """Put `messages` into their queues, as durable when this returns as the server promises."""

    def pass_on(
        self, messages: Sequence[Message], deadline: float, meanwhile: Callable[[], object] = nothing
    ) -> Passed:
        """Publish until `deadline`, and tell what has arrived. `meanwhile` is called before answers are awaited."""

    def depth(self, queue: str) -> int:
        """Return the number of ready messages; 0 for a queue that does not exist."""

    def purge(self, queue: str) -> int:
        """Delete what is ready; 0 for a queue that does not exist."""

    def drop(self) -> None:
        """Let go of the connection."""


class OutboxBroker(Broker):
    """A broker whose messages live outside the database. A driver brings a publisher and a consumer."""

    relays = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        #: What belongs to one thread: its outbox and its publisher.
        self._local = threading.local()

    def make_publisher(self) -> Publisher:
        """Return a publisher for this thread."""
        raise NotImplementedError

    @property
    def _publisher(self) -> Publisher:
        found: Publisher | None = getattr(self._local, "publisher", None)
        if found is None:
            found = self._local.publisher = self.make_publisher()
        return found

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish `messages`. Raises BrokerUnreachable, UnroutableMessage."""
        self._publisher.publish(messages)

    def pass_on(
        self, messages: Sequence[Message], deadline: float, meanwhile: Callable[[], object] = nothing
    ) -> Passed:
        """Publish rows of the database."""
        return self._publisher.pass_on(messages, deadline, meanwhile)

    def depth(self, queue: str) -> int:
        """Return the number of ready messages; 0 for a queue that does not exist. Raises BrokerUnreachable."""
        return self._publisher.depth(queue)

    def discard_all(self, queue: str) -> int:
        """Delete what is ready in `queue`; 0 for a queue that does not exist. Raises BrokerUnreachable."""
        return self._publisher.purge(queue)

    def _after_commit(self, ids: Sequence[int]) -> None:
        """Gather what one transaction sends: one hook of many publishes all of it, with one wait."""
        outbox = self._outbox()
        outbox.ids += ids
        transaction.on_commit(partial(self._forward_all, outbox), using=self.alias, robust=True)

    def _outbox(self) -> "_Outbox":
        """Return what gathers the ids of the open transaction.

        Only its hooks hold it: when Django drops them with a transaction that was rolled back, it is gone too.
        """
        known: weakref.ref[_Outbox] | None = getattr(self._local, "outbox", None)
        found = known() if known else None
        if found is None or found.is_forwarded or found.connection is not connections[self.alias]:
            found = _Outbox(connections[self.alias])
            self._local.outbox = weakref.ref(found)
        return found

    def _forward_all(self, outbox: "_Outbox") -> None:
        """Forward all that the transaction has sent. Each send has a hook, in case of savepoints; one works."""
        if not outbox.is_forwarded:
            outbox.is_forwarded = True
            self.forward(outbox.ids)

    def forward(self, ids: Sequence[int]) -> None:
        """Publish outbox rows after their commit; those of a savepoint that was rolled back are not there any more."""
        try:
            for at in range(0, len(ids), FORWARDED):
                self._forward_page(ids[at : at + FORWARDED])
        except Exception as error:  # noqa: BLE001 - the user's transaction is committed, and the rows are safe
            logger.warning(
                "Tasks of a committed transaction wait in the database (%d at most); a worker sends them in %d s: %s",
                len(ids),
                OUTBOX_GRACE,
                error,
            )

    def _forward_page(self, ids: Sequence[int]) -> None:
        """Publish, and delete what has arrived: only the rest is sent again."""
        keeper = store.of(self.alias)
        with transaction.atomic(using=self.alias):
            rows = keeper.lock_rows(ids)
            if not rows:
                return
            passed = self.pass_on([_first_copy(message) for _, message in rows], float("inf"))
            if passed.arrived:
                keeper.delete_rows([rows[at][0] for at in passed.arrived])
        if passed.error:
            raise passed.error


class _Outbox:
    """The ids of the rows that one transaction sends."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.ids: list[int] = []
        self.is_forwarded = False


def _first_copy(message: Message) -> Message:
    """Return a row's message without the mark of a second copy: the look-up that it asks for would find nothing."""
    return replace(message, headers={name: value for name, value in message.headers.items() if name != wire.RELAYED})
