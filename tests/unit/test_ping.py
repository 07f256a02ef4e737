"""celery/bin/ping.py and entry.py: one line and an exit code, within a bounded time, without Django."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery.bin import entry, ping
from celery.bin.ping import LONGEST_SILENCE, VARIABLE, NotAlive, ask, judge
from celery.worker import health

ROOT = Path(__file__).resolve().parents[2]
WELL = {
    "name": "w",
    "pid": 42,
    "state": "ready",
    "is_alive": True,
    "silence": 0.4,
    "children": 4,
    "busy": 3,
    "done": 1024,
    "queues": ["celery"],
    "since": "2026-11-22T10:00:00+00:00",
    "status": "3 of 4 children busy, 1,024 tasks done, queues: celery",
}


class Stub:
    """Something that listens at a path; it accepts one caller and tells him `words`, unless there are none."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        self._socket.listen(8)
        self._thread: threading.Thread | None = None
        self.was_cut_short = False

    def will_say(self, words: bytes) -> None:
        self._thread = threading.Thread(target=self._say, args=(words,))
        self._thread.start()

    def _say(self, words: bytes) -> None:
        caller, _ = self._socket.accept()
        with caller:
            try:
                caller.sendall(words)
            except BrokenPipeError:
                self.was_cut_short = True

    def close(self) -> None:
        if self._thread:
            self._thread.join()
        self._socket.close()


@pytest.fixture(autouse=True)
def _no_socket_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="c") as name:
        yield Path(name)


@pytest.fixture
def stub(folder: Path) -> Iterator[Stub]:
    stub = Stub(str(folder / "s"))
    yield stub
    stub.close()


def saying(stub: Stub, **changed: Any) -> str:
    """Have the stub answer like a worker that is well but for what is `changed`; return where."""
    stub.will_say(json.dumps({**WELL, **changed}).encode())
    return stub.path


class TestTheAnswer:
    def test_a_worker_that_is_well(self, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
        code = ping.main(["--ping", "--socket", saying(stub)])

        assert code == 0
        assert capsys.readouterr().out == (
            "w (pid 42) is ready: 3 of 4 children busy, 1,024 tasks done, queues: celery\n"
        )

    def test_the_socket_may_be_named_in_the_environment(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, saying(stub))

        assert ping.main(["--ping"]) == 0

    def test_all_that_it_says_as_json(self, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
        ping.main(["--ping", "--json", "--socket", saying(stub)])

        assert json.loads(capsys.readouterr().out) == WELL

    def test_a_reason_goes_to_standard_error(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code = ping.main(["--ping", "--socket", str(folder / "s")])

        assert code == 1
        out, err = capsys.readouterr()
        assert not out
        assert err == (
            f"celeryd --ping: no such socket: {folder}/s. The worker does not run, or was started without --socket.\n"
        )

    @pytest.mark.parametrize("state", ["starting", "ready"])
    def test_a_dispatcher_that_is_silent(self, stub: Stub, state: str, capsys: pytest.CaptureFixture[str]) -> None:
        code = ping.main(["--ping", "--socket", saying(stub, silence=41.4, state=state)])

        assert code == 1
        assert "w (pid 42): the dispatcher is silent for 41 s." in capsys.readouterr().err

    def test_how_long_it_may_be_silent_is_the_callers_choice(self, stub: Stub) -> None:
        assert ping.main(["--ping", "--max-silence", "60", "--socket", saying(stub, silence=41.4)]) == 0

    @pytest.mark.parametrize("state", ["stopping", "reloading"])
    def test_a_worker_that_drains_is_alive(self, state: str) -> None:
        assert judge({**WELL, "state": state, "silence": 3600.0}).startswith(f"w (pid 42) is {state}")

    @pytest.mark.parametrize("state", ["starting", "stopping", "reloading"])
    def test_a_worker_that_takes_nothing_is_not_ready(
        self, stub: Stub, state: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code = ping.main(["--ping", "--ready", "--socket", saying(stub, state=state)])

        assert code == 1
        assert f"alive but not ready: it is {state}" in capsys.readouterr().err

    def test_a_worker_that_takes_messages_is_ready(self, stub: Stub) -> None:
        assert ping.main(["--ping", "--ready", "--socket", saying(stub)]) == 0

    def test_worker_and_ping_agree(self) -> None:
        assert health.LONGEST_SILENCE == LONGEST_SILENCE
        assert set(health.DRAINING) == set(ping.DRAINING)


class TestNoAnswer:
    def test_a_killed_worker(self, folder: Path) -> None:
        Stub(str(folder / "s")).close()

        with pytest.raises(NotAlive, match=r"nobody listens at .*: the worker was killed"):
            ask(str(folder / "s"))

    def test_a_supervisor_that_is_stuck(self, stub: Stub) -> None:
        with pytest.raises(NotAlive, match=r"no answer at .* within 0\.1 s: the supervisor is stuck or stopped"):
            ask(stub.path, 0.1)

    def test_one_at_which_very_many_wait(self, stub: Stub) -> None:
        # given
        waiting = []
        try:
            while True:
                one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                waiting.append(one)
                one.settimeout(0)
                one.connect(stub.path)
        except BlockingIOError:
            pass

        # when
        with pytest.raises(NotAlive, match="no answer"):
            ask(stub.path, 0.2)

        # then
        for one in waiting:
            one.close()

    @pytest.mark.parametrize(
        "words",
        [
            b"",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\xff\0",
            b"[]",
            b"3",
            b'{"name": "w"}',
            b'{"name": "w", "pid": 1, "state": "ready", "status": "", "silence": "for ever"}',
            b'{"name": "w", "pid": 1, "state": "ready", "status": "", "silence": null}',
            b"[" * 200_000,
        ],
    )
    def test_something_else_that_answers(self, stub: Stub, words: bytes) -> None:
        stub.will_say(words)

        with pytest.raises(NotAlive, match=r"what answers at .* is no celeryd"):
            ask(stub.path)

    def test_something_that_never_stops_to_talk(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ping, "LARGEST_ANSWER", 1000)
        stub.will_say(b"x" * 10_000_000)

        with pytest.raises(NotAlive, match="is no celeryd"):
            ask(stub.path)

        stub.close()
        assert stub.was_cut_short

    def test_a_path_that_is_too_long(self, folder: Path) -> None:
        with pytest.raises(NotAlive, match="too long"):
            ask(f"{folder}/{'x' * 200}")

    def test_a_file_that_is_no_socket(self, folder: Path) -> None:
        (folder / "s").touch()

        with pytest.raises(NotAlive, match=re.escape(f"{folder}/s")):
            ask(str(folder / "s"))


class TestTheCommandLine:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ([], "which worker"),
            (["--socket", "x", "--ping-timeout", "soon"], "invalid seconds value"),
            (["--socket", "x", "--ping-timeout", "0"], "invalid seconds value"),
            (["--socket", "x", "--max-silence", "nan"], "invalid seconds value"),
            (["--socket", "x", "-Q", "celery"], "unrecognized arguments"),
        ],
    )
    def test_a_wrong_one_ends_with_code_2(
        self, options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as raised:
            ping.main(["--ping", *options])

        assert raised.value.code == 2
        assert reason in capsys.readouterr().err

    def test_the_script_pings_if_it_is_told_to(self, folder: Path) -> None:
        with pytest.raises(SystemExit) as raised:
            entry.main(["--ping", "--socket", str(folder / "s")])

        assert raised.value.code == 1

    def test_the_script_takes_its_arguments_from_the_command_line(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["celeryd", "--ping", "--socket", str(folder / "s")])

        with pytest.raises(SystemExit) as raised:
            entry.main()

        assert raised.value.code == 1

    def test_without_a_ping_it_is_a_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[list[str]] = []
        monkeypatch.setattr("celery.bin.celeryd.main", given.append)

        entry.main(["-c", "2"])

        assert given == [["-c", "2"]]

    def test_a_ping_imports_neither_django_nor_the_worker(self, folder: Path) -> None:
        # given
        program = f"""
import sys
before = set(sys.modules)  # who measures coverage has brought modules of its own
from celery.bin import entry
try:
    entry.main(["--ping", "--socket", {str(folder / "s")!r}])
except SystemExit as end:
    assert end.code == 1
print(*sys.modules.keys() - before)
"""

        # when
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

        # then
        assert done.returncode == 0, done.stderr
        imported = {name.partition(".")[0] for name in done.stdout.split()}
        assert imported & {"django", "kombu", "amqp", "billiard", "psycopg", "sqlite3", "asyncio", "logging"} == set()
        ours = {name for name in done.stdout.split() if name.startswith("celery")}
        assert ours == {"celery", "celery.bin", "celery.bin.entry", "celery.bin.ping"}
