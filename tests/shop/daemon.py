"""celeryd as a process of its own: started, watched and ended by its pid, and nothing else is."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
SECONDS_TO_DRAIN = 40.0
SECONDS_TO_GIVE_UP = 5.0
LINES_OF_LOG = 30


class DaemonDied(Exception):
    """celeryd ended although nobody asked it to; the message shows the end of its log."""


class Daemon:
    """One celeryd of the shop; as a context manager it leaves no process behind, whatever happens."""

    def __init__(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str],
        children: int = 4,
        queue: str = "celery",
        options: Sequence[str] = (),
    ) -> None:
        self.log = folder / "celeryd.log"
        self.output = folder / "celeryd.out"
        self.pidfile = folder / "celeryd.pid"
        self._environment = dict(environment)
        self._arguments = [f"-c{children}", f"-Q{queue}", "-lINFO", *options]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.abandon()

    @property
    def command(self) -> list[str]:
        files = ["-f", str(self.log), "-p", str(self.pidfile)]
        return [sys.executable, "-m", "tests.shop.manage", "celeryd", *self._arguments, *files]

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this celeryd was not started.")
        return self._process

    def start(self) -> None:
        """Start celeryd in a process group of its own, so that Ctrl-C reaches only who started it."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def check(self) -> None:
        """Raise DaemonDied if celeryd ended."""
        if self.process.poll() is not None:
            raise DaemonDied(f"celeryd ended with exit code {self.process.returncode}. {self.last_words()}")

    def stop(self, *, within: float = SECONDS_TO_DRAIN) -> int:
        """Ask celeryd to drain and end; return its exit code, or raise subprocess.TimeoutExpired after `within` s."""
        self.process.terminate()
        return self.process.wait(within)

    def abandon(self) -> None:
        """End celeryd by ever stronger means; harmless if it has ended or never began."""
        if self._process is None:
            return
        try:
            any(map(self._has_ended_after, (signal.SIGTERM, signal.SIGQUIT)))
        finally:  # also when somebody presses Ctrl-C once more
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """Return the end of what celeryd wrote."""
        written = [line for path in (self.output, self.log) if path.exists() for line in _lines_of(path)]
        return "\n".join(["The end of its log:", *written[-LINES_OF_LOG:]]) if written else "Its log is empty."

    def _has_ended_after(self, number: signal.Signals) -> bool:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(SECONDS_TO_GIVE_UP)
        except subprocess.TimeoutExpired:
            return False
        return True


def _lines_of(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()
