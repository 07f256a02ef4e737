"""The broker on Redis: ``redis://user:password@host:port/database``, or ``rediss://`` for TLS.

Here are the broker and the worker's side; `publisher` publishes, `connection` has the connections,
`envelope` the form of a message, and `scripts` what the server does in one step.
"""

import logging
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

from celery.broker.base import Consumer
from celery.broker.outbox import OutboxBroker
from celery.broker.redis.connection import Address, Line, RedisError, RefusedError, address_of, explained
from celery.broker.redis.envelope import read
from celery.broker.redis.publisher import Publisher, hint_of
from celery.broker.redis.scripts import BRING_BACK, GIVE_BACK, HELD, JOIN, REGISTRY, TAKE
from celery.exceptions import CeleryError
from celery.message import Delivery

logger = logging.getLogger("celery.broker")

#: Seconds that any answer of the server may take: for so long the dispatcher stands still.
PATIENCE: Final = 3.0
#: Seconds between polls: from the first after work ran out, doubling, to the floor under every hint.
FIRST_POLL: Final = 0.01
LAST_POLL: Final = 1.0
#: Seconds for which acknowledgements are held back, to go with others, or with the next look.
HOLD_BACK: Final = 0.02
#: Acknowledgements that are not held back any longer.
MOST_HELD_BACK: Final = 500
#: Bytes of messages that are taken at once, and messages that are brought back at once.
LARGEST_TAKE: Final = 4 * 1024 * 1024
PAGE: Final = 100
#: Signs of life in one visibility timeout.
SIGNS: Final = 4
#: Pages that connecting and closing may bring back; the rest waits for its time to be over.
MOST_PAGES: Final = 50


class RedisBroker(OutboxBroker):
    """Messages wait in lists of Redis, as kombu puts them there. One connection a process and thread publishes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.address = address_of(url)

    def make_publisher(self) -> Publisher:
        """Return a publisher with a connection of its own."""
        return Publisher(self.address)

    def consumer(self, owner: str, queues: Sequence[str]) -> "RedisConsumer":
        """Return a consumer with connections of its own."""
        return RedisConsumer(self.address, owner, queues)


class RedisConsumer(Consumer):
    """The worker's side: a connection that asks, and one that hears when a message was put into an idle queue.

    What it takes moves, in one step of the server, into a hash of this consumer, which gives signs of life. Without
    them for the visibility timeout, any other worker brings the messages back. Only `connect` makes several steps.
    """

    errors = (RedisError, OSError)
    forgets = True

    def __init__(self, address: Address, owner: str, queues: Sequence[str]) -> None:
        self._address = address
        self.place = f"Redis at {address.server}"
        self._owner = owner
        self._queues = list(queues)
        self._line: Line | None = None
        self._ear: Any = None
        self._fileno = -1
        self._epoch = 0
        self._name = ""
        self._window = 1
        self._open: set[int] = set()
        self._settled: list[int] = []
        self._hold_until = float("inf")
        #: Whether the last question was answered: on a line that hangs there is no farewell.
        self._is_sound = False
        self._was_warned = False

    # -- connecting

    def connect(self, rows_in_hand: Collection[int] = ()) -> None:  # noqa: ARG002 - rows are the steward's
        """Connect, under a new name; what an earlier connection held returns at once. Raises one of `errors`."""
        self.close()
        try:
            self._connect()
        except BaseException as error:
            self._drop()
            if isinstance(error, CeleryError) or not isinstance(error, OSError | RedisError):
                raise
            raise explained(error, self._address, patience=PATIENCE) from error

    def _connect(self) -> None:
        self._line = Line(self._address, patience=PATIENCE)
        if self._name:  # of a connection that was lost
            self._bring_back(self._name)
        self._epoch = next(_epochs)
        self._name = f"{self._owner}.{uuid.uuid4().hex}"
        self._keys = {queue: self._line.keys(queue) for queue in self._queues}
        self._open.clear()
        self._settled.clear()
        self._hold_until = float("inf")
        self._number = 1
        self._quiet = 0
        self._is_full = False
        self._sign_at = self._rescue_at = 0.0
        self._ask("EVAL", JOIN, 1, REGISTRY, self._name, self._milliseconds)
        self._ear = self._line.listen([hint_of(self._address, queue) for queue in self._queues])
        self._fileno = self._ear._sock.fileno() if self._ear else -1  # noqa: SLF001 - kombu looks there, too
        if not self._was_warned:
            self._was_warned = True
            self._warn_of_losses()

    @property
    def _milliseconds(self) -> int:
        return int(self._address.visibility_timeout * 1000)

    def _warn_of_losses(self) -> None:
        """Say once how this server may lose messages, as far as it tells."""
        with suppress(RefusedError):
            facts = self._live().client.info()
            if facts.get("maxmemory") and facts.get("maxmemory_policy", "noeviction") != "noeviction":
                logger.warning(
                    "Redis at %s may delete queues when its memory is full: its maxmemory-policy should be noeviction.",
                    self._address.server,
                )
            if not facts.get("aof_enabled", 1):
                logger.warning(
                    "Redis at %s does not write each message to its disk (appendonly no): a crash of it loses some.",
                    self._address.server,
                )

    def close(self) -> None:
        """Let go of the connections; what is unsettled returns to its queue, if the server can still be told."""
        if self._line is not None and self._is_sound and not self._line.is_inherited:
            with suppress(*self.errors):
                self._ask(settled=self._rest())
                self._bring_back(self._name)
                self._name = ""
        self._drop()

    def _drop(self) -> None:
        ear, self._ear = self._ear, None
        line, self._line = self._line, None
        self._epoch, self._fileno = 0, -1
        if ear is not None:
            ear.disconnect()
        if line is not None:
            line.drop()

    def fileno(self) -> int:
        """Return the descriptor of the hints: the same until `close`."""
        return self._fileno

    # -- taking

    def set_window(self, count: int) -> None:
        """Be told how many messages are wanted; 0: no more."""
        self._window = count

    def take(self, limit: int) -> list[Delivery]:
        """Take up to `limit` messages, settle what was held back, and give a sign of life, in one round trip."""
        self._live()
        if self._heard():
            self._quiet = 0
        wanted = max(limit, 0) if self._window else 0
        self._is_full = not wanted
        now = time.monotonic()
        if not wanted and now < min(self._sign_at, self._hold_until):
            return []
        found = self._exchange(wanted, now)
        if wanted:
            self._quiet = 0 if found else self._quiet + 1
        if now >= self._rescue_at:
            self._rescue(now)
        return found

    def _heard(self) -> bool:
        """Read the hints that have come. They say only that there may be something."""
        has_heard = False
        while self._ear is not None and self._ear.can_read(timeout=0):
            self._ear.read_response()
            has_heard = True
        return has_heard

    def _exchange(self, limit: int, now: float) -> list[Delivery]:
        keys = [key for steps in zip(*self._keys.values(), strict=True) for key in steps]
        queues = list(self._keys)
        found = self._ask(
            "EVAL",
            TAKE,
            2 + len(keys),
            *(REGISTRY, HELD + self._name, *keys),
            *(self._name, self._milliseconds, limit, LARGEST_TAKE, self._number),
            settled=self._rest(),
        )[-1]
        if found is None:
            raise ConnectionResetError("Redis has given this worker up, and its messages to others")
        self._sign_at = now + self._address.visibility_timeout / SIGNS
        self._keys[queues[0]] = self._keys.pop(queues[0])  # another queue goes first the next time
        return [
            self._delivery(queues[place % len(queues)], item)
            for place, item in zip(found[::2], found[1::2], strict=True)
        ]

    def _delivery(self, queue: str, item: bytes) -> Delivery:
        number, self._number = self._number, self._number + 1
        self._open.add(number)
        return read(item, queue, (self._epoch, number))

    def _rescue(self, now: float) -> None:
        """Bring back what lost workers held: a page at a time."""
        ((count, _),) = self._ask("EVAL", BRING_BACK, 1, REGISTRY, HELD, PAGE, "")
        self._rescue_at = now + (0.0 if count else self._address.visibility_timeout / SIGNS)

    def _bring_back(self, name: str) -> None:
        """Bring back what a consumer of ours held, as suspects."""
        for _ in range(MOST_PAGES):
            ((count, _),) = self._ask("EVAL", BRING_BACK, 1, REGISTRY, HELD, PAGE, name)
            if count < PAGE:
                return

    def next_poll(self) -> float:
        """Poll soon after work ran out, then ever more seldom: senders other than ours give no hints."""
        now = time.monotonic()
        pace = LAST_POLL if self._is_full else FIRST_POLL * 2.0 ** min(self._quiet, 10)
        return max(min(pace, LAST_POLL, self._sign_at - now, self._hold_until - now), 0.0)

    # -- settling

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge, together with others in a moment."""
        self._settled += self._struck(deliveries)
        if len(self._settled) >= MOST_HELD_BACK:
            self._ask(settled=self._rest())
        elif self._settled and self._hold_until == float("inf"):
            self._hold_until = time.monotonic() + HOLD_BACK

    def settle_for_certain(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Acknowledge, and return those that were still ours to acknowledge."""
        mine = [delivery for delivery in deliveries if self.may_settle(delivery)]
        answers = self._ask(settled=self._struck(mine))
        return [delivery for delivery, was_held in zip(mine, answers, strict=True) if was_held]

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return these to the head of their queue, as they came."""
        numbers = self._struck(deliveries)
        if numbers:
            self._ask("EVAL", GIVE_BACK, 1, HELD + self._name, *numbers)
            for queue in {delivery.queue for delivery in deliveries}:
                with suppress(RefusedError):
                    self._ask("PUBLISH", hint_of(self._address, queue), "")

    def may_settle(self, delivery: Delivery) -> bool:
        """Tell whether a delivery came on the connection that stands now, and is in our hands."""
        return delivery.tag is not None and delivery.tag[0] == self._epoch and delivery.tag[1] in self._open

    def _struck(self, deliveries: Iterable[Delivery]) -> list[int]:
        numbers = [delivery.tag[1] for delivery in deliveries if self.may_settle(delivery)]
        self._open.difference_update(numbers)
        return numbers

    def _rest(self) -> list[int]:
        """Return what was held back, to be settled now."""
        rest, self._settled = self._settled, []
        self._hold_until = float("inf")
        return rest

    def _ask(self, *words: Any, settled: Sequence[int] = ()) -> list[Any]:
        """Settle, and put a question if there is one, in one round trip: 1 for each that was held, and the answer."""
        self._is_sound = False
        pipeline = self._live().client.pipeline(transaction=False)
        for number in settled:
            pipeline.hdel(HELD + self._name, number)
        if words:
            pipeline.execute_command(*words)
        answers = list(pipeline.execute())
        self._is_sound = True
        return answers

    def _live(self) -> Line:
        if self._line is None:
            raise ConnectionResetError("not connected")
        return self._line


_epochs: Final = count(1)
