"""What all private servers share: folder, ports, user, start and stop. A kind of server says what is its own.

A server ends with the thread that started it: the kernel signals it, even after kill -9, so start servers from the
main thread. A detached one stays until it is stopped by its folder.
"""

from __future__ import annotations

import atexit
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Self

from tests.servers import folder as folders
from tests.servers.install import ensure_installed
from tests.servers.processes import Identity, end, kill_family

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

HOST = "127.0.0.1"
PORTS = range(20_000, 30_000)  # below the range from which the kernel takes ports for outgoing connections
LOG_LINES_SHOWN = 40


class ServerError(Exception):
    """A server did not start or one of its tools failed; the text holds the end of its log."""


class Server:
    """One private server.

    A subclass names itself, its Debian packages, its system user and the environment variable that tests read, and says
    how to prepare the data, which command to run and how to see that it answers.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    account: ClassVar[str]
    variable: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    discard_signal: ClassVar[signal.Signals] = signal.SIGTERM
    start_seconds: ClassVar[float] = 60.0
    stop_seconds: ClassVar[float] = 30.0

    def __init__(self, *, detached: bool = False) -> None:
        """Make the folder; nothing runs yet."""
        self.detached = detached
        self.folder = folders.create()
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.port = free_port()
        self._owner = Identity.of(os.getpid())
        self._process: subprocess.Popen[bytes] | None = None
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._write_state()
        if not detached:
            _living.add(self)

    # What a kind of server says.

    @classmethod
    def is_installed(cls) -> bool:
        """Say whether the programs are on this machine."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Return the address in the form that celery's settings take."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Fill the data folder, which exists and belongs to the server's user. Called once."""

    def start_helpers(self) -> None:
        """Start by `spawn_helper` what the server needs beside itself. Called before every start."""

    def command(self) -> Sequence[str]:
        """Return the command that runs the server in the foreground, under one process id."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return the whole environment of the server and its tools."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.data), "LANG": "C.UTF-8"}

    def answers(self) -> bool:
        """Say whether a client can connect now; OSError means no."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what is left once the server answers for the first time."""

    # What can be done with it.

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        """Install the server if it is missing, and run one until the block ends."""
        ensure_installed([cls])
        server = cls()
        try:
            server.start()
            yield server
        finally:
            server.discard()

    def start(self) -> None:
        """Start, and return when it answers; raises ServerError."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start without waiting."""
        if self._is_running():
            return
        self._prepare_once()
        self._helpers = [helper for helper in self._helpers if helper.poll() is None]
        if not self._helpers:
            self.start_helpers()
        self._process = self._spawn(self.command(), number=self.stop_signal)
        self._write_state()

    def wait_until_ready(self) -> None:
        """Return when it answers; raises ServerError with its log when it ends or takes too long."""
        deadline = time.monotonic() + self.start_seconds
        while not self._answers_now():
            if not self._is_running():
                raise self._failure("ended while starting")
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {self.start_seconds:.0f} s")
            time.sleep(0.05)
        self._finish_once()

    def restart(self) -> None:
        """Stop it cleanly and start it on the same ports and data."""
        self._end_server(self.stop_signal)
        self.start()

    def stop(self) -> None:
        """Stop it cleanly with all that was started for it; the data stay, and `start` works again."""
        self._end_server(self.stop_signal)
        self._end_helpers()

    def kill(self) -> None:
        """End it as a crash would; the data stay, and `start` works again."""
        if self._process is not None and self._is_running():
            identity = Identity.of(self._process.pid)
            if identity is not None:
                kill_family(identity)
            self._process.wait()
        self._process = None

    def pause(self) -> list[Identity]:
        """Stop all its processes where they stand, and return them; `go_on` lets them run again."""
        first = Identity.of(self._process.pid) if self._process is not None else None
        if first is None:
            return []
        first.send(signal.SIGSTOP)  # before the others: it is the one that forks
        family = [first, *first.descendants()]
        for member in family[1:]:
            member.send(signal.SIGSTOP)
        return family

    def go_on(self) -> None:
        """Let everything run again that `pause` has stopped."""
        first = Identity.of(self._process.pid) if self._process is not None else None
        for member in [] if first is None else [*first.descendants(), first]:
            member.send(signal.SIGCONT)

    def discard(self) -> None:
        """Stop it and delete its folder. Harmless when called twice, and in a fork of the owner."""
        if self._owner != Identity.of(os.getpid()):
            return
        _living.discard(self)
        self._end_server(self.discard_signal)
        self._end_helpers()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run_tool(self, *command: str) -> str:
        """Run one of the server's own tools as the server's user and return what it printed; raises ServerError."""
        done = subprocess.run(
            [*self._as_user(), *command],
            env=self.environment(),
            cwd=self.data,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise self._failure(f"{command[0]} failed with code {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def spawn_helper(self, *command: str) -> None:
        """Start a process that the server needs; it ends after the server."""
        self._helpers.append(self._spawn(command, number=signal.SIGTERM))

    def give_away(self, path: Path) -> None:
        """Let the server's user own a file or folder, when that is another user."""
        if os.geteuid() == 0:
            user = pwd.getpwnam(self.account)
            os.chown(path, user.pw_uid, user.pw_gid)

    # How it is done.

    def _prepare_once(self) -> None:
        if self.data.exists():
            return
        self.data.mkdir(mode=0o700)
        self.give_away(self.data)
        self.prepare()

    def _finish_once(self) -> None:
        marker = self.folder / "finished"
        if not marker.exists():
            self.finish()
            marker.touch()

    def _spawn(self, command: Sequence[str], *, number: signal.Signals) -> subprocess.Popen[bytes]:
        last_words = [] if self.detached else ["--pdeathsig", number.name.removeprefix("SIG")]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self._as_user(*last_words), *command],
                env=self.environment(),
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we end the servers in order
            )

    def _as_user(self, *options: str) -> list[str]:
        """Return a prefix that changes to the server's user if we are root, and keeps the process id."""
        if os.geteuid() == 0:
            user = pwd.getpwnam(self.account)
            options = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", *options)
        return ["setpriv", *options, "--"] if options else []

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _answers_now(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False

    def _end_server(self, number: signal.Signals) -> None:
        if self._process is not None:
            _end(self._process, number, within=self.stop_seconds)
        self._process = None

    def _end_helpers(self) -> None:
        while self._helpers:
            _end(self._helpers.pop(), signal.SIGTERM, within=self.stop_seconds)

    def _write_state(self) -> None:
        started = [(helper, signal.SIGTERM) for helper in self._helpers]
        if self._process is not None:
            started.append((self._process, self.discard_signal))
        known = [(who, number) for process, number in started if (who := Identity.of(process.pid)) is not None]
        folders.write_state(self.folder, owner=None if self.detached else self._owner, processes=known)

    def _failure(self, what: str) -> ServerError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        end_of_log = "\n".join(lines[-LOG_LINES_SHOWN:])
        return ServerError(f"{self.name} {what}\n--- the end of {self.log}:\n{end_of_log}")


def free_port() -> int:
    """Return a port on which nobody listens now."""
    for port in random.sample(PORTS, k=200):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    message = f"no free port between {PORTS.start} and {PORTS.stop}"
    raise ServerError(message)


def _end(process: subprocess.Popen[bytes], number: signal.Signals, *, within: float) -> None:
    identity = Identity.of(process.pid) if process.poll() is None else None
    if identity is not None:
        end(identity, number, within=within)
    process.wait()


_living: weakref.WeakSet[Server] = weakref.WeakSet()


@atexit.register
def _discard_all() -> None:
    """Leave nothing behind when nobody used the context manager."""
    for server in list(_living):
        server.discard()
