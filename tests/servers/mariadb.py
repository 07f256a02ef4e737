"""A private MariaDB, as durable as a real one: each commit is flushed to the disk."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING, ClassVar

from tests.servers.base import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

USER = "celery"
DATABASE = "celery"
GREETING = 0x0A  # the version of the protocol; an error, as while it starts, is 0xFF
SETTINGS = {
    "bind-address": HOST,
    "character-set-server": "utf8mb4",
    "innodb-flush-log-at-trx-commit": "1",
    "innodb-log-file-size": "64M",
    "max-connections": "200",
}
FIRST_STATEMENTS = f"""\
CREATE DATABASE IF NOT EXISTS {DATABASE};
CREATE USER IF NOT EXISTS '{USER}'@'{HOST}';
GRANT ALL ON *.* TO '{USER}'@'{HOST}' WITH GRANT OPTION;
"""


class MariaDB(Server):
    """MariaDB on 127.0.0.1 that trusts every local user, so never put anything private into it."""

    name: ClassVar[str] = "mariadb"
    packages: ClassVar[tuple[str, ...]] = ("mariadb-server",)
    account: ClassVar[str] = "mysql"
    variable: ClassVar[str] = "CELERY_TEST_MARIADB_URL"

    @classmethod
    def is_installed(cls) -> bool:
        """Look for the server and for what makes its data folder."""
        return bool(_found("mariadbd")) and bool(_found("mariadb-install-db"))

    @property
    def url(self) -> str:
        """Return the address as a URL."""
        return f"mysql://{USER}@{HOST}:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        """Make the system tables, and a file of statements that each start executes before anybody can connect."""
        self.run_tool(
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self._tables}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        )
        self._init_file.write_text(FIRST_STATEMENTS, encoding="utf-8")
        self._init_file.chmod(0o644)

    def command(self) -> Sequence[str]:
        """Run the server with its settings on the command line, and no configuration file."""
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        return [
            _program("mariadbd"),
            "--no-defaults",  # has to be the first
            f"--datadir={self._tables}",
            f"--port={self.port}",
            "--socket=socket",  # in the data folder: a full path may be too long for a socket
            "--pid-file=pid",
            f"--init-file={self._init_file}",
            "--skip-name-resolve",
            *settings,
        ]

    def answers(self) -> bool:
        """Look at the first packet: three bytes of length, a number, and the version of the protocol."""
        with socket.create_connection((HOST, self.port), timeout=2) as connection:
            connection.settimeout(2)
            greeting = connection.recv(5)
        return len(greeting) == 5 and greeting[4] == GREETING

    @property
    def _tables(self) -> str:
        return str(self.data / "tables")

    @property
    def _init_file(self) -> Path:
        return self.folder / "first.sql"


def _program(name: str) -> str:
    return _found(name) or name


def _found(name: str) -> str | None:
    """Return where the program is; Debian keeps servers out of the PATH of ordinary users."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


running = MariaDB.running
