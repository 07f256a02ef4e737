"""A private Redis, as durable as Redis can be: every write is on disk before it is answered."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING, ClassVar

from tests.servers.base import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

PING = b"PING\r\n"
PONG = b"+PONG\r\n"
SETTINGS = {
    "bind": HOST,
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "databases": "16",
    "maxmemory-policy": "noeviction",
}


class Redis(Server):
    """Redis on 127.0.0.1 without a password, so never put anything private into it."""

    name: ClassVar[str] = "redis"
    packages: ClassVar[tuple[str, ...]] = ("redis-server",)
    account: ClassVar[str] = "redis"
    variable: ClassVar[str] = "CELERY_TEST_REDIS_URL"

    @classmethod
    def is_installed(cls) -> bool:
        """Look for the server."""
        return shutil.which("redis-server") is not None

    @property
    def url(self) -> str:
        """Return the address as a URL, without a database number."""
        return f"redis://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        """Run the server with its settings on the command line, and no configuration file."""
        settings = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
        return ["redis-server", "--port", str(self.port), "--dir", str(self.data), *settings]

    def answers(self) -> bool:
        """Ask as a client would; while it still loads its data it answers with an error."""
        with socket.create_connection((HOST, self.port), timeout=2) as connection:
            connection.sendall(PING)
            return connection.recv(len(PONG)) == PONG


running = Redis.running
