"""A server that says what it was told to say, whatever it is asked; the first request of a connection is `stat`."""

import contextlib
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from celery.backends.tyrant.protocol import stat
from tests.tyrant.recorded import one

#: The greeting of each connection: a server with a database that can be used.
GREETING = one("mem", "stat").answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Bytes to wait for, bytes to say, and whether to close then."""

    wait_for: int = 1
    say: bytes = b""
    then_close: bool = False


@dataclass
class Scripted:
    """A context manager. Each connection gets the greeting, then one of `scripts`, the last one again and again."""

    scripts: Sequence[Sequence[Turn]]
    greeting: bytes = GREETING
    heard: list[bytes] = field(default_factory=list)
    accepted: int = 0

    def __enter__(self) -> Self:
        self.open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="scripted", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self.open:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.open.append(client)
                script = self.scripts[min(self.accepted, len(self.scripts) - 1)]
                self.accepted += 1
                threading.Thread(target=self._play, args=(client, script), name="scripted", daemon=True).start()

    def _play(self, client: socket.socket, script: Sequence[Turn]) -> None:
        with contextlib.suppress(OSError):
            for turn in (Turn(wait_for=len(stat().data), say=self.greeting), *script):
                self._take(client, turn)
                client.sendall(turn.say)
                if turn.then_close:
                    client.shutdown(socket.SHUT_RDWR)
                    return

    def _take(self, client: socket.socket, turn: Turn) -> None:
        taken = b""
        while len(taken) < turn.wait_for and (chunk := client.recv(turn.wait_for - len(taken))):
            taken += chunk
        self.heard.append(taken)
