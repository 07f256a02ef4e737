"""A private memcached: 64 MB, items of at most 1 MB as by default, no UDP."""

from __future__ import annotations

import shutil
import signal
import socket
from typing import TYPE_CHECKING, ClassVar

from tests.servers.base import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

QUESTION = b"version\r\n"
ANSWER = b"VERSION "


class Memcached(Server):
    """memcached on 127.0.0.1. What is in it is gone when it is stopped."""

    name: ClassVar[str] = "memcached"
    packages: ClassVar[tuple[str, ...]] = ("memcached",)
    account: ClassVar[str] = "memcache"
    discard_signal: ClassVar[signal.Signals] = signal.SIGKILL  # a clean end takes a second and keeps nothing either
    variable: ClassVar[str] = "CELERY_TEST_MEMCACHED_ADDRESS"

    @classmethod
    def is_installed(cls) -> bool:
        """Look for the server."""
        return shutil.which("memcached") is not None

    @property
    def url(self) -> str:
        """Return host and port, as in the LOCATION of Django's cache."""
        return f"{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        """Run it in the foreground; `Server` has changed the user already."""
        return ["memcached", f"--listen={HOST}", f"--port={self.port}", "--udp-port=0", "--memory-limit=64"]

    def answers(self) -> bool:
        """Ask for its version."""
        with socket.create_connection((HOST, self.port), timeout=2) as connection:
            connection.sendall(QUESTION)
            return connection.recv(len(ANSWER)) == ANSWER


running = Memcached.running
