"""The producers of a run: processes that send, started again when a fault killed one, and ended when all is healed."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from tests.servers.processes import Identity
from tests.shop.daemon import ROOT

COUNT: Final = 2
#: Seconds in which a producer ends its move when it is asked to: the longest wait of a publisher, and some more.
PATIENCE: Final = 30.0


class Producers:
    """Two producers; as a context manager it leaves no process behind. `pace` is tasks a second of all, 0 its own."""

    def __init__(
        self, folder: Path, *, environment: Mapping[str, str], seed: str, seconds: float, pace: float = 0
    ) -> None:
        self._log = folder / "producers.log"
        self._environment = dict(environment)
        self._seed = seed
        self._deadline = time.monotonic() + seconds
        self._pace = pace / COUNT
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._starts: dict[str, int] = {}

    def __enter__(self) -> Self:
        for number in range(1, COUNT + 1):
            self._start(f"p{number}")
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def living(self) -> list[Identity]:
        """Return those that run."""
        found = [Identity.of(process.pid) for process in self._processes.values() if process.poll() is None]
        return [producer for producer in found if producer and producer.is_alive()]

    def go_on(self) -> None:
        """Continue what stands still."""
        for producer in self.living():
            producer.send(signal.SIGCONT)

    def start_the_dead(self) -> None:
        """Start what was killed. It gets another name, since no two tasks may have the same token."""
        for name, process in list(self._processes.items()):
            if process.poll() is not None:
                self._start(name)

    def stop(self) -> list[str]:
        """Ask all to end after the move in hand, and return what went wrong."""
        for process in self._processes.values():
            process.terminate()
        return [problem for name, process in self._processes.items() if (problem := self._problem_of(name, process))]

    def _start(self, name: str) -> None:
        count = self._starts[name] = self._starts.get(name, 0) + 1
        full_name = name if count == 1 else f"{name}.{count}"
        seconds = max(self._deadline - time.monotonic(), 1)
        command = [sys.executable, "-m", "tests.chaos.producer", full_name, self._seed, f"{seconds:.1f}"]
        if self._pace:
            command.append(f"{self._pace:g}")
        with self._log.open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, env=self._environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _problem_of(self, name: str, process: subprocess.Popen[bytes]) -> str:
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return f"{name} has not ended {PATIENCE:.0f} s after SIGTERM; see {self._log.name}"
        return f"{name} ended with exit code {code}; see {self._log.name}" if code not in (0, -signal.SIGTERM) else ""
