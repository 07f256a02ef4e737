"""A connection that publishes: each message has its number, and one wait covers however many there are.

kombu's own ``confirm_publish`` takes any confirm for that of the last message.
"""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from amqp.exceptions import AMQPError, NotFound

from celery import conf
from celery.broker.amqp.frames import content, opening
from celery.broker.amqp.properties import properties_of
from celery.broker.amqp.queues import declare, routing_key
from celery.broker.amqp.transport import connect
from celery.broker.base import nothing
from celery.exceptions import MessageTooLarge, UnroutableMessage
from celery.message import Message

#: Bytes that are written before the confirms that came meanwhile are read.
PAGE: Final = 64 * 1024
#: What asks whether the server reads: no queue has this name.
PROBE: Final = Message(task_id="", task="", body=b"", queue="celery.probe")
FOREVER: Final = float("inf")
#: Bytes of a frame of properties that are none: the envelope, its end, and what says how long the body is.
HEADER_OVERHEAD: Final = 8 + 12


class NackedError(Exception):
    """The server refused messages."""


class Line:
    """A connection that publishes: the queues that it declared, and the messages that await their confirm."""

    def __init__(self, url: str) -> None:
        self._patience = float(conf.PUBLISH_TIMEOUT)
        self._until = FOREVER
        self.connection = connect(url, patience=self._patience, socket_settings=user_timeout(self._patience))
        try:
            self._channel = self._open_channel()
        except BaseException:
            self.connection.drop()
            raise
        self._max_priority: int | None = None
        self._openings: dict[str, bytes] = {}
        self._count = 0
        self._oldest = 1
        self._waiting: dict[int, Message] = {}
        self._returned: list[Message] = []
        self._nacked: list[Message] = []

    def _open_channel(self) -> Any:
        self._extend()
        channel = self.connection.channel()
        channel.auto_decode = False
        channel.confirm_select(nowait=True)
        channel.events["basic_ack"].add(self._confirmed)
        channel.events["basic_nack"].add(self._refused)
        channel.events["basic_return"].add(self._came_back)
        return channel

    @property
    def unconfirmed(self) -> list[Message]:
        """Return those of the last publish that may not have arrived."""
        return [*self._waiting.values(), *self._returned, *self._nacked]

    def is_alive(self) -> bool:
        """Tell whether the connection still stands, by reading what the server has said since it was last used."""
        try:
            if self.connection.is_usable:
                self.connection.pump()
        except (OSError, AMQPError):
            return False
        return self.connection.is_usable

    def probe(self) -> None:
        """Publish to nowhere, twice, and wait for the confirms. Raises TimeoutError.

        RabbitMQ reads nothing more after the first publish that finds it short of memory or disk; the confirm of that
        one still comes.
        """
        for _ in range(2):
            self._expect([PROBE])
            nowhere = opening(self._channel.channel_id, "", PROBE.queue, mandatory=False)
            self._write([nowhere, self._content(PROBE)])
            self._wait()

    def publish(
        self, messages: Sequence[Message], deadline: float = FOREVER, meanwhile: Callable[[], object] = nothing
    ) -> None:
        """Publish, and wait for every confirm. Raises OSError, NackedError, UnroutableMessage and what amqp raises.

        What the server returns lies in no queue: somebody deleted it. It is declared anew, and the message sent again.
        """
        self._expect(messages)
        self._until = deadline
        self._patience = float(conf.PUBLISH_TIMEOUT)
        self._max_priority = conf.QUEUE_MAX_PRIORITY
        self._nacked = []
        self._send(messages)
        meanwhile()
        self._wait()
        if self._returned:
            returned = self._returned
            self._expect(returned)
            self._send(returned)
            self._wait()
        if self._nacked:
            raise NackedError(f"{len(self._nacked)} messages were refused (basic.nack)")
        if self._returned:
            raise UnroutableMessage(
                f"RabbitMQ has no queue {self._returned[0].queue!r} bound to the exchange {conf.AMQP_EXCHANGE!r},"
                " though it was declared a moment ago: see what deletes or unbinds it, or send to another queue"
            )
        self._until = FOREVER

    def _expect(self, messages: Sequence[Message]) -> None:
        """Number `messages`: from now on they wait for their confirms."""
        self._waiting = dict(enumerate(messages, self._count + 1))
        self._count += len(messages)
        self._returned = []

    def _send(self, messages: Sequence[Message]) -> None:
        self._extend()
        page: list[bytes] = []
        size = 0
        for message in messages:
            page += (self._opening(message.queue), self._content(message))
            size += len(page[-1])
            if size > PAGE:
                self._write(page)
                self.connection.pump()
                page, size = [], 0
        self._write(page)

    def _wait(self) -> None:
        while self._waiting:
            self.connection.drain_events()

    def _write(self, page: list[bytes]) -> None:
        self.connection.write(b"".join(page))
        self._extend()

    def _opening(self, queue: str) -> bytes:
        found = self._openings.get(queue)
        if found is None:
            declare(self._channel, queue)
            self._extend()
            found = self._openings[queue] = opening(self._channel.channel_id, conf.AMQP_EXCHANGE, routing_key(queue))
        return found

    def _content(self, message: Message) -> bytes:
        """Return the frames of a message. Raises MessageTooLarge: more than a frame of headers ends the connection."""
        properties, room = properties_of(message, max_priority=self._max_priority), self.connection.frame_max
        if len(properties) > room - HEADER_OVERHEAD:
            raise MessageTooLarge(
                f"the headers of task {message.task_id} take {len(properties):,} bytes, and RabbitMQ takes them in one"
                f" frame of {room:,} (frame_max): send less in them"
            )
        return content(self._channel.channel_id, properties, message.body, room)

    def _extend(self) -> None:
        self.connection.deadline = min(time.monotonic() + self._patience, self._until)

    def _confirmed(self, number: int, multiple: bool) -> None:  # noqa: FBT001 - amqp calls it so
        self._extend()
        self._answered(number, multiple=multiple)

    def _refused(self, number: int, multiple: bool) -> None:  # noqa: FBT001 - amqp calls it so
        self._extend()
        self._nacked += self._answered(number, multiple=multiple)

    def _answered(self, number: int, *, multiple: bool) -> list[Message]:
        numbers = range(self._oldest if multiple else number, number + 1)
        if multiple:
            self._oldest = number + 1
        return [self._waiting.pop(one) for one in numbers if one in self._waiting]

    def _came_back(self, _error: Exception, _exchange: str, key: str, returned: Any) -> None:
        for number, message in self._waiting.items():
            if message.body == returned.body and routing_key(message.queue) == key:
                self._openings.pop(message.queue, None)
                self._returned.append(self._waiting.pop(number))
                return

    def depth(self, queue: str) -> int:
        """Return the number of ready messages."""
        return self._ask(lambda channel: channel.queue_declare(queue, passive=True).message_count)

    def purge(self, queue: str) -> int:
        """Delete the ready messages and return their number."""
        return self._ask(lambda channel: channel.queue_purge(queue))

    def _ask(self, question: Callable[[Any], Any]) -> int:
        """Ask about a queue on a channel of its own: one that is missing counts 0 and costs the channel."""
        self._extend()
        channel = self.connection.channel()
        try:
            answer = int(question(channel))
        except NotFound:
            channel.collect()
            return 0
        channel.close()
        return answer


def user_timeout(seconds: float) -> dict[int, int]:
    """Return the socket option that ends a connection whose other side is silent for so long, where there is one."""
    return {socket.TCP_USER_TIMEOUT: int(seconds * 1000)} if hasattr(socket, "TCP_USER_TIMEOUT") else {}
