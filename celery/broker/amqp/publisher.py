"""Publishing to RabbitMQ: one connection a thread, every message confirmed, and what is said when that fails."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from amqp import spec
from amqp.exceptions import AccessRefused, AMQPError, ConnectionForced, NotFound, PreconditionFailed
from amqp.exceptions import ConnectionError as AmqpConnectionError

from celery import conf
from celery import message as wire
from celery.broker.amqp.line import FOREVER, Line, NackedError
from celery.broker.amqp.transport import server_of
from celery.broker.base import Passed, nothing
from celery.exceptions import BrokerUnreachable, CeleryError, MessageTooLarge
from celery.message import Message

#: What amqp writes before an error that concerns the whole connection.
NO_METHOD: Final = "(0, 0): "


class Publisher:
    """The publishing side of one thread. After any exception its connection is dropped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._line: Line | None = None
        self._may_probe = True
        #: Whether the server has answered the question before the last `pass_on`.
        self._has_read = False
        #: Those of the last `publish` that may not have arrived.
        self._missing: Sequence[Message] = ()

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish; durable when this returns. Raises BrokerUnreachable, UnroutableMessage, MessageTooLarge.

        Waits while confirms come in, and CELERY_PUBLISH_TIMEOUT seconds without any. If the connection is lost, what is
        not confirmed is published once more: these may be second copies, and say so in a header.
        """
        if messages:
            with self._explaining():
                self._publish(self._connected(), messages, FOREVER)

    def pass_on(
        self, messages: Sequence[Message], deadline: float, meanwhile: Callable[[], object] = nothing
    ) -> Passed:
        """Publish until `deadline`, and tell what has arrived. `meanwhile` is called before confirms are awaited.

        With a deadline, nothing is sent to a server that does not read: what is written there waits, and arrives when
        its alarm is over, once for each try.
        """
        self._missing = messages
        self._has_read = False
        try:
            with self._explaining():
                line = self._connected()
                if deadline < FOREVER:  # it will try again and again; who has none tries once, and is in a hurry
                    line = self._probed(line)
                self._has_read = True
                self._publish(line, messages, deadline, meanwhile)
        except CeleryError as error:
            missing = {(message.task_id, message.attempt) for message in self._missing}
            arrived = [at for at, one in enumerate(messages) if (one.task_id, one.attempt) not in missing]
            cause = error.__cause__
            is_silent = isinstance(cause, TimeoutError | BlockingIOError) and self._has_read
            return Passed(arrived=arrived, error=error, is_refused=isinstance(cause, NackedError), is_silent=is_silent)
        return Passed(arrived=range(len(messages)))

    def _publish(
        self, line: Line, messages: Sequence[Message], deadline: float, meanwhile: Callable[[], object] = nothing
    ) -> None:
        self._missing = messages
        try:
            line.publish(messages, deadline, meanwhile)
        except (TimeoutError, BlockingIOError):
            raise
        except (OSError, AmqpConnectionError, NotFound):  # NotFound: somebody deleted the exchange
            unsure = [replace(message, headers={**message.headers, wire.RELAYED: 1}) for message in line.unconfirmed]
            self._missing = unsure
            self.drop()
            line = self._connected()
            line.publish(unsure, deadline)
        finally:
            self._missing = line.unconfirmed

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

    def _connected(self) -> Line:
        if self._line is None or not self._line.is_alive():
            self._line = self._probed(self._fresh())
        return self._line

    def _fresh(self) -> Line:
        self.drop()
        self._line = Line(self._url)
        # when the thread, or the program, ends
        self._farewell = weakref.finalize(self, self._line.connection.leave)
        return self._line

    def _probed(self, line: Line) -> Line:
        """Return `line`, or a new one, of a server that reads. Raises TimeoutError for one that does not."""
        try:
            if self._may_probe:
                line.probe()
        except AccessRefused:  # this user may not write to the default exchange, and the channel is closed now
            self._may_probe = False
            return self._fresh()
        return line

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
