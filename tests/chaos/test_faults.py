"""Every fault that was promised exists, fits where it should, and says what it saw. No server is needed here."""

import os
import random
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.chaos import clocks, faults, history
from tests.chaos.faults import machine, network, servers
from tests.chaos.faults.base import Field
from tests.chaos.place import PLACES, Place
from tests.helpers import eventually
from tests.proxy import Proxy
from tests.servers.processes import Identity

#: What is promised, the kinds that do it, and the places where they fit.
PROMISED = {
    "kill -9 of a child": (["child"], "all"),
    "kill -9 of the dispatcher": (["dispatcher"], "all"),
    "kill -9 of the steward": (["steward"], "all"),
    "kill -9 of the supervisor": (["supervisor"], "all"),
    "two workers at once": (["two workers"], "all"),
    "SIGSTOP beyond the lease": (["stop: worker", "stop: old owner"], "all"),
    "broker restart": (["broker restart", "broker killed"], "rabbitmq"),
    "TCP cut": (["broker link cut"], "rabbitmq"),
    "TCP cut, database": (["database link cut"], "server"),
    "100 cuts": (["all links cut", "burst of cuts"], "network"),
    "half-open": (["broker link half-open", "broker link stalled", "broker link deaf"], "rabbitmq"),
    "half-open, database": (["database link half-open", "database link stalled", "database link deaf"], "server"),
    "memory alarm": (["memory alarm"], "rabbitmq"),
    "PostgreSQL restart": (["database restart", "database killed"], "server"),
    "PostgreSQL paused": (["database paused", "database paused for long"], "server"),
    "backends terminated": (["backends terminated"], "server"),
    "read-only": (["database read-only", "read-only sessions"], "server"),
    "a lock held 45 s": (["lock held", "lock held for 45 s"], "server"),
    "SQLite locked": (["sqlite locked", "sqlite locked for long"], "sqlite"),
    "full disk": (["disk full"], "sqlite"),
    "full disk, PostgreSQL": (["tablespace full"], "postgresql"),
    "clock steps": (["clock steps", "clock steps, the monotonic one too"], "all"),
    "descriptors exhausted": (["descriptors exhausted"], "all"),
    "two deployments": (["two deployments"], "all"),
}


def place_of(name: str) -> Place:
    kind = PLACES[name]
    return Place(name=name, kind=kind, folder=Path("/nowhere"), servers=dict.fromkeys(kind.servers))


def is_of(group: str, place: Place) -> bool:
    match group:
        case "rabbitmq":
            return place.has_rabbitmq
        case "server":
            return place.database != "sqlite"
        case "network":
            return bool(place.servers)
        case "sqlite" | "postgresql":
            return place.database == group
    return True


@pytest.fixture(autouse=True)
def _everything_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "may_mount", lambda: True)
    monkeypatch.setattr(machine, "_has_faketime", lambda: True)


class TestTheTable:
    @pytest.mark.parametrize("promise", PROMISED)
    def test_every_fault_that_was_promised_is_there(self, promise: str) -> None:
        names, _ = PROMISED[promise]

        assert set(names) <= set(faults.ALL)

    @pytest.mark.parametrize("name", PLACES)
    @pytest.mark.parametrize("promise", PROMISED)
    def test_each_fits_exactly_where_it_can_happen(self, promise: str, name: str) -> None:
        kinds, group = PROMISED[promise]
        place = place_of(name)

        assert [faults.ALL[kind].fits(place) for kind in kinds] == [is_of(group, place)] * len(kinds)

    def test_no_two_kinds_have_one_name(self) -> None:
        assert len(faults.ALL) == sum(len(group.FAULTS) for group in faults.GROUPS)

    def test_what_takes_longer_than_a_short_run_has_says_so(self) -> None:
        long = {name for name, fault in faults.ALL.items() if fault.seconds > 20}

        assert {"lock held for 45 s", "sqlite locked for long", "database paused for long"} <= long
        assert {"lock held", "sqlite locked", "database paused", "broker restart"}.isdisjoint(long)

    def test_where_nothing_can_be_mounted_no_disk_becomes_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "may_mount", lambda: False)

        assert not faults.ALL["disk full"].fits(place_of("sqlite"))
        assert not faults.ALL["tablespace full"].fits(place_of("postgresql"))


# -- links


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it is sent; the fixture is its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client:
            while data := client.recv(100):
                client.sendall(data)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def relay(echo: int) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo) as made:
        yield made


def connected(relay: Proxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", relay.port), timeout=5)
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"
    return client


class TestAHalfOpenLink:
    def test_what_is_said_over_it_is_lost_and_a_new_one_works(self, relay: Proxy) -> None:
        with connected(relay) as old:
            assert relay.freeze() == 1
            old.sendall(b"more")

            assert eventually(lambda: relay.swallowed == 4)
            assert relay.waiting == 1
            connected(relay).close()

    def test_the_client_is_not_told(self, relay: Proxy) -> None:
        with connected(relay) as old:
            relay.freeze()
            old.sendall(b"more")
            old.settimeout(0.2)

            with pytest.raises(TimeoutError):
                old.recv(1)

    def test_a_client_that_leaves_waits_no_longer(self, relay: Proxy) -> None:
        with connected(relay) as old:
            relay.freeze()
            old.sendall(b"more")
            eventually(lambda: relay.waiting == 1)

        assert eventually(lambda: relay.waiting == 0)
        assert relay.bury() == 0

    def test_at_last_both_ends_learn_it(self, relay: Proxy) -> None:
        with connected(relay) as old:
            relay.freeze()

            assert relay.bury() == 1
            assert old.recv(1) == b""

    def test_nothing_is_frozen_twice(self, relay: Proxy) -> None:
        with connected(relay):
            assert [relay.freeze(), relay.freeze()] == [1, 0]


class TestARelay:
    def test_it_counts_what_it_passes_on_and_what_it_delays(self, relay: Proxy) -> None:
        connected(relay).close()
        assert eventually(lambda: relay.passed == 10)
        relay.delay = 0.01
        connected(relay).close()

        assert relay.delayed == 1

    def test_a_cut_tells_how_many_were_connected(self, relay: Proxy) -> None:
        with connected(relay), connected(relay):
            assert [relay.cut(), relay.cut()] == [2, 0]

    def test_without_a_server_a_client_is_refused_rather_than_kept(self) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
            port = nobody.getsockname()[1]
        with (
            Proxy("127.0.0.1", port) as relay,
            socket.create_connection(("127.0.0.1", relay.port), timeout=5) as client,
        ):
            assert client.recv(1) == b""


def field_with(place: Any, **parts: Any) -> Field:
    nobody = SimpleNamespace(supervisors=list, name_of=lambda pid: "worker-1")
    scene = SimpleNamespace(look=lambda: None, settled_at=lambda pid: 0.0)
    given = {"place": place, "random": random.Random(1), "workers": nobody, "scene": scene, **parts}
    return cast("Field", SimpleNamespace(**given))


class TestACut:
    def test_without_connections_it_has_not_hit(self, relay: Proxy) -> None:
        place = SimpleNamespace(relays={("worker-1", "rabbitmq"): relay})

        assert network.AllCut().strike(field_with(place)) is None

    def test_it_says_how_many_it_has_cut(self, relay: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(network, "PATIENCE", 0.0)
        place = SimpleNamespace(relays={("worker-1", "rabbitmq"): relay})

        with connected(relay):
            struck = network.AllCut().strike(field_with(place))

        assert struck
        assert struck.everywhere
        assert struck.proof == "1 connections of 1 links cut, 0 made anew"


class TestADeafLink:
    def test_it_is_left_alone_while_nothing_was_lost(self, relay: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(network, "DEAF", 0.05)
        with connected(relay) as client:
            proof = network.BrokerDeaf().trouble(field_with(None, random=_NoPause()), relay, Identity(1, 1))

            client.sendall(b"still")
            assert client.recv(100) == b"still"
        assert proof == ""


class _NoPause:
    def choice(self, options: Any) -> Any:
        return 0

    def uniform(self, low: float, high: float) -> float:
        return 0.0


# -- SQLite and its disk


class TestSQLite:
    def test_a_lock_is_proven_by_the_words_of_another_session(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "chaos.sqlite3"
        monkeypatch.setattr(servers.SqliteLocked, "shortest", 0.0)
        monkeypatch.setattr(servers.SqliteLocked, "longest", 0.0)

        struck = servers.SqliteLocked().strike(field_with(SimpleNamespace(sqlite_file=file)))

        assert struck
        assert "database is locked" in struck.proof

    def test_a_lock_that_somebody_else_has_is_a_miss(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "chaos.sqlite3"
        monkeypatch.setattr(servers, "PATIENCE", 0.05)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")

            assert servers.SqliteLocked().strike(field_with(SimpleNamespace(sqlite_file=file))) is None

    def test_a_disk_that_is_not_its_own_is_never_filled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        filled: list[Path] = []
        monkeypatch.setattr(machine, "fill", filled.append)

        struck = machine.DiskFull().strike(field_with(SimpleNamespace(sqlite_file=tmp_path / "chaos.sqlite3")))

        assert struck is None
        assert not filled

    def test_a_disk_with_room_refuses_nothing(self, tmp_path: Path) -> None:
        assert machine._refusal_of_room(tmp_path / "chaos.sqlite3") == ""
        with closing(sqlite3.connect(tmp_path / "chaos.sqlite3")) as session:
            assert session.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


# -- descriptors


class TestDescriptors:
    def test_a_process_with_a_lowered_limit_opens_nothing_and_then_again(self) -> None:
        program = (
            "import sys\nfor line in sys.stdin:\n"
            "    try: open('/dev/null').close(); print('opened', flush=True)\n"
            "    except OSError as error: print(error.strerror, flush=True)"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin
            assert process.stdout
            answers = []
            me = Identity.of(process.pid)
            assert me
            before = machine._limit(me)
            assert before
            for limit in (before, (machine.NO_MORE, before[1]), before):
                machine._limit(me, limit)
                process.stdin.write(b"\n")
                process.stdin.flush()
                answers.append(process.stdout.readline().strip())
            process.stdin.close()

        assert answers == [b"opened", b"Too many open files", b"opened"]

    def test_nobody_is_no_victim(self) -> None:
        assert machine._limit(Identity(2**22 - 1, 1)) is None
        assert machine._descriptors(Identity(2**22 - 1, 1)) == 0

    def test_our_own_limit_is_not_touched(self) -> None:
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > machine.NO_MORE


# -- clocks


class TestAClock:
    def test_it_is_as_wrong_as_the_log_says(self, tmp_path: Path) -> None:
        dated = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + 3600))
        (tmp_path / "celeryd.log").write_text(
            f"[2001-01-01 00:00:00,000: INFO/child-1] old\n[{dated},123: INFO/child-1] x\n"
        )

        assert machine._Clock(tmp_path).wrong_in_log() == pytest.approx(3600, abs=5)

    def test_a_worker_that_believes_it_has_both_files(self, tmp_path: Path) -> None:
        clock = machine._Clock(tmp_path)
        clock.set(-3600)

        assert (tmp_path / "clock").read_text() == "-3600\n"
        assert float((tmp_path / "monotonic").read_text()) == -3600
        assert "CHAOS_CLOCK" not in clock.variables(is_monotonic_too=False)

    def test_the_monotonic_clock_steps_for_the_process_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noted: list[dict[str, Any]] = []
        monkeypatch.setattr(history, "current", lambda: SimpleNamespace(note=lambda name, **facts: noted.append(facts)))
        monkeypatch.setattr(clocks, "PAUSE", 0.0)
        file = tmp_path / "monotonic"
        file.write_text("0")
        clock = clocks.Stepped(file)

        file.write_text("3600")

        assert clock() - time.monotonic() == pytest.approx(3600, abs=5)
        assert noted == [{"pid": os.getpid(), "seconds": 3600.0}]

    def test_a_file_that_is_just_written_changes_nothing(self, tmp_path: Path) -> None:
        clock = clocks.Stepped(tmp_path / "monotonic")
        (tmp_path / "monotonic").write_text("")

        assert clock() == pytest.approx(time.monotonic(), abs=5)

    def test_without_the_variable_the_clock_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CHAOS_CLOCK", raising=False)
        before = time.monotonic

        clocks.plant()

        assert time.monotonic is before


class TestALog:
    def test_it_counts_what_came_since(self, tmp_path: Path) -> None:
        path = tmp_path / "server.log"
        path.write_text("up\n")
        log = servers.Log(path)

        with path.open("a") as file:
            file.write("down\nup\nup again\n")

        assert [log.says("up"), log.says("never")] == [2, 0]
