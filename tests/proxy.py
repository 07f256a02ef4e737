"""A TCP proxy that misbehaves on demand: it cuts, stalls and swallows what passes between a client and a server."""

import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CHUNK = 65536


@dataclass(eq=False, slots=True)
class Pair:
    """A connection of a client, and ours to the server on its behalf."""

    client: socket.socket
    server: socket.socket
    #: Swallow everything, and let neither end know when the other leaves.
    is_frozen: bool = False
    #: Bytes that the client has said since then.
    unheard: int = 0

    @property
    def is_open(self) -> bool:
        """Tell whether the client is still there."""
        return self.client.fileno() >= 0

    def end(self) -> None:
        _end(self.client)
        _end(self.server)


class Proxy:
    """Listens on 127.0.0.1 and hands on to `host` and `port`; a context manager. With a `certificate` it speaks TLS.

    Its switches may be turned at any time: `stalled` passes nothing on, nor reads more; `is_deaf` swallows what the
    server says; `delay` is a pause in seconds before each piece that the client sends; `chunk` is the most bytes of a
    piece.

    It counts: connections `accepted`, bytes `passed` on, bytes `swallowed`, pieces `delayed`.
    """

    def __init__(self, host: str, port: int, *, certificate: Path | None = None) -> None:
        self._server = (host, port)
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[Pair] = []
        self._is_closing = False
        self._flows = threading.Event()
        self._flows.set()
        self.port: int = self._listener.getsockname()[1]
        self.accepted = self.passed = self.swallowed = self.delayed = 0
        self.is_deaf = False
        self.delay = 0.0
        self.chunk = CHUNK

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing = True
        self._flows.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> int:
        """End every connection that there is, and return how many clients had one; new ones are welcome."""
        pairs, self._pairs = self._pairs, []
        clients = sum(pair.is_open for pair in pairs)
        for pair in pairs:
            pair.end()
        return clients

    def stall(self) -> None:
        """Pass nothing on from now on."""
        self._flows.clear()

    def resume(self) -> None:
        """Pass everything on again."""
        self._flows.set()

    def freeze(self) -> int:
        """Make half-open the connections that there are, and return how many; new ones are served.

        For good: what either end says is swallowed, and neither learns that the other has left, until `cut`.
        """
        alive = [pair for pair in self._pairs if pair.is_open and not pair.is_frozen]
        for pair in alive:
            pair.is_frozen = True
        return len(alive)

    def bury(self) -> int:
        """End the connections that were made half-open, and return how many clients still held theirs."""
        frozen = [pair for pair in self._pairs if pair.is_frozen]
        held = sum(pair.is_open for pair in frozen)
        for pair in frozen:
            pair.end()
        self._pairs = [pair for pair in self._pairs if pair not in frozen]
        return held

    @property
    def waiting(self) -> int:
        """The number of clients that have said something over a half-open connection, and still hold it."""
        return sum(pair.is_open and pair.is_frozen and pair.unheard > 0 for pair in self._pairs)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return sum(pair.is_open for pair in self._pairs)

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                continue
            try:
                if self._tls:
                    client = self._tls.wrap_socket(client, server_side=True)
                server = socket.create_connection(self._server)
            except OSError:
                _end(client)  # as a server that is away would
                continue
            self.accepted += 1
            pair = Pair(client, server)
            self._pairs = [*(one for one in self._pairs if one.is_open or one.is_frozen), pair]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(pair, source, target), daemon=True).start()

    def _pass_on(self, pair: Pair, source: socket.socket, target: socket.socket) -> None:
        is_answer = source is pair.server
        with contextlib.suppress(OSError):
            while self._flows.wait() and (data := source.recv(self.chunk)):
                self._flows.wait()
                size = len(data)  # two threads count: nothing may be called within one of their additions
                if pair.is_frozen or (is_answer and self.is_deaf):
                    self.swallowed += size
                    pair.unheard += 0 if is_answer else size
                    continue
                if self.delay and not is_answer:
                    self.delayed += 1
                    time.sleep(self.delay)
                target.sendall(data)
                self.passed += size
        _end(source)
        if not pair.is_frozen:
            _end(target)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
