"""Where a run takes place: servers of its own, which may be broken, and relays between them and everybody.

Each worker and the producers reach each server through a relay of their own, so that a fault can concern one of them.
Only the observer, who sets up and judges, connects directly.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

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
DATABASES = ("postgresql", "mariadb")


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

    def _through(self, who: str, server: str) -> str:
        url = str(self.servers[server].url)
        if not who:
            return url
        parts = urlsplit(url)
        return urlunsplit(
            parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{self.relays[who, server].port}"))
        )


@contextmanager
def opened(name: str, folder: Path, users: tuple[str, ...]) -> Iterator[Place]:
    """Start the servers of a place, and a relay to each for each of `users`, until the block ends."""
    kind = PLACES[name]
    (folder / "database").mkdir()
    ensure_installed([KINDS[server] for server in kind.servers])
    with ExitStack() as stack:
        started: dict[str, Server] = {server: KINDS[server]() for server in kind.servers}
        for server in started.values():
            stack.callback(server.discard)
        start_together(list(started.values()))
        place = Place(name=name, kind=kind, folder=folder, servers=dict(started))
        for who in users:
            for server_name, server in started.items():
                place.relays[who, server_name] = stack.enter_context(Proxy(HOST, server.port))
        yield place
