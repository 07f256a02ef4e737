"""Publishing to Redis: one connection a thread, many messages in one command, every answer waited for."""

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from celery import conf
from celery import message as wire
from celery.broker.base import Passed, nothing
from celery.broker.redis.connection import DISCONNECTED, Address, Line, RedisError, explained
from celery.broker.redis.envelope import envelope_of, step_of
from celery.exceptions import CeleryError
from celery.message import Message

#: Messages, and bytes of them, that go into one round trip.
PAGE: Final = 1000
LARGEST_PAGE: Final = 4 * 1024 * 1024


class Publisher:
    """The publishing side of one thread. After any exception its connection is dropped."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._line: Line | None = None

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish; in their queues when this returns. Raises BrokerUnreachable.

        Waits CELERY_PUBLISH_TIMEOUT seconds for each answer. If the connection is lost, the page that was not answered
        is published once more: these may be second copies, and say so in a header.
        """
        if messages:
            with self._explaining():
                for page in pages(messages):
                    self._put(page)

    def pass_on(
        self, messages: Sequence[Message], deadline: float, meanwhile: Callable[[], object] = nothing
    ) -> Passed:
        """Publish until `deadline`, page by page, and tell what has arrived. `meanwhile` comes first: pages wait."""
        meanwhile()
        arrived = 0
        try:
            with self._explaining():
                for page in pages(messages):
                    if time.monotonic() > deadline:
                        raise TimeoutError
                    self._put(page)
                    arrived += len(page)
        except CeleryError as error:
            return Passed(arrived=range(arrived), error=error)
        return Passed(arrived=range(arrived))

    def _put(self, page: Sequence[Message]) -> None:
        line = self._connected()
        try:
            put(line, self._address, page)
        except DISCONNECTED:
            self.drop()
            again = [replace(one, headers={**one.headers, wire.RELAYED: 1}) for one in page]
            put(self._connected(), self._address, again)

    def depth(self, queue: str) -> int:
        """Return the number of ready messages in `queue`. Raises BrokerUnreachable."""
        with self._explaining():
            line = self._connected()  # one list after the other: a transaction, as kombu's, is refused by a full server
            return sum(int(line.client.llen(key)) for key in line.keys(queue))

    def purge(self, queue: str) -> int:
        """Delete the ready messages of `queue` and return their number. Raises BrokerUnreachable."""
        with self._explaining():
            return int(self._connected().channel.queue_purge(queue))

    def drop(self) -> None:
        """Let go of the connection."""
        if self._line is not None:
            self._farewell.detach()
            self._line.drop()
            self._line = None

    def _connected(self) -> Line:
        if self._line is None or self._line.is_inherited:
            self.drop()
            self._line = Line(self._address, patience=float(conf.PUBLISH_TIMEOUT))
            # when the thread, or the program, ends
            self._farewell = weakref.finalize(self, self._line.drop)
        return self._line

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.drop()
            if isinstance(error, CeleryError) or not isinstance(error, OSError | RedisError):
                raise
            raise explained(error, self._address, patience=float(conf.PUBLISH_TIMEOUT)) from error


def put(line: Line, address: Address, messages: Sequence[Message]) -> None:
    """Put `messages` into their lists, in their order, and hint to idle workers. Raises what redis raises."""
    lists: dict[str, list[str]] = {}
    for message in messages:
        lists.setdefault(line.key(message.queue, step_of(message)), []).append(envelope_of(message, line.channel))
    pipeline: Any = line.client.pipeline(transaction=False)
    for key, items in lists.items():
        pipeline.lpush(key, *items)
    for queue in {message.queue for message in messages}:
        pipeline.publish(hint_of(address, queue), "")
    answers = pipeline.execute(raise_on_error=False)
    for answer in answers[: len(lists)]:  # a hint may fail: not every user may publish
        if isinstance(answer, Exception):
            raise answer


def pages(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Yield `messages` in pages."""
    page: list[Message] = []
    size = 0
    for message in messages:
        page.append(message)
        size += len(message.body)
        if len(page) == PAGE or size >= LARGEST_PAGE:
            yield page
            page, size = [], 0
    if page:
        yield page


def hint_of(address: Address, queue: str) -> str:
    """Return the name under which a message in `queue` is told: all databases of a server share these names."""
    return f"celery.ready.{address.database}.{queue}"
