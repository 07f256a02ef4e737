"""The broker on the database: the store of messages is the queue. ``django://`` or ``django://alias``."""

import time
from collections.abc import Collection, Sequence
from typing import Final

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, OperationalError, connections

from celery.broker import store
from celery.broker.base import Broker, Consumer
from celery.broker.store.base import READY, Hints
from celery.broker.store.workers import TABLE
from celery.exceptions import SchemaMissing
from celery.message import Delivery, Message

#: Seconds until the first poll after work ran out; they double, up to what the hints allow.
FIRST_POLL: Final = 0.002
#: Seconds between looks while there is no room for more.
FULL_POLL: Final = 1.0
#: Empty polls in a row after which producers are asked to poke.
IDLE_AFTER: Final = 3
#: Messages a second at which they are told to stop: on PostgreSQL pokes wait for each other, commit after commit.
BUSY_PACE: Final = 500.0
#: Seconds between two looks at the pace.
PACE_SPAN: Final = 0.05
#: Messages that are discarded in one transaction.
PAGE: Final = 1000


class DatabaseBroker(Broker):
    """Messages wait in ``celery_message``; enqueueing is an INSERT and so joins any open transaction."""

    @property
    def alias(self) -> str:
        """Return the alias in the URL, or the one that Django's routers choose."""
        alias = self.url.partition("://")[2].strip("/") or store.default_alias()
        if alias not in connections.settings:
            known = ", ".join(connections)
            text = f"CELERY_BROKER_URL = {self.url!r} names the database {alias!r}; DATABASES has: {known}"
            raise ImproperlyConfigured(text)
        return alias

    def publish(self, messages: Sequence[Message]) -> None:
        """Insert the messages: in autocommit mode they are durable and visible at once."""
        store.of(self.alias).insert(messages)

    def consumer(self, owner: str, queues: Sequence[str]) -> "DatabaseConsumer":
        """Return a consumer on this process's own connection."""
        return DatabaseConsumer(self.alias, owner, queues)

    def depth(self, queue: str) -> int:
        """Count the ready messages of `queue`."""
        statement = f"SELECT COUNT(*) FROM {TABLE} WHERE queue = %s AND {READY}"
        return int(store.of(self.alias).rows(statement, [queue])[0][0])

    def discard_all(self, queue: str) -> int:
        """Delete the ready messages of `queue`, page by page: no other transaction waits for long."""
        keeper = store.of(self.alias)
        discarded = 0
        while ids := keeper.rows(f"SELECT id FROM {TABLE} WHERE queue = %s AND {READY} LIMIT {PAGE}", [queue]):
            among, values = keeper.among([row_id for (row_id,) in ids])
            gone = keeper.run(f"DELETE FROM {TABLE} WHERE id {among} AND {READY}", values)
            if not gone:  # all are taken since; inside a transaction its snapshot may show them for ever
                break
            discarded += gone
        return discarded


class DatabaseConsumer(Consumer):
    """Claims messages in batches. Children delete what they finish, with the results, so there is nothing to settle."""

    errors = (DatabaseError, InterfaceError, SchemaMissing)

    def __init__(self, alias: str, owner: str, queues: Sequence[str]) -> None:
        self._alias = alias
        self.place = f"DATABASES[{alias!r}]"
        self._owner = owner
        self._queues = list(queues)
        self._store = store.of(alias)
        self._hints: Hints | None = None
        self._quiet = 0
        self._is_full = False
        self._taken = 0
        self._paced_at = time.monotonic()
        self._has_claimed = False
        self._says_idle = False

    def connect(self, rows_in_hand: Collection[int] = ()) -> None:
        """Open the connection and listen for hints. A claim whose answer was lost with the last one is given back."""
        connections[self._alias].ensure_connection()
        self.give_back_all_but(rows_in_hand)
        self._hints = self._store.hints()
        self._quiet = 0
        self._says_idle = False

    def give_back_all_but(self, rows_in_hand: Collection[int]) -> None:
        """Free the rows of claims whose answer was lost."""
        if self._has_claimed and self._store.release_all_but(self._owner, rows_in_hand):
            self._store.poke()

    def fileno(self) -> int:
        """Return the descriptor of the hints."""
        return self._hints.fileno() if self._hints else -1

    def take(self, limit: int) -> list[Delivery]:
        """Claim up to `limit` messages, beginning with another queue each time."""
        if self._hints and self._hints.pending():
            self._quiet = 0
        self._is_full = limit <= 0
        if self._is_full:
            return []
        self._has_claimed = True
        found: list[Delivery] = []
        for queue in self._queues:
            if len(found) < limit:
                found += self._claim(queue, limit - len(found))
        self._queues.append(self._queues.pop(0))
        self._note_pace(len(found))
        return found

    def _claim(self, queue: str, limit: int) -> list[Delivery]:
        """Claim; nothing, for this time, where another transaction came first: that is no reason to connect anew."""
        try:
            return self._store.claim(self._owner, queue, limit)
        except OperationalError as error:
            if not self._store.is_conflict(error):
                raise
            return []

    def _note_pace(self, taken: int) -> None:
        self._quiet = 0 if taken else self._quiet + 1
        if self._quiet == IDLE_AFTER and not self._says_idle:
            self._say_idle(idle=True)
        elif self._says_idle and self._pace(taken) >= BUSY_PACE:
            self._say_idle(idle=False)

    def _pace(self, taken: int) -> float:
        """Return the messages a second since the last look, or 0.0 before it is time for another."""
        self._taken += taken
        elapsed = time.monotonic() - self._paced_at
        if elapsed < PACE_SPAN:
            return 0.0
        pace = self._taken / elapsed
        self._taken, self._paced_at = 0, self._paced_at + elapsed
        return pace

    def _say_idle(self, *, idle: bool) -> None:
        if self._store.set_idle(self._owner, idle=idle):
            self._says_idle = idle
        else:
            self._quiet = 0  # we have no row yet: ask again soon

    def next_poll(self) -> float:
        """Poll soon after work ran out, then ever more seldom: a commit may become visible after its hint."""
        if self._is_full:
            return FULL_POLL
        longest = self._hints.patience if self._hints else Hints.patience
        return float(min(longest, FIRST_POLL * 2 ** min(self._quiet, 20)))

    def close(self) -> None:
        """Drop the connection."""
        if self._hints:
            self._hints.close()
            self._hints = None
        connections[self._alias].close()
