"""A private RabbitMQ node with its own epmd, Erlang cookie, configuration and data."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.servers.base import HOST, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAMS = Path("/usr/lib/rabbitmq/bin")  # behind Debian's wrappers, which insist on the system's own data
GREETING = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"
CONFIGURATION = f"""\
listeners.tcp.1 = {HOST}:{{port}}
log.console = true
log.console.level = info
log.file = false
"""


class RabbitMQ(Server):
    """RabbitMQ on 127.0.0.1 with its usual guest account."""

    name: ClassVar[str] = "rabbitmq"
    packages: ClassVar[tuple[str, ...]] = ("rabbitmq-server",)
    account: ClassVar[str] = "rabbitmq"
    variable: ClassVar[str] = "CELERY_TEST_AMQP_URL"
    discard_signal: ClassVar[signal.Signals] = signal.SIGKILL  # its data go anyway, and a clean end takes seconds

    def __init__(self, *, detached: bool = False) -> None:
        """Pick the two more ports that Erlang nodes need to find each other."""
        self.epmd_port = free_port()
        self.node_port = free_port()
        super().__init__(detached=detached)

    @classmethod
    def is_installed(cls) -> bool:
        """Look for the server and for epmd."""
        return (PROGRAMS / "rabbitmq-server").exists() and shutil.which("epmd") is not None

    @property
    def url(self) -> str:
        """Return the address as a URL; the virtual host is "/"."""
        return f"amqp://guest:guest@{HOST}:{self.port}//"

    def prepare(self) -> None:
        """Write cookie and configuration."""
        self._write("data/.erlang.cookie", secrets.token_hex(20), mode=0o400)
        self._write("data/rabbitmq.conf", CONFIGURATION.format(port=self.port), mode=0o600)
        self._write("data/enabled_plugins", "[].\n", mode=0o600)

    def start_helpers(self) -> None:
        """Start epmd ourselves: a node that finds none starts one that outlives it."""
        self.spawn_helper("epmd", "-address", HOST, "-port", str(self.epmd_port))

    def command(self) -> Sequence[str]:
        """Run the start script, which becomes the Erlang machine."""
        return [str(PROGRAMS / "rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        """Point every path and port of the node away from the system's."""
        return super().environment() | {
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.data / "rabbitmq.conf"),
            "RABBITMQ_CTL_DIST_PORT_MAX": "31999",
            "RABBITMQ_CTL_DIST_PORT_MIN": "30000",
            "RABBITMQ_DIST_PORT": str(self.node_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.data / "generated"),
            "RABBITMQ_LOG_BASE": str(self.data / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.data / "mnesia"),
            "RABBITMQ_NODENAME": f"celery{self.node_port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(self.data / "pid"),
            # The start script then runs the Erlang machine in its own place, and signals reach it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def answers(self) -> bool:
        """Greet it as a client would; it listens only when it is completely up."""
        with socket.create_connection((HOST, self.port), timeout=2) as connection:
            connection.sendall(GREETING)
            return connection.recv(1) == METHOD_FRAME

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl on this node and return what it printed; raises ServerError."""
        return self.run_tool(str(PROGRAMS / "rabbitmqctl"), *arguments)

    def _write(self, name: str, text: str, *, mode: int) -> None:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        self.give_away(path)


running = RabbitMQ.running
