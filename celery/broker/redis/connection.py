"""Connections to Redis as kombu makes them, the options of their URL, and what is said when they fail.

Of kombu's transport come the address, TLS, the names of the lists and the form of a message, so that other users of
kombu can send here and take from here. Its way of taking is not used: it loses what a dying worker has just popped.
"""

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import kombu
from django.core.exceptions import ImproperlyConfigured

from celery.exceptions import BrokerUnreachable, CeleryError

try:
    import redis
except ImportError as error:
    raise ImproperlyConfigured("redis:// needs the package redis: run `pip install redis`") from error
if redis.VERSION < (6, 1):
    raise ImproperlyConfigured(f"kombu needs redis 6.1 or later; {redis.__version__} is installed: upgrade redis")

from kombu.transport.redis import Channel as StockChannel
from kombu.transport.redis import Transport as StockTransport

#: What redis-py raises: anything, an answer that refuses, and the end of a connection.
RedisError = redis.RedisError
RefusedError = redis.ResponseError
DISCONNECTED: Final = (redis.ConnectionError, ConnectionError)

DEFAULT_PORT: Final = 6379
#: Seconds without a sign of life after which the messages of a worker return to their queues.
VISIBILITY_TIMEOUT: Final = 60.0
SHORTEST_VISIBILITY: Final = 1.0
VISIBILITY: Final = "visibility_timeout"
CERTIFICATE: Final = "ssl_cert_reqs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL, read: what kombu gets of it, and what is ours."""

    url: str
    server: str
    database: int
    visibility_timeout: float


def address_of(url: str) -> Address:
    """Read ``redis://user:password@host:port/database?visibility_timeout=60``. Raises ImproperlyConfigured."""
    parts = urlsplit(url)
    try:
        port = parts.port or DEFAULT_PORT
        database = int(parts.path.strip("/") or 0)
    except ValueError:  # its text may hold a piece of the password
        text = "CELERY_BROKER_URL names one Redis server, as redis://user:password@host:6379/0: the 0 is the database"
        raise ImproperlyConfigured(text) from None
    options = dict(parse_qsl(parts.query))
    visibility_timeout = _seconds(options.pop(VISIBILITY, str(VISIBILITY_TIMEOUT)))
    if odd := [name for name in options if not name.startswith("ssl_")]:
        text = f"CELERY_BROKER_URL has the option {odd[0]!r}; redis:// knows {VISIBILITY}, and rediss:// also ssl_..."
        raise ImproperlyConfigured(text)
    if parts.scheme == "rediss":
        options = {CERTIFICATE: "required", **options}
    return Address(
        url=urlunsplit((parts.scheme, parts.netloc, f"/{database}", urlencode(options), "")),
        server=f"{parts.hostname or 'localhost'}:{port}",
        database=database,
        visibility_timeout=visibility_timeout,
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not SHORTEST_VISIBILITY <= seconds < float("inf"):
        text = f"{VISIBILITY}={text} in CELERY_BROKER_URL must be a number of seconds, at least {SHORTEST_VISIBILITY:g}"
        raise ImproperlyConfigured(text)
    return seconds


class _Channel(StockChannel):  # type: ignore[misc]
    """kombu's channel, on one connection, by the protocol that every version of Redis speaks."""

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        yield client or self.client

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu calls it so
        return {**super()._connparams(asynchronous), "protocol": 2}


class _Transport(StockTransport):  # type: ignore[misc]
    Channel = _Channel


class Line:
    """A connection. Every answer is waited for, `patience` seconds at most, and nothing is tried twice."""

    def __init__(self, address: Address, *, patience: float) -> None:
        self._pid = os.getpid()
        timeouts = {"socket_timeout": patience, "socket_connect_timeout": patience}
        connection = kombu.Connection(address.url, transport=_Transport, transport_options=timeouts)
        self._transport = connection.transport.establish_connection()
        self.channel = self._transport.create_channel(self._transport)
        self.client = self.channel.client
        _open.add(self)

    @property
    def is_inherited(self) -> bool:
        """Tell whether this process got it by a fork."""
        return self._pid != os.getpid()

    def keys(self, queue: str) -> list[str]:
        """Return the lists of `queue`, the most urgent first: kombu keeps one for each step of priorities."""
        return [self.key(queue, step) for step in self.channel.priority_steps]

    def key(self, queue: str, step: int) -> str:
        """Return the list of `queue` for messages of kombu's priority `step`."""
        return str(self.channel._q_for_pri(queue, step))  # noqa: SLF001 - kombu's name for it

    def listen(self, names: list[str]) -> Any:
        """Subscribe on a second connection and return it, or None where this user may not."""
        ear = self.client.connection_pool.get_connection()
        ear.send_command("SUBSCRIBE", *names)
        try:
            for _ in names:
                ear.read_response()
        except redis.ResponseError:
            ear.disconnect()
            return None
        return ear

    def drop(self) -> None:
        """Close without a word. One that was inherited by a fork loses its descriptors and lives on over there."""
        _open.discard(self)
        with suppress(OSError, redis.RedisError):
            self.channel.close()


_open: Final[weakref.WeakSet[Line]] = weakref.WeakSet()


def _drop_inherited() -> None:
    for line in list(_open):
        line.drop()


os.register_at_fork(after_in_child=_drop_inherited)


def explained(error: Exception, address: Address, *, patience: float) -> CeleryError:
    """Return the exception that tells the reader what to do about `error`."""
    server = f"Redis at {address.server}"
    # redis-py puts the command, and with it a piece of the message, before what the server said
    said = str(error).rpartition(" caused error: ")[2].rstrip(".")
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return BrokerUnreachable(
            f"{server} did not answer within {patience:g} s. It may be overloaded, or its disk slow. What was sent may"
            " arrive later. Publishers wait for CELERY_PUBLISH_TIMEOUT."
        )
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return BrokerUnreachable(f"{server} refused: {said}. Check user, password and ACL (CELERY_BROKER_URL).")
    if isinstance(error, redis.BusyLoadingError | redis.ResponseError):
        return BrokerUnreachable(f"{server} refused: {said}. See its log, its memory and its disk.")
    return BrokerUnreachable(f"{server} cannot be reached: {said}. Is it running? Check CELERY_BROKER_URL.")
