"""How a process ended, in words; signals as bytes; pid files."""

import fcntl
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery import platform
from celery.platform import PIDFile
from celery.worker import channel
from celery.worker.process import ALL_SIGNALS, Offspring, Wakeup, describe_exit, reap_strangers


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "signal 9 (SIGKILL)"),
        (-11, "signal 11 (SIGSEGV)"),
        (-35, "signal 35"),
        (-200, "signal 200"),
    ],
)
def test_an_exit_code_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    before = {number: signal.getsignal(number) for number in ALL_SIGNALS}
    wakeup = Wakeup()
    wakeup.install()
    yield wakeup
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    wakeup.close()


def test_signals_arrive_in_their_order_and_wake_a_selector(wakeup: Wakeup) -> None:
    # given
    heard: list[int] = []
    with selectors.DefaultSelector() as selector:
        wakeup.watch(selector, lambda: heard.extend(wakeup.received()))

        # when
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
        for key, _ in selector.select(1):
            key.data()

    # then
    assert heard == [signal.SIGTERM, signal.SIGHUP, signal.SIGTERM]
    assert wakeup.received() == []


# Offspring


@pytest.fixture
def sleeper() -> Iterator[Offspring]:
    """A process that waits for its end."""
    ours, theirs = channel.pair()
    made = Offspring("child", 2, control=ours)
    made.start(signal.pause, [ours])
    theirs.close()
    yield made
    if made.control:
        made.send_signal(signal.SIGKILL)
        made.reap()


def test_a_process_is_named_for_people(sleeper: Offspring) -> None:
    assert (sleeper.name, Offspring("steward").name) == ("child-3", "steward")
    assert Path(f"/proc/{sleeper.pid}/task/{sleeper.pid}/comm").exists()


def test_a_process_that_ended_is_told_of_with_its_signal_and_nothing_of_it_is_left(sleeper: Offspring) -> None:
    # given
    pidfd, control = sleeper.pidfd, sleeper.control
    assert control is not None

    # when
    sleeper.send_signal(signal.SIGKILL)
    code = sleeper.reap()

    # then
    assert describe_exit(code) == "signal 9 (SIGKILL)"
    assert control.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pidfd)
    assert not Path(f"/proc/{sleeper.pid}").exists()


def test_a_signal_to_a_process_that_has_just_ended_is_harmless(sleeper: Offspring) -> None:
    # given
    sleeper.send_signal(signal.SIGKILL)
    sleeper._process.join()

    # when
    sleeper.send_signal(signal.SIGTERM)

    # then
    assert sleeper.reap() == -signal.SIGKILL


# Pid files

HOLDER = """
import sys, time
sys.path.insert(0, {root!r})
from celery.platform import PIDFile
pidfile = PIDFile({path!r})
pidfile.acquire()
print("held", flush=True)
sys.stdin.read()
pidfile.release()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "celeryd.pid"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the file until its input ends."""
    program = HOLDER.format(root=str(Path(platform.__file__).parents[1]), path=str(path))
    arguments: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **arguments) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_pid_file_holds_our_pid_until_it_is_released(path: Path) -> None:
    # given
    pidfile = PIDFile(str(path))

    # when
    pidfile.acquire()

    # then
    assert path.read_text() == f"{os.getpid()}\n"
    assert pidfile.get_pid() == os.getpid()

    # when
    pidfile.release()
    pidfile.release()

    # then
    assert not path.exists()
    assert pidfile.get_pid() is None


def test_a_pid_file_that_another_process_holds_is_refused(path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(SystemExit, match=f"celeryd runs already with pid {holder.pid} "):
        PIDFile(str(path)).acquire()
    assert path.read_text() == f"{holder.pid}\n"


def test_a_pid_file_whose_holder_was_killed_is_taken(path: Path, holder: subprocess.Popen[str]) -> None:
    # given
    holder.kill()
    holder.wait()
    pidfile = PIDFile(str(path))

    # when
    pidfile.acquire()

    # then
    assert pidfile.get_pid() == os.getpid()
    pidfile.release()


@pytest.mark.parametrize("text", ["", "1\n", "999999999999\n"])
def test_whatever_a_stale_file_says_it_is_taken(path: Path, text: str) -> None:
    # given
    path.write_text(text)
    pidfile = PIDFile(str(path))

    # when
    pidfile.acquire()

    # then
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.release()


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(SystemExit, match=r"/nonexistent/celeryd\.pid cannot be written"):
        PIDFile("/nonexistent/celeryd.pid").acquire()


def test_a_file_that_its_holder_removes_while_we_open_it_is_not_mistaken_for_ours(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our open and our lock its holder may end: then we hold a file that nobody else will ever see."""
    # given
    path.write_text("1\n")
    lock = fcntl.flock

    def remove_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        path.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    pidfile = PIDFile(str(path))

    # when
    pidfile.acquire()

    # then
    assert path.exists()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.release()


# Orphans


def _ended() -> int:
    """Return the pid of a process that has ended, and that nobody has reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_strangers_that_ended_are_reaped_and_our_own_are_left() -> None:
    # given
    strangers = [_ended(), _ended()]

    # when
    reap_strangers(())

    # then
    for stranger in strangers:
        with pytest.raises(ChildProcessError):
            os.waitpid(stranger, os.WNOHANG)

    # when
    ours = _ended()
    reap_strangers((ours,))

    # then
    assert os.waitpid(ours, 0)[0] == ours


def test_a_process_without_children_has_nothing_to_reap() -> None:
    reap_strangers(())
