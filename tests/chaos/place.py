"""Where a run takes place: servers of its own, which may be broken, and relays between them and everybody.

Each worker and the producers reach each server through a relay of their own, so that a fault can concern one of them.
Only the observer, who sets up and judges, connects directly.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from amqp.exceptions import NotFound
from kombu import Connection

from tests.proxy import Proxy
from tests.servers import KINDS, start_together
from tests.servers.base import HOST, Server
from tests.servers.install import ensure_installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A choice of broker and database. `servers` are names of `tests.servers`; no database server means SQLite."""

    title: str
    servers: tuple[str, ...] = ()
    queue_type: str = "classic"

    @property
    def has_database_server(self) -> bool:
        return not set(DATABASES).isdisjoint(self.servers)


DATABASES = ("postgresql", "mariadb")
#: Bytes of the disk that a fault can fill: a long run's SQLite file is about 100 MB.
SMALL_DISK: Final = 512 * 1024 * 1024

PLACES = {
    "sqlite": Kind(title="database broker on SQLite"),
    "postgresql": Kind(title="database broker on PostgreSQL", servers=("postgresql",)),
    "mariadb": Kind(title="database broker on MariaDB", servers=("mariadb",)),
    "rabbitmq": Kind(title="RabbitMQ and PostgreSQL", servers=("postgresql", "rabbitmq")),
    "quorum": Kind(
        title="RabbitMQ (quorum queue) and PostgreSQL", servers=("postgresql", "rabbitmq"), queue_type="quorum"
    ),
    "rabbitmq-sqlite": Kind(title="RabbitMQ and SQLite", servers=("rabbitmq",)),
}


@dataclass(slots=True, kw_only=True)
class Place:
    """The servers of one run. `folder` holds whatever is a file."""

    name: str
    kind: Kind
    folder: Path
    servers: dict[str, Any] = field(default_factory=dict)
    #: By who uses it ("worker-1", "producers") and the name of the server behind it.
    relays: dict[tuple[str, str], Proxy] = field(default_factory=dict)

    @property
    def database(self) -> str:
        """The name of the database server, or "sqlite"."""
        return next((name for name in self.servers if name in DATABASES), "sqlite")

    @property
    def has_rabbitmq(self) -> bool:
        return "rabbitmq" in self.servers

    @property
    def sqlite_file(self) -> Path:
        return self.folder / "database" / "chaos.sqlite3"

    def broker_url(self, who: str = "") -> str:
        """Return the broker's URL for somebody; without a name for the observer."""
        return self._through(who, "rabbitmq") if self.has_rabbitmq else "django://"

    def database_url(self, who: str = "") -> str:
        return str(self.sqlite_file) if self.database == "sqlite" else self._through(who, self.database)

    def environment(self, who: str = "") -> dict[str, str]:
        """Return the variables of the settings that differ from one to the other."""
        return {"CELERY_BROKER_URL": self.broker_url(who), "SHOP_DATABASE": self.database_url(who)}

    def relays_of(self, server: str, who: str = "") -> list[Proxy]:
        """Return the relays to a server, those of everybody or of one."""
        return [relay for (user, its), relay in self.relays.items() if its == server and who in ("", user)]

    def mend(self) -> None:
        """Let every link flow and every server run again."""
        for relay in self.relays.values():
            relay.is_deaf, relay.delay = False, 0.0
            relay.bury()
            relay.resume()
        for server in self.servers.values():
            server.start()

    def depth(self, queue: str) -> int:
        """Return the number of ready messages in a queue of RabbitMQ. The connection is closed: none is to be left."""
        if not self.has_rabbitmq:
            return 0
        with Connection(self.broker_url()) as connection:
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
            except NotFound:
                return 0

    def _through(self, who: str, server: str) -> str:
        url = str(self.servers[server].url)
        if not who:
            return url
        parts = urlsplit(url)
        return urlunsplit(
            parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{self.relays[who, server].port}"))
        )


@contextmanager
def opened(name: str, folder: Path, users: Sequence[str], *, small_disk: bool = False) -> Iterator[Place]:
    """Start the servers of a place, and a relay to each for each of `users`, until the block ends.

    With `small_disk` the folder of the SQLite file is a file system of its own with `SMALL_DISK` bytes, where we may
    mount one.
    """
    kind = PLACES[name]
    ensure_installed([KINDS[server] for server in kind.servers])
    with ExitStack() as stack:
        _make_database_folder(folder / "database", stack, small=small_disk)
        started: dict[str, Server] = {server: KINDS[server]() for server in kind.servers}
        for server in started.values():
            stack.callback(server.discard)
        start_together(list(started.values()))
        place = Place(name=name, kind=kind, folder=folder, servers=dict(started))
        for who in users:
            for server_name, server in started.items():
                place.relays[who, server_name] = stack.enter_context(Proxy(HOST, server.port))
        yield place


def _make_database_folder(folder: Path, stack: ExitStack, *, small: bool) -> None:
    folder.mkdir()
    if small:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)], capture_output=True, check=False
        )
        stack.callback(unmount, folder)


def unmount(folder: Path) -> None:
    """Take a small disk away, if there is one: lazily, somebody may still have a file open."""
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
