"""A private PostgreSQL, as durable as a real one: fsync and synchronous_commit are on."""

from __future__ import annotations

import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.servers.base import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

USER = "celery"
DATABASE = "celery"
PROTOCOL = 196_608  # 3.0
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}


class PostgreSQL(Server):
    """PostgreSQL on 127.0.0.1 that trusts every local user, so never put anything private into it."""

    name: ClassVar[str] = "postgresql"
    packages: ClassVar[tuple[str, ...]] = ("postgresql",)
    account: ClassVar[str] = "postgres"
    variable: ClassVar[str] = "CELERY_TEST_POSTGRES_URL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": does not wait for clients to leave
    discard_signal: ClassVar[signal.Signals] = signal.SIGINT  # a harder end would leave shared memory behind

    @classmethod
    def is_installed(cls) -> bool:
        """Look where Debian puts the programs of its PostgreSQL versions."""
        return bool(_programs())

    @property
    def url(self) -> str:
        """Return the address as a URL."""
        return f"postgres://{USER}@{HOST}:{self.port}/{DATABASE}"

    @property
    def dsn(self) -> str:
        """Return the address as libpq's keywords."""
        return f"host={HOST} port={self.port} user={USER} dbname={DATABASE}"

    def prepare(self) -> None:
        """Make the cluster; only this step skips the syncing."""
        initdb = ("--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C.UTF-8")
        self.run_tool(_program("initdb"), *initdb, "-D", str(self._cluster))

    def command(self) -> Sequence[str]:
        """Run the postmaster with the settings on its command line."""
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        return [_program("postgres"), "-D", str(self._cluster), f"--port={self.port}", *settings]

    def answers(self) -> bool:
        """Log in as a client would: the first byte of the answer is R (authentication) or E (not yet)."""
        body = struct.pack("!i", PROTOCOL) + f"user\0{USER}\0database\0postgres\0\0".encode()
        with socket.create_connection((HOST, self.port), timeout=2) as connection:
            connection.sendall(struct.pack("!i", len(body) + 4) + body)
            welcome = connection.recv(1)
            connection.sendall(b"X\0\0\0\4")
        return welcome == b"R"

    def finish(self) -> None:
        """Make the database."""
        self.run_tool(_program("createdb"), "-h", HOST, "-p", str(self.port), "-U", USER, DATABASE)

    @property
    def _cluster(self) -> Path:
        return self.data / "cluster"


def _program(name: str) -> str:
    return str(_programs()[-1] / name)


def _programs() -> list[Path]:
    """Return the folders of the installed versions, the newest last."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return sorted(found, key=lambda path: float(path.parent.name))


running = PostgreSQL.running
