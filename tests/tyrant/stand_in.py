"""A stand-in for Tokyo Tyrant 1.1.41, of which no package is to be had: its binary protocol, and ways to misbehave.

What it answers is held against recorded answers of the real server (test_replay.py). It has one thread a connection,
where the real one has eight in all; no ``-tout``; no text protocols, Lua or queries of table databases.
"""

import contextlib
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Self

from tests.tyrant.records import MEMORY, VOLATILE, Records

LARGEST = 256 * 1024 * 1024
LONGEST_NAME = 1023
MOST_ARGUMENTS = 2**20

#: The commands, by their byte; also what `mask` may forbid.
NAMES = {
    0x10: "put",
    0x11: "putkeep",
    0x12: "putcat",
    0x13: "putshl",
    0x18: "putnr",
    0x20: "out",
    0x30: "get",
    0x31: "mget",
    0x38: "vsiz",
    0x50: "iterinit",
    0x51: "iternext",
    0x58: "fwmkeys",
    0x60: "addint",
    0x61: "adddouble",
    0x68: "ext",
    0x70: "sync",
    0x71: "optimize",
    0x72: "vanish",
    0x80: "rnum",
    0x81: "size",
    0x88: "stat",
    0x90: "misc",
}
EVERYTHING = frozenset(NAMES.values())

SUCCESS, FAILURE = b"\0", b"\1"


class Closed(Exception):
    """The connection is to be closed without a word."""


class TooLarge(Exception):
    """A size above the limits: no answer, and what is buffered behind it is run as commands."""

    def __init__(self, *, is_wedged: bool = False) -> None:
        self.is_wedged = is_wedged


class StandIn:
    """A server on 127.0.0.1; a context manager. `kind` is the type of its database, `mask` what is forbidden."""

    def __init__(self, kind: str = MEMORY, *, mask: Iterable[str] = ()) -> None:
        self.records = Records(kind)
        self.mask = frozenset(mask)
        self.served: Counter[str] = Counter()
        self.accepted = 0
        #: How many bytes of the next answer are sent before the connection is cut; None: all.
        self.cut_after: int | None = None
        self.lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self.stop()

    def _begin(self) -> None:
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), name="tyrant", daemon=True)
        self._acceptor.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.accepted += 1
                connection = _Connection(self, client)
                self._connections.append(connection)  # before it answers: whoever has an answer can hush it
                connection.start()

    # -- misbehaving

    def stop(self) -> None:
        """Refuse and close everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self.drop_connections()

    def start(self) -> None:
        """Serve again on the same port; a database in memory is empty."""
        if self.records.kind in VOLATILE:
            self.records = Records(self.records.kind)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._begin()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def drop_connections(self) -> None:
        """Close every connection that there is; new ones are welcome."""
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.end()

    def stall(self) -> None:
        """Answer nobody from now on."""
        self._flows.clear()

    def resume(self) -> None:
        """Answer again, also what was asked meanwhile."""
        self._flows.set()

    def hush(self) -> None:
        """Do what SIGHUP does: whoever is connected stays so, and is never answered; new connections are served."""
        for connection in self._connections:
            connection.is_hushed = True

    # -- for connections

    def wait_while_stalled(self) -> None:
        self._flows.wait()

    def cut(self, answer: bytes) -> bytes:
        """Return what of an answer may be sent, which is all but once."""
        if self.cut_after is None or not answer:
            return answer
        most, self.cut_after = self.cut_after, None
        return answer[:most]

    def stat(self) -> bytes:
        """Return what is known of the server; one that forbids stat tells its counters only."""
        counters = [("cnt_" + name, count) for name, count in self.served.items()]
        known = [("version", "1.1.41"), ("libver", 324), ("protver", "0.91"), ("pid", os.getpid())]
        known += [("time", f"{time.time():f}"), ("type", self.records.kind), ("rnum", len(self.records.rows))]
        shown = counters if "stat" in self.mask else [*known, *counters]
        return "".join(f"{name}\t{value}\n" for name, value in shown).encode()


class _Connection:
    """One client, served by a thread of its own."""

    def __init__(self, server: StandIn, client: socket.socket) -> None:
        self._server = server
        self._client = client
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""
        self.is_hushed = False

    def start(self) -> None:
        threading.Thread(target=self._serve, name="tyrant", daemon=True).start()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._client.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError, Closed):
            while True:
                try:
                    answer = self._answer()
                except TooLarge as error:
                    if not self._held and not error.is_wedged:
                        raise Closed from error
                    continue
                self._server.wait_while_stalled()
                if self.is_hushed:
                    continue
                allowed = self._server.cut(answer)
                self._client.sendall(allowed)
                if allowed != answer:
                    raise Closed
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._client.close()

    # -- reading

    def take(self, size: int) -> bytes:
        while len(self._held) < size:
            chunk = self._client.recv(1024 * 1024)
            if not chunk:
                raise Closed
            self._held += chunk
        found, self._held = self._held[:size], self._held[size:]
        return found

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(f">{form}", self.take(struct.calcsize(f">{form}")))

    def sizes(self, count: int = 1, largest: int = LARGEST) -> tuple[int, ...]:
        """Read sizes: a negative one closes the connection, one above the limit gets no answer."""
        found = self.numbers("i" * count)
        if min(found) < 0:
            raise Closed
        if max(found) > largest:
            raise TooLarge
        return found

    def text(self) -> bytes:
        return self.take(*self.sizes())

    def pair(self) -> tuple[bytes, bytes]:
        key_size, value_size = self.sizes(2)
        return self.take(key_size), self.take(value_size)

    def texts(self, count: int) -> list[bytes]:
        return [self.text() for _ in range(count)]

    # -- answering

    def _answer(self) -> bytes:
        if self.take(1) != b"\xc8":
            while self.take(1) != b"\n":
                pass  # a line of text; without its end it waits for ever
            raise Closed
        name = NAMES.get(self.take(1)[0])
        if name is None:
            raise Closed
        act: Callable[[bool], bytes] = getattr(self, f"_{name}")
        self._server.served[name] += 1
        return act(name not in self._server.mask)

    @property
    def _records(self) -> Records:
        return self._server.records

    def _coded(self, allowed: bool, act: Callable[[], object]) -> bytes:
        with self._server.lock:
            return SUCCESS if allowed and act() else FAILURE

    def _put(self, allowed: bool) -> bytes:
        key, value = self.pair()
        return self._coded(allowed, lambda: self._records.put(key, value))

    def _putkeep(self, allowed: bool) -> bytes:
        key, value = self.pair()
        return self._coded(allowed, lambda: self._records.putkeep(key, value))

    def _putcat(self, allowed: bool) -> bytes:
        key, value = self.pair()
        return self._coded(allowed, lambda: self._records.putcat(key, value))

    def _putshl(self, allowed: bool) -> bytes:
        key_size, value_size, width = self.sizes(3)
        key, value = self.take(key_size), self.take(value_size)
        return self._coded(allowed, lambda: self._records.putshl(key, value, width))

    def _putnr(self, allowed: bool) -> bytes:
        self._put(allowed)
        return b""

    def _out(self, allowed: bool) -> bytes:
        key = self.text()
        return self._coded(allowed, lambda: self._records.out(key))

    def _get(self, allowed: bool) -> bytes:
        key = self.text()
        with self._server.lock:
            value = self._records.rows.get(key) if allowed else None
        return FAILURE if value is None else SUCCESS + _sized(value)

    def _vsiz(self, allowed: bool) -> bytes:
        key = self.text()
        with self._server.lock:
            value = self._records.rows.get(key) if allowed else None
        return FAILURE if value is None else SUCCESS + struct.pack(">i", len(value))

    def _mget(self, allowed: bool) -> bytes:
        keys = self.texts(*self.sizes(largest=MOST_ARGUMENTS))
        with self._server.lock:
            rows = self._records.rows
            found = [(key, rows[key]) for key in keys if allowed and key in rows]
        pairs = [struct.pack(">ii", len(key), len(value)) + key + value for key, value in found]
        return SUCCESS + struct.pack(">i", len(pairs)) + b"".join(pairs)

    def _fwmkeys(self, allowed: bool) -> bytes:
        size, most = self.numbers("ii")
        prefix = self.take(size)
        with self._server.lock:
            return SUCCESS + _listed(self._records.fwmkeys(prefix, most) if allowed else [])

    def _iterinit(self, allowed: bool) -> bytes:
        return self._coded(allowed, self._records.iterinit)

    def _iternext(self, allowed: bool) -> bytes:
        with self._server.lock:
            key = self._records.iternext() if allowed else None
        return FAILURE if key is None else SUCCESS + _sized(key)

    def _addint(self, allowed: bool) -> bytes:
        (size,), (number,) = self.sizes(), self.numbers("i")
        key = self.take(size)
        with self._server.lock:
            total = self._records.addint(key, number) if allowed else None
        return FAILURE if total is None else SUCCESS + struct.pack(">i", total)

    def _adddouble(self, allowed: bool) -> bytes:
        (size,), (whole, fraction) = self.sizes(), self.numbers("qq")
        key = self.take(size)
        with self._server.lock:
            total = self._records.adddouble(key, whole, fraction) if allowed else None
        return FAILURE if total is None else SUCCESS + struct.pack(">qq", *total)

    def _ext(self, _allowed: bool) -> bytes:
        name, _, key, value = self.numbers("iiii")
        self.take(name + key + value)
        return FAILURE  # no Lua here

    def _sync(self, allowed: bool) -> bytes:
        return SUCCESS if allowed else FAILURE

    def _optimize(self, allowed: bool) -> bytes:
        self.text()
        return SUCCESS if allowed else FAILURE

    def _vanish(self, allowed: bool) -> bytes:
        return self._coded(allowed, self._records.vanish)

    def _rnum(self, allowed: bool) -> bytes:
        return SUCCESS + struct.pack(">Q", len(self._records.rows) if allowed else 0)

    def _size(self, allowed: bool) -> bytes:
        with self._server.lock:
            total = sum(len(key) + len(value) for key, value in self._records.rows.items())
        return SUCCESS + struct.pack(">Q", total if allowed else 0)

    def _stat(self, _allowed: bool) -> bytes:
        return SUCCESS + _sized(self._server.stat())

    def _misc(self, allowed: bool) -> bytes:
        name_size, _, count = self.numbers("iii")
        if name_size > LONGEST_NAME:
            raise TooLarge(is_wedged=True)
        if count > MOST_ARGUMENTS:
            raise TooLarge
        name, arguments = self.take(name_size), self.texts(count)
        with self._server.lock:
            succeeded, elements = self._records.misc(name, arguments) if allowed else (True, [])
        return (SUCCESS if succeeded else FAILURE) + _listed(elements)


def _sized(text: bytes) -> bytes:
    return struct.pack(">i", len(text)) + text


def _listed(texts: list[bytes]) -> bytes:
    return struct.pack(">i", len(texts)) + b"".join(map(_sized, texts))
