"""A worker under what behaves like systemd: it is told of each state, gets signs of life, and pings are answered."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from celery.task import Task
from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place
from tests.integration.settings import INSTALLED_APPS
from tests.integration.worker import WorkerProcess, run_celeryd
from tests.proxy import Proxy
from tests.shop import tasks
from tests.shop.daemon import ROOT

SOON = 15.0
#: Seconds: of a watchdog that is quick and yet no race on a busy machine.
WATCHDOG = 6.0
CREDENTIALS = struct.Struct("3i")


class Fresh(Task):
    """A task whose code is in a file that the test writes."""

    name = "fresh.version"


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one process said at one moment."""

    at: float
    pid: int
    text: str


class ServiceManager:
    """The socket of notifications that systemd has, read as soon as something comes; a context manager."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.lines: list[Line] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(0.1)
        self._is_over = False
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over = True
        self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        while not self._is_over:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(CREDENTIALS.size))
            except TimeoutError:
                continue
            ((_, _, credentials),) = ancillary
            pid, _, _ = CREDENTIALS.unpack(credentials)
            at = time.monotonic()
            self.lines += [Line(at=at, pid=pid, text=text) for text in data.decode().splitlines()]

    def heard(self, beginning: str) -> list[str]:
        """Return the lines that begin so."""
        return [line.text for line in list(self.lines) if line.text.startswith(beginning)]

    def states(self) -> list[str]:
        """Return the changes of state, in their order."""
        return [line for line in self.heard("") if line in {"READY=1", "RELOADING=1", "STOPPING=1"}]

    def silence(self) -> float:
        """Return the seconds since the last sign of life."""
        return time.monotonic() - max(line.at for line in list(self.lines) if line.text == "WATCHDOG=1")


class Service(WorkerProcess):
    """A worker that systemd has started, with a socket for pings."""

    def __init__(  # noqa: PLR0913 - what a service can be told
        self,
        place: Place,
        manager: ServiceManager,
        folder: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        socket_by_variable: bool = False,
    ) -> None:
        self.manager = manager
        self.socket = str(folder / "ping")
        options = [] if socket_by_variable else ["--socket", self.socket]
        super().__init__(place, settings=settings, options=options)
        variables = {"CELERYD_SOCKET": self.socket} if socket_by_variable else {}
        self._environment |= {
            "NOTIFY_SOCKET": manager.address,
            "WATCHDOG_USEC": str(int(WATCHDOG * 1_000_000)),
            **variables,
            **(environment or {}),
        }

    @property
    def command(self) -> list[str]:
        """As systemd does: the watchdog names the process that it watches."""
        return ["sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh", *super().command]

    def ping(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Ask it as the console script does."""
        program = "from celery.bin.entry import main; main()"
        return subprocess.run(
            [sys.executable, "-c", program, "--ping", "--socket", self.socket, *options],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    def facts(self) -> dict[str, Any]:
        """Return what it says of itself."""
        done = self.ping("--json")
        assert done.returncode == 0, done.stderr
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts

    def is_pinged(self, words: str, *options: str, code: int = 0) -> bool:
        """Tell whether a ping answers with these words and this code."""
        done = self.ping(*options)
        return done.returncode == code and words in done.stdout + done.stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: that of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="c") as name:
        yield Path(name)


@pytest.fixture
def manager(folder: Path) -> Iterator[ServiceManager]:
    with ServiceManager(str(folder / "notify")) as manager:
        yield manager


@contextmanager
def pinged_all_the_time(service: Service) -> Iterator[list[str]]:
    """Ask again and again in the block; the list has what went wrong."""
    failures: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            done = service.ping("--ping-timeout", "15")
            if done.returncode:
                failures.append(done.stderr)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield failures
    finally:
        is_over.set()
        asker.join()


def write_code(package: Path, version: int) -> None:
    """Write the code of the task `fresh.version`; the old bytecode of the same size and second must not win."""
    package.mkdir(exist_ok=True)
    shutil.rmtree(package / "__pycache__", ignore_errors=True)
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(
        f"from celery.task import task\n\n@task(name='fresh.version')\ndef version():\n    return {version}\n"
    )


def hold_one_child(place: Place, gate: Path) -> None:
    oddities.hold.delay(place.ledger, "held", str(gate))
    eventually(lambda: place.was_executed("held"), within=SOON)


def test_it_is_ready_when_it_takes_messages_and_shows_what_it_does(
    place: Place, manager: ServiceManager, folder: Path
) -> None:
    with Service(place, manager, folder) as service:
        # then
        eventually(lambda: manager.states() == ["READY=1"], within=SOON)
        assert service.is_pinged("is ready: 0 of 2 children busy", "--ready")

        # when
        hold_one_child(place, folder / "gate")
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2

        # then
        eventually(lambda: "STATUS=1 of 2 children busy, 1 task done" in " ".join(manager.heard("STATUS")), within=SOON)
        assert service.facts()["busy"] == 1
        assert service.facts()["queues"] == [place.queue]
        assert service.facts()["pid"] == service.pid
        eventually(lambda: len(manager.heard("WATCHDOG=1")) > 3, within=2 * WATCHDOG)
        (folder / "gate").touch()
        assert service.stop() == 0
    assert {line.pid for line in manager.lines} == {service.pid}


def test_it_speaks_to_an_abstract_socket_too(sqlite_place: Place, folder: Path) -> None:
    name = f"@celery-test-{os.getpid()}-{folder.name}"
    with ServiceManager(name) as manager, Service(sqlite_place, manager, folder, socket_by_variable=True) as service:
        eventually(lambda: manager.states() == ["READY=1"], within=SOON)
        assert service.is_pinged("is ready")


def test_a_worker_that_cannot_reach_its_broker_is_alive_and_not_ready(
    sqlite_place: Place, manager: ServiceManager, folder: Path
) -> None:
    # given
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"amqp://guest:guest@127.0.0.1:{closed.getsockname()[1]}//"
        service = Service(sqlite_place, manager, folder, environment={"CELERY_BROKER_URL": url})

        # when
        service.start()
        try:
            eventually(lambda: len(manager.heard("WATCHDOG=1")) > WATCHDOG, within=3 * WATCHDOG)

            # then
            assert manager.states() == []
            assert len(manager.heard("EXTEND_TIMEOUT_USEC=")) > 1
            assert service.is_pinged("is starting: takes no messages yet")
            assert service.is_pinged("alive but not ready: it is starting", "--ready", code=1)
            assert service.stop() == 0
            assert manager.states() == ["STOPPING=1"]
        finally:
            service.abandon()


@pytest.mark.parametrize(
    "place", [pytest.param("rabbitmq", marks=[pytest.mark.postgres, pytest.mark.rabbitmq])], indirect=True
)
def test_a_worker_that_loses_its_broker_stays_alive(
    place: Place, amqp_url: str, manager: ServiceManager, folder: Path
) -> None:
    # given
    address = urlsplit(amqp_url)
    assert address.hostname
    assert address.port
    with Proxy(address.hostname, address.port) as proxy:
        url = amqp_url.replace(f":{address.port}", f":{proxy.port}")
        service = Service(replace(place, broker_url=url), manager, folder)
        service.start()
        service.wait_until_ready()

    # when
    try:
        eventually(lambda: service.said("The broker is not reachable"), within=SOON)
        before = len(manager.heard("WATCHDOG=1"))

        # then
        eventually(lambda: len(manager.heard("WATCHDOG=1")) > before + WATCHDOG, within=3 * WATCHDOG)
        assert service.facts()["is_alive"] is True
        assert service.stop() == 0
    finally:
        service.abandon()


def test_a_dispatcher_that_is_stuck_ends_the_signs_of_life(
    sqlite_place: Place, manager: ServiceManager, folder: Path
) -> None:
    with Service(sqlite_place, manager, folder) as service:
        # when
        service.dispatcher.send(signal.SIGSTOP)

        # then
        eventually(lambda: manager.silence() > WATCHDOG / 2, within=3 * WATCHDOG)
        assert service.is_pinged("the dispatcher is silent for", "--max-silence", "2", code=1)
        assert service.is_pinged("is ready")  # it counts as stuck only after much longer

        # when
        service.dispatcher.send(signal.SIGCONT)

        # then
        eventually(lambda: manager.silence() < 1, within=WATCHDOG)
        assert service.is_pinged("is ready", "--max-silence", "2")


def test_a_supervisor_that_is_stuck_does_not_answer(sqlite_place: Place, manager: ServiceManager, folder: Path) -> None:
    with Service(sqlite_place, manager, folder) as service:
        service.send(signal.SIGSTOP)
        try:
            assert service.is_pinged("no answer at", "--ping-timeout", "0.5", code=1)
            eventually(lambda: manager.silence() > WATCHDOG / 2, within=2 * WATCHDOG)
        finally:
            service.send(signal.SIGCONT)
        eventually(partial(service.is_pinged, "is ready"), within=SOON)


def test_hup_starts_it_anew_with_new_code_and_no_ping_finds_it_dead(
    sqlite_place: Place, manager: ServiceManager, folder: Path
) -> None:
    # given
    write_code(folder / "fresh", 1)
    apps = [*INSTALLED_APPS, "fresh"]
    environment = {"PYTHONPATH": str(folder)}
    with Service(sqlite_place, manager, folder, settings={"INSTALLED_APPS": apps}, environment=environment) as service:
        assert Fresh.delay().get(timeout=SOON) == 1
        hold_one_child(sqlite_place, folder / "gate")
        inode = Path(service.socket).stat().st_ino

        # when
        write_code(folder / "fresh", 2)
        with pinged_all_the_time(service) as failures:
            service.send(signal.SIGHUP)
            eventually(lambda: manager.states() == ["READY=1", "RELOADING=1"], within=SOON)
            assert service.is_pinged("is reloading: 1 task still running")
            assert service.is_pinged("alive but not ready", "--ready", code=1)
            (folder / "gate").touch()
            service.wait_until_ready(times=2)

        # then
        assert manager.states() == ["READY=1", "RELOADING=1", "READY=1"]
        assert {line.pid for line in manager.lines} == {service.pid}
        assert len(manager.heard("MONOTONIC_USEC=")) == 1
        assert failures == []
        assert Fresh.delay().get(timeout=SOON) == 2
        assert service.is_pinged("is ready")
        assert Path(service.socket).stat().st_ino == inode
        before = len(manager.heard("WATCHDOG=1"))
        eventually(lambda: len(manager.heard("WATCHDOG=1")) > before, within=WATCHDOG)
        assert service.stop() == 0
    assert not Path(service.socket).exists()


def test_term_says_that_it_stops_and_asks_for_time_until_it_has(
    sqlite_place: Place, manager: ServiceManager, folder: Path
) -> None:
    with Service(sqlite_place, manager, folder) as service:
        # given
        hold_one_child(sqlite_place, folder / "gate")

        # when
        service.send(signal.SIGTERM)

        # then
        eventually(lambda: manager.states() == ["READY=1", "STOPPING=1"], within=SOON)
        assert service.is_pinged("is stopping: 1 task still running")
        eventually(lambda: len(manager.heard("EXTEND_TIMEOUT_USEC=")) > 1, within=SOON)

        # when
        (folder / "gate").touch()

        # then
        assert service.wait() == 0
        assert service.is_pinged("no such socket", code=1)
    assert not Path(service.socket).exists()


def test_a_start_clears_what_a_killed_supervisor_left(place: Place, manager: ServiceManager, folder: Path) -> None:
    # given
    with Service(place, manager, folder, settings={"CELERYD_LEASE": 3}) as service:
        hold_one_child(place, folder / "gate")

        # when
        service.process.kill()
        service.process.wait()

        # then
        assert service.is_pinged("the worker was killed", code=1)
        assert service.pidfile.exists()
    (folder / "gate").touch()

    # when
    with Service(place, manager, folder, settings={"CELERYD_LEASE": 3}) as service:
        # then
        assert service.is_pinged("is ready")
        assert int(service.pidfile.read_text()) == service.pid
        eventually(lambda: [row.status for row in place.results().values()] == ["DONE"], within=2 * SOON)
        eventually(lambda: len(place.workers()) == 1, within=SOON)
        assert service.stop() == 0
    assert place.executions() == {"held": 2}
    assert place.workers() == []
    assert not place.messages()
    assert not service.pidfile.exists()
    assert not Path(service.socket).exists()


def test_a_second_worker_does_not_take_the_socket_away(
    sqlite_place: Place, manager: ServiceManager, folder: Path
) -> None:
    with Service(sqlite_place, manager, folder) as service:
        done = run_celeryd(sqlite_place, "-n", "second", "--socket", service.socket)

        assert done.returncode != 0
        assert f"the socket {service.socket} cannot be used: a worker that runs answers there" in done.stderr
        assert "Traceback" not in done.stderr
        assert service.is_pinged("worker (pid")


def test_a_daemon_whose_socket_is_in_use_says_so_in_the_terminal_and_leaves_nothing(
    sqlite_place: Place, tmp_path: Path
) -> None:
    # given
    path, pidfile = tmp_path / "socket", tmp_path / "pid"
    options = ["--socket", str(path), "--pidfile", str(pidfile), "--logfile", str(tmp_path / "log")]
    with socket.socket(socket.AF_UNIX) as somebody:
        somebody.bind(str(path))
        somebody.listen()

        # when
        done = run_celeryd(sqlite_place, "--daemon", *options)

    # then
    assert done.returncode == 1
    assert f"the socket {path} cannot be used: a worker that runs answers there" in done.stderr
    assert not pidfile.exists()
