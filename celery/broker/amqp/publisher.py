"""Publishing to RabbitMQ: one connection a thread, every message confirmed, one wait however many they are.

kombu's own ``confirm_publish`` takes any confirm for that of the last message; here every publish has its number.
"""

import socket
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from amqp import spec
from amqp.exceptions import AMQPError, ConnectionForced, NotFound, PreconditionFailed
from amqp.exceptions import ConnectionError as AmqpConnectionError

from celery import conf
from celery import message as wire
from celery.broker.amqp.frames import content, opening
from celery.broker.amqp.properties import SHORT, properties_of
from celery.broker.amqp.transport import connect, server_of
from celery.exceptions import BrokerUnreachable, CeleryError, MessageTooLarge, UnroutableMessage
from celery.message import Message

#: Bytes that are written before the confirms that came meanwhile are read.
PAGE: Final = 64 * 1024
#: What amqp writes before an error that concerns the whole connection.
NO_METHOD: Final = "(0, 0): "


class NackedError(Exception):
    """The server refused a message."""


class Publisher:
    """The publishing side of one thread. After any exception its connection is dropped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._line: _Line | None = None

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish; durable when this returns. Raises BrokerUnreachable, UnroutableMessage, MessageTooLarge.

        Waits while confirms come in, and CELERY_PUBLISH_TIMEOUT seconds without any. If the connection is lost, what is
        not confirmed is published once more: these may be second copies, and say so in a header.
        """
        if not messages:
            return
        with self._explaining():
            line = self._connected()
            try:
                line.publish(messages)
            except (TimeoutError, BlockingIOError):
                raise
            except (OSError, AmqpConnectionError, NotFound):  # NotFound: somebody deleted the exchange
                unsure = [
                    replace(message, headers={**message.headers, wire.RELAYED: 1}) for message in line.unconfirmed
                ]
                self.drop()
                self._connected().publish(unsure)

    def depth(self, queue: str) -> int:
        """Return the number of ready messages in `queue`, 0 if there is none of this name. Raises BrokerUnreachable."""
        with self._explaining():
            return self._connected().depth(queue)

    def purge(self, queue: str) -> int:
        """Delete the ready messages of `queue`, 0 if there is none of this name. Raises BrokerUnreachable."""
        with self._explaining():
            return self._connected().purge(queue)

    def drop(self) -> None:
        """Let go of the connection."""
        if self._line is not None:
            self._farewell.detach()
            self._line.connection.drop()
            self._line = None

    def _connected(self) -> "_Line":
        if self._line is None or not self._line.is_alive():
            self.drop()
            self._line = _Line(self._url)
            # when the thread, or the program, ends
            self._farewell = weakref.finalize(self, self._line.connection.leave)
        return self._line

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            is_blocked = self._line is not None and self._line.connection.is_blocked
            self.drop()
            if isinstance(error, CeleryError) or not isinstance(error, OSError | AMQPError | NackedError):
                raise
            raise explained(error, self._url, is_blocked=is_blocked) from error


class _Line:
    """A connection that publishes: the queues that it declared, and the messages that await their confirm."""

    def __init__(self, url: str) -> None:
        self._patience = float(conf.PUBLISH_TIMEOUT)
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
        return [*self._waiting.values(), *self._returned]

    def is_alive(self) -> bool:
        """Tell whether the connection still stands, by reading what the server has said since it was last used."""
        try:
            if self.connection.is_usable:
                self.connection.pump()
        except (OSError, AMQPError):
            return False
        return self.connection.is_usable

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish, and wait for every confirm. Raises OSError, NackedError, UnroutableMessage and what amqp raises.

        What the server returns lies in no queue: somebody deleted it. It is declared anew, and the message sent again.
        """
        self._patience = float(conf.PUBLISH_TIMEOUT)
        self._max_priority = conf.QUEUE_MAX_PRIORITY
        self._send(messages)
        if self._returned:
            self._send(self._returned)
        if self._returned:
            raise UnroutableMessage(
                f"RabbitMQ has no queue {self._returned[0].queue!r} bound to the exchange {conf.AMQP_EXCHANGE!r},"
                " though it was declared a moment ago: see what deletes or unbinds it, or send to another queue"
            )

    def _send(self, messages: Sequence[Message]) -> None:
        self._extend()
        first = self._count + 1
        self._waiting = dict(enumerate(messages, first))
        self._count += len(messages)
        self._returned = []
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
        return content(
            self._channel.channel_id,
            properties_of(message, max_priority=self._max_priority),
            message.body,
            self.connection.frame_max,
        )

    def _extend(self) -> None:
        self.connection.deadline = time.monotonic() + self._patience

    def _confirmed(self, number: int, multiple: bool) -> None:  # noqa: FBT001 - amqp calls it so
        self._extend()
        for confirmed in range(self._oldest if multiple else number, number + 1):
            self._waiting.pop(confirmed, None)
        if multiple:
            self._oldest = number + 1

    def _refused(self, _number: int, _multiple: bool) -> None:  # noqa: FBT001 - amqp calls it so
        raise NackedError("a message was refused (basic.nack)")

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


# -- queues


def declare(channel: Any, queue: str) -> None:
    """Declare exchange, queue and binding, as Celery declares its default queue. Raises UnroutableMessage.

    One round trip: what fails of the first two is told in place of the last one's answer.
    """
    if len(queue.encode()) > SHORT:
        raise UnroutableMessage(f"the name of a queue takes at most {SHORT} bytes in AMQP: {queue!r:.80}")
    try:
        channel.exchange_declare(
            conf.AMQP_EXCHANGE, conf.AMQP_EXCHANGE_TYPE, durable=True, auto_delete=False, nowait=True
        )
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=queue_arguments(), nowait=True)
        channel.queue_bind(queue, conf.AMQP_EXCHANGE, routing_key=binding_key(queue))
    except PreconditionFailed as error:
        raise UnroutableMessage(
            f"the queue {queue!r} or the exchange {conf.AMQP_EXCHANGE!r} exists on RabbitMQ with other arguments"
            f" ({error.reply_text}). Delete it there, or set CELERY_QUEUE_TYPE, CELERY_QUEUE_MAX_PRIORITY or"
            " CELERY_AMQP_EXCHANGE_TYPE to what it was declared with."
        ) from error


def binding_key(queue: str) -> str:
    """Return the key by which `queue` is bound: its name, unless the settings say another for the default queue."""
    return str(conf.AMQP_CONSUMER_ROUTING_KEY) if queue == conf.AMQP_CONSUMER_QUEUE else queue


def routing_key(queue: str) -> str:
    """Return the key with which messages for `queue` are published: its name, but for the default queue likewise."""
    return str(conf.AMQP_PUBLISHER_ROUTING_KEY) if queue == conf.AMQP_CONSUMER_QUEUE else queue


def queue_arguments() -> dict[str, Any]:
    """Return the arguments of a queue: none in the usual case, which is what Celery declares."""
    arguments: dict[str, Any] = {}
    if conf.QUEUE_TYPE == "quorum":
        arguments["x-queue-type"] = "quorum"
    if conf.QUEUE_MAX_PRIORITY:
        arguments["x-max-priority"] = conf.QUEUE_MAX_PRIORITY
    return arguments


# -- what went wrong


def explained(error: Exception, url: str, *, is_blocked: bool = False) -> CeleryError:
    """Return the exception that tells the reader what to do about `error`."""
    server = f"RabbitMQ at {server_of(url)}"
    if isinstance(error, PreconditionFailed) and error.method_sig == spec.Basic.Publish:
        return MessageTooLarge(f"{server} refused the message: {error.reply_text}")
    if isinstance(error, NackedError):
        return BrokerUnreachable(
            f"{server} refused the message: the queue is full or the server is in trouble; see its log"
        )
    if isinstance(error, TimeoutError | BlockingIOError):
        return BrokerUnreachable(f"{server} {_silence(is_blocked=is_blocked)}")
    if isinstance(error, ConnectionForced):
        return BrokerUnreachable(f"{server} closed the connection: {said(error)}. Does it restart? See its log.")
    if isinstance(error, AMQPError):
        return BrokerUnreachable(
            f"{server} refused: {said(error)}. Check user, password, virtual host and permissions (CELERY_BROKER_URL)."
        )
    return BrokerUnreachable(f"{server} cannot be reached: {said(error)}. Is it running? Check CELERY_BROKER_URL.")


def said(error: Exception) -> str:
    """Return the words of `error` for a sentence: without amqp's mark of no method, line breaks and a full stop."""
    return " ".join(str(error).removeprefix(NO_METHOD).split()).rstrip(".")


def _silence(*, is_blocked: bool) -> str:
    if is_blocked:
        return "takes no messages, short of memory or disk (see `rabbitmqctl status`). What was sent may arrive later."
    return (
        f"did not answer within {conf.PUBLISH_TIMEOUT:g} s (CELERY_PUBLISH_TIMEOUT). It may be overloaded, or short of"
        " memory or disk (see `rabbitmqctl status`). What was sent may arrive later."
    )
