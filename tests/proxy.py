"""A TCP proxy that misbehaves on demand: it cuts, stalls and swallows what passes between a client and a server."""

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Self

CHUNK = 65536


class Proxy:
    """Listens on 127.0.0.1 and hands on to `host` and `port`; a context manager. With a `certificate` it speaks TLS.

    Its switches may be turned at any time: `stalled` passes nothing on, nor reads more; `is_deaf` swallows what the
    server says; `delay` is a pause in seconds before each piece that the client sends; `chunk` is the most bytes of a
    piece.
    """

    def __init__(self, host: str, port: int, *, certificate: Path | None = None) -> None:
        self._server = (host, port)
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._is_closing = False
        self._flows = threading.Event()
        self._flows.set()
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
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

    def cut(self) -> None:
        """End every connection that there is; new ones are welcome."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _end(end)

    def stall(self) -> None:
        """Pass nothing on from now on."""
        self._flows.clear()

    def resume(self) -> None:
        """Pass everything on again."""
        self._flows.set()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return sum(client.fileno() >= 0 for client, _ in self._pairs)

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                client, _ = self._listener.accept()
                if self._tls:
                    client = self._tls.wrap_socket(client, server_side=True)
                server = socket.create_connection(self._server)
            except OSError:
                continue
            self.accepted += 1
            self._pairs.append((client, server))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target, target is client), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while self._flows.wait() and (data := source.recv(self.chunk)):
                self._flows.wait()
                if is_answer and self.is_deaf:
                    continue
                if self.delay and not is_answer:
                    time.sleep(self.delay)
                target.sendall(data)
        _end(source)
        _end(target)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
