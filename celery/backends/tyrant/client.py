"""A client of Tokyo Tyrant: connections that never wait longer than they were told, and are never used after an error.

The protocol has neither frames nor request ids, so after a failure the next answer would be taken for another's. A
request is written as a whole, never in pieces that can stall: a server with ``-tout`` carries out half of it.
"""

import os
import select
import socket
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from celery.backends.tyrant.protocol import SLOWEST, Answers, NonsenseError, Request, Value_co, stat
from celery.exceptions import CeleryError, ResultBackendUnreachable, ResultBackendUnusable

#: Requests, and bytes of them, that are written before their answers are read.
BATCH: Final = 64
BATCH_BYTES: Final = 1024 * 1024

#: The types of databases, as `stat` tells them, that keep a value as it is. A table and a fixed-length database answer
#: success and store something else.
TYPES: Final = ("on-memory hash", "on-memory tree", "hash", "B+ tree")


class Client:
    """One connection to one server, for one thread; it is opened at the first request.

    Raises ResultBackendUnreachable, and ResultBackendUnusable for a database of a wrong type. After any exception,
    also one that a signal handler raised, the connection is dropped.
    """

    def __init__(self, host: str, port: int, *, timeout: float) -> None:
        self._host = host
        self._port = port
        self._timeout = timeout
        self._line: _Line | None = None
        #: How many connections there have been.
        self.epoch = 0
        _clients.add(self)

    def call(self, request: Request[Value_co]) -> Value_co:
        """Return the answer of one request."""
        (answer,) = self.run([request])
        return answer

    def run(self, requests: Sequence[Request[Value_co]]) -> list[Value_co]:
        """Return the answers, in order. Some requests may be done when this raises.

        Where the connection is lost, or silent for the timeout, it is opened anew, once, and what was not answered
        is repeated if that does no harm.
        """
        answers: list[Value_co] = []
        has_failed = False
        for batch in _batches(requests):
            with self._explaining():
                try:
                    answers += self._connected().exchange(batch)
                except OSError:
                    if has_failed or self._line is None or not all(request.may_repeat for request in batch):
                        raise
                    has_failed = True
                    self.drop()
                    answers += self._connected().exchange(batch)
        return answers

    def drop(self) -> None:
        """Let go of the connection. It has no farewell, so one that another process inherited lives on over there."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _connected(self) -> "_Line":
        if self._line is not None and not self._line.is_quiet():
            self.drop()
        if self._line is None:
            self._line = _Line(self._host, self._port, self._timeout)
            self.epoch += 1
        return self._line

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.drop()
            if isinstance(error, CeleryError) or not isinstance(error, OSError | NonsenseError):
                raise
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> CeleryError:
        server = f"Tokyo Tyrant at {self._host}:{self._port}"
        if isinstance(error, NonsenseError):
            return ResultBackendUnreachable(
                f"{server} answered what does not belong to its protocol: {error}. Is that another server's port? Check"
                " TT_HOST and TT_PORT."
            )
        if isinstance(error, TimeoutError):
            return ResultBackendUnreachable(
                f"{server} did not answer within {self._timeout:g} s (CELERY_TT_TIMEOUT). All its threads may be busy,"
                " see its -thnum."
            )
        return ResultBackendUnreachable(
            f"{server} cannot be reached: {error}. Is it running? Check TT_HOST and TT_PORT."
        )


class _Line:
    """An open connection to a server whose database is of a type that keeps results."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._timeout = timeout
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except ValueError as error:  # a name that no host can have
            raise OSError(str(error)) from error
        self._farewell = weakref.finalize(self, self._socket.close)
        self._answers = Answers(self._socket, timeout)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _check_type(self.exchange([stat()])[0], f"Tokyo Tyrant at {host}:{port}")
        except BaseException:
            self.close()
            raise

    def exchange(self, requests: Sequence[Request[Value_co]]) -> list[Value_co]:
        """Write all requests at once, then read all answers. Raises OSError, NonsenseError."""
        data = b"".join([request.data for request in requests])
        self._socket.settimeout(self._timeout + len(data) / SLOWEST)
        self._socket.sendall(data)
        self._answers.begin()
        answers = [request.read(self._answers) for request in requests]
        self._answers.end()
        return answers

    def is_quiet(self) -> bool:
        """Tell whether the server has said nothing since the last answer: not even that it closed the connection."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self._farewell()


def _batches(requests: Sequence[Request[Value_co]]) -> Iterator[list[Request[Value_co]]]:
    """Cut `requests` into what is written at once: whoever writes much without reading can stop both sides for ever."""
    batch: list[Request[Value_co]] = []
    size = 0
    for request in requests:
        if batch and (len(batch) == BATCH or size + len(request.data) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(request)
        size += len(request.data)
    if batch:
        yield batch


def _check_type(state: dict[str, str], server: str) -> None:
    found = state.get("type")
    if found is None:
        raise ResultBackendUnusable(
            f"{server} does not tell the type of its database, which has to be known: allow the command stat (-mask)."
        )
    if found not in TYPES:
        raise ResultBackendUnusable(
            f"{server} has a database of the type {found!r:.80}, in which results would be lost. Start ttserver with an"
            " on-memory database (* or +), a hash database (.tch) or a B+ tree (.tcb), or change TT_HOST and TT_PORT."
        )


_clients: Final[weakref.WeakSet[Client]] = weakref.WeakSet()


def _drop_inherited() -> None:
    for client in list(_clients):
        client.drop()


os.register_at_fork(after_in_child=_drop_inherited)
