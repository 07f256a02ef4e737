"""Connections to an AMQP server that never wait longer than they were told.

Speaking the protocol is left to amqp, finding the server to kombu. Our own are: large reads instead of nine system
calls a message, without the busy loop of amqp's reading when it must not wait and holds half a frame; a deadline under
everything that waits; and a connection that a forked child lets go of without a word.
"""

import os
import select
import socket
import ssl
import time
import weakref
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import kombu
from amqp import Channel as StockChannel
from amqp import Connection as StockConnection
from amqp.exceptions import AMQPError, RecoverableConnectionError, UnexpectedFrame
from amqp.transport import SSLTransport, TCPTransport
from kombu.transport.pyamqp import DEFAULT_PORT, DEFAULT_SSL_PORT
from kombu.transport.pyamqp import Transport as StockTransport

from celery.broker.amqp.frames import END, ENVELOPE, Frame

RECEIVE: Final = 256 * 1024
#: No server agrees on frames of this size: who announces one does not speak AMQP.
LARGEST_FRAME: Final = 64 * 1024 * 1024
#: Seconds for the answer to a farewell, which usually takes two milliseconds.
FAREWELL: Final = 0.5


# -- reading


class _Buffered:
    """Reading for a transport of amqp: whole frames out of large reads, and no waiting but in `wait`."""

    sock: Any
    connected: bool
    _held = b""
    _at = 0

    def receive(self) -> bool:
        """Take in what has arrived; False if that is nothing. Raises OSError where the stream ends."""
        try:
            chunk = self._receive()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        if not chunk:
            self.connected = False
            raise ConnectionResetError("the server closed the connection")
        self._held = self._held[self._at :] + chunk
        self._at = 0
        return True

    def _receive(self) -> bytes:
        raise NotImplementedError

    def next_frame(self) -> Frame | None:
        """Return the next frame if it has arrived as a whole. Raises UnexpectedFrame."""
        held, at = self._held, self._at
        if len(held) < at + 8:
            return None
        kind, channel, size = ENVELOPE.unpack_from(held, at)
        if size > LARGEST_FRAME:
            raise UnexpectedFrame(f"what answers does not speak AMQP 0-9-1: {held[at : at + 40]!r}")
        end = at + 7 + size
        if len(held) <= end:
            return None
        if held[end] != END:
            raise UnexpectedFrame(f"a frame ends with {held[end]:#04x}")
        self._at = end + 1
        return kind, channel, held[at + 7 : end]

    def wait(self, deadline: float) -> None:
        """Wait for something to read. Raises TimeoutError at `deadline`, an instant of the monotonic clock."""
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError("no answer in time")


class TcpTransport(_Buffered, TCPTransport):  # type: ignore[misc]
    """The plain socket."""

    def _receive(self) -> bytes:
        return self.sock.recv(RECEIVE, socket.MSG_DONTWAIT)  # type: ignore[no-any-return]


class TlsTransport(_Buffered, SSLTransport):  # type: ignore[misc]
    """The socket under TLS; its writes are bounded by its own timeout."""

    def _receive(self) -> bytes:
        patience = self.sock.gettimeout()
        self.sock.settimeout(0)  # TLS may have nothing for us in what made the socket readable
        try:
            return self.sock.recv(RECEIVE)  # type: ignore[no-any-return]
        finally:
            self.sock.settimeout(patience)

    def _shutdown_transport(self) -> None:
        """Do without the farewell of TLS, which waits for the other side's."""


# -- connections


class _Channel(StockChannel):  # type: ignore[misc]
    """A channel that failed stays closed: the connection is dropped with it."""

    def _do_revive(self) -> None:
        self.is_open = False


class Connection(StockConnection):  # type: ignore[misc]
    """A connection of amqp on the transports above. Whatever waits for the server ends at `deadline`."""

    Channel = _Channel

    def __init__(self, *args: Any, deadline: float, **options: Any) -> None:
        self.deadline = deadline
        self.is_blocked = False
        self._pid = os.getpid()
        self._transport: Any = None
        super().__init__(*args, on_blocked=self._note_blocked, on_unblocked=self._note_unblocked, **options)
        _open.add(self)

    def Transport(self, host: str, connect_timeout: float, ssl: Any = False, *_: Any, **options: Any) -> _Buffered:  # noqa: N802, FBT002
        """Return the transport; the name, as the signature, is amqp's."""
        if ssl:
            return TlsTransport(host, connect_timeout=connect_timeout, ssl=ssl, **options)
        return TcpTransport(host, connect_timeout=connect_timeout, **options)

    def connect(self, callback: Any = None) -> None:
        """Shake hands; leaves nothing open if that fails."""
        try:
            super().connect(callback)
        except BaseException:
            self.collect()
            raise

    def _note_blocked(self, _reason: str) -> None:
        self.is_blocked = True

    def _note_unblocked(self) -> None:
        self.is_blocked = False

    @property
    def is_usable(self) -> bool:
        """Tell whether it is open, as far as this side knows, and was opened by this process."""
        return self._pid == os.getpid() and bool(self.connected)

    def blocking_read(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - amqp's signature
        """Handle the next frame. Raises TimeoutError at the deadline."""
        transport = self._in_use()
        while (frame := transport.next_frame()) is None:
            if not transport.receive():
                transport.wait(self.deadline)
        return self.on_inbound_frame(frame)

    def pump(self) -> bool:
        """Handle what has arrived, one large read of it at most, without waiting; False if there was nothing."""
        transport = self._in_use()
        busy = transport.receive()
        while (frame := transport.next_frame()) is not None:
            self.on_inbound_frame(frame)
        return bool(busy)

    def write(self, data: bytes) -> None:
        """Write frames."""
        self._in_use().write(memoryview(data))  # TLS writes in slices
        self.bytes_sent += 1

    def _in_use(self) -> Any:
        # amqp's own properties would open a lost connection again, in silence
        if self._transport is None or self._transport.sock is None:
            raise RecoverableConnectionError("the connection is closed")
        return self._transport

    def leave(self) -> None:
        """Close as the protocol asks for: all that was written is read then. Waits a moment at most."""
        if self.is_usable:
            self.deadline = time.monotonic() + FAREWELL
            with suppress(OSError, AMQPError):
                self._in_use().sock.settimeout(0)
                self.close()
        self.drop()

    def drop(self) -> None:
        """Close without a word. One that was inherited by a fork loses its descriptor here and lives on over there."""
        if self._pid == os.getpid():
            self.collect()
        elif self._transport is not None and self._transport.sock is not None:
            self._transport.sock.close()
            self._transport = None


_open: Final[weakref.WeakSet[Connection]] = weakref.WeakSet()


def _drop_inherited() -> None:
    for connection in list(_open):
        connection.drop()


os.register_at_fork(after_in_child=_drop_inherited)


class _KombuTransport(StockTransport):  # type: ignore[misc]
    """Lets kombu build our connections."""

    Connection = Connection


def connect(url: str, *, patience: float, **options: Any) -> Connection:
    """Connect to the first server of `url` (several are separated by semicolons) that answers.

    Gives up after `patience` seconds, which also bound every write. `options` are those of amqp's connection.
    Raises OSError and what amqp raises.
    """
    *others, last = _each(url)
    share = patience / (len(others) + 1)
    for other in others:
        with suppress(OSError, AMQPError):
            return _connect(other, share, {"write_timeout": patience, **options})
    return _connect(last, share, {"write_timeout": patience, **options})


def _connect(url: str, patience: float, options: dict[str, Any]) -> Connection:
    client = kombu.Connection(url, transport=_KombuTransport, connect_timeout=patience)
    client.ssl = _tls_options(client) if url.startswith("amqps:") else False
    client.transport_options = {"deadline": time.monotonic() + patience, **options}
    return client.transport.establish_connection()  # type: ignore[no-any-return]


def _tls_options(client: Any) -> dict[str, Any]:
    """Return what TLS needs: certificate and name of the server are verified unless the URL says otherwise."""
    asked = client.ssl if isinstance(client.ssl, dict) else {}
    options = {"cert_reqs": ssl.CERT_REQUIRED, **{name.removeprefix("ssl_"): value for name, value in asked.items()}}
    checks_name = options.pop("check_hostname", True) and options["cert_reqs"]
    return {"server_hostname": client.hostname if checks_name else None, **options}


def _each(url: str) -> list[str]:
    return [part if "://" in part else f"amqp://{part}" for part in url.split(";")]


def server_of(url: str) -> str:
    """Return host and port of `url` for messages: never a password."""
    servers = []
    for parts in map(urlsplit, _each(url)):
        port = parts.port or (DEFAULT_SSL_PORT if parts.scheme == "amqps" else DEFAULT_PORT)
        servers.append(f"{parts.hostname or 'localhost'}:{port}")
    return ", ".join(servers)
