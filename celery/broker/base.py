"""The port of a broker: what producers and workers ask of the place where messages wait.

`Broker.send` holds the one decision of the sending side: publish now, or keep a row in the database (a schedule, or
the outbox of an open transaction). The drivers only publish and consume.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ClassVar

from django.core.checks import CheckMessage
from django.db import transaction

from celery.broker import store
from celery.exceptions import CeleryError
from celery.message import Delivery, Message

#: Seconds for which an outbox row belongs to the on-commit hook of its transaction, before any relay may take it.
OUTBOX_GRACE = 30.0


def nothing() -> None:
    """Do nothing while others wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What became of messages that were to be published together: the places of those that have arrived.

    `error` says why others have not. `is_refused`: by their queue, while the broker itself is well. `is_silent`: the
    broker answers, but not for these.
    """

    arrived: Sequence[int] = ()
    error: CeleryError | None = None
    is_refused: bool = False
    is_silent: bool = False


class Broker:
    """A place where messages wait."""

    #: True if messages live outside the database, so that due and left-over rows have to be published to it.
    relays: ClassVar[bool] = False

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def alias(self) -> str:
        """Return the alias of the database that keeps the schedule, the outbox and the dead."""
        return store.default_alias()

    def send(self, messages: Sequence[Message]) -> str | None:
        """Take over `messages`: when this returns they are durable, or will be when the open transaction commits.

        Returns the alias of that transaction, or None. Raises BrokerUnreachable, UnroutableMessage, SchemaMissing.
        """
        alias = self.alias
        if store.is_in_transaction(alias):
            self._keep_until_commit(messages, alias)
            return alias if store.has_hooks(alias) else None
        scheduled = [message for message in messages if message.visible_at]
        if scheduled:
            store.of(alias).insert(scheduled)
        if len(scheduled) < len(messages):
            self.publish([message for message in messages if not message.visible_at])
        return None

    def _keep_until_commit(self, messages: Sequence[Message], alias: str) -> None:
        keeper = store.of(alias)
        if not self.relays:
            keeper.insert(messages)
            return
        hold = datetime.now(UTC) + timedelta(seconds=OUTBOX_GRACE)
        keeper.insert([message for message in messages if message.visible_at])
        ids = keeper.insert([message for message in messages if not message.visible_at], hold=hold)
        if ids and store.has_hooks(alias):
            self._after_commit(ids)

    def _after_commit(self, ids: Sequence[int]) -> None:
        """Have outbox rows forwarded when the open transaction commits."""
        transaction.on_commit(partial(self.forward, ids), using=self.alias, robust=True)

    def forward(self, ids: Sequence[int]) -> None:
        """Publish outbox rows after their commit. What fails is left to the relay. Only relaying brokers have one."""
        raise NotImplementedError

    def publish(self, messages: Sequence[Message]) -> None:
        """Put `messages` into their queues, durable when this returns."""
        raise NotImplementedError

    def pass_on(
        self,
        messages: Sequence[Message],
        deadline: float,  # noqa: ARG002 - for who can do with it
        meanwhile: Callable[[], object] = nothing,
    ) -> Passed:
        """Publish rows of the database until `deadline`, a monotonic moment, and tell what has arrived.

        What has not may arrive yet. `meanwhile` is called once at most: when all is sent, before answers are awaited.
        """
        try:
            self.publish(messages)
            meanwhile()
        except CeleryError as error:
            return Passed(error=error)
        return Passed(arrived=range(len(messages)))

    def consumer(self, owner: str, queues: Sequence[str]) -> "Consumer":
        """Return the worker's side: takes messages of `queues` in the name of `owner`."""
        raise NotImplementedError

    def depth(self, queue: str) -> int:
        """Return how many messages are ready in `queue`."""
        raise NotImplementedError

    def discard_all(self, queue: str) -> int:
        """Delete every message that is ready in `queue`, for good, and return their number."""
        raise NotImplementedError

    def check(self) -> list[CheckMessage]:
        """Return what Django's system checks should say of the settings of this broker. Opens no connection."""
        return []


class Consumer:
    """The worker's side of a broker: what the dispatcher's one thread takes from, and acknowledges to.

    Deliveries with a row in the database are settled by whoever deletes the row; only those with a `tag` come back
    here. Any exception of `errors` means that the connection is lost: close, and connect anew.
    """

    errors: tuple[type[Exception], ...] = ()

    #: What this is a connection to, as the log names it: never with a password.
    place: str = ""

    #: True if a lost connection returns everything with a tag to its queue.
    forgets: ClassVar[bool] = False

    def connect(self, rows_in_hand: Collection[int] = ()) -> None:
        """Connect and declare; what is held beside `rows_in_hand` is given back. Raises one of `errors`."""
        raise NotImplementedError

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when there may be something to take; -1 if there is none."""
        raise NotImplementedError

    def take(self, limit: int) -> list[Delivery]:
        """Return what there is, about `limit` at most, without waiting for more."""
        raise NotImplementedError

    def next_poll(self) -> float:
        """Return the seconds after which `take` should be called even if the descriptor stays silent."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the connection. Harmless when there is none."""
        raise NotImplementedError

    def told(self, error: Exception) -> str:
        """Return what the log says of one of `errors`: one line that names the place, unless the error does."""
        text = " ".join(str(error).split()) or type(error).__name__
        return text if self.place in text else f"{self.place}: {text}"

    def give_back_all_but(self, rows_in_hand: Collection[int]) -> None:
        """Return what is held in our name beside `rows_in_hand`: the answer that brought it was lost."""

    def set_window(self, count: int) -> None:
        """Be told how many messages the worker wants to hold; 0: no more at all."""

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge: these are done with, and their results durable."""

    def settle_for_certain(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Acknowledge, and return those of which it is certain that nobody will get them again."""
        return list(deliveries)

    def may_settle(self, delivery: Delivery) -> bool:
        """Tell whether a delivery came on the connection that stands now: else it is in its queue again."""
        return delivery.tag is not None

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return these to their queue, uncounted."""
