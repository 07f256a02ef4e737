"""The processes that send, see `tests.soak.producer`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.places import Place
from tests.shop.daemon import ROOT

PRODUCERS = 2


class Producers:
    """Some producers that work side by side."""

    def __init__(self, processes: list["subprocess.Popen[str]"]) -> None:
        self._processes = processes

    def send(self, thousands: int) -> None:
        """Send so many thousand tasks, and return when all are sent. Raises RuntimeError when a producer fails."""
        count = len(self._processes)
        shares = [thousands // count + (number < thousands % count) for number in range(count)]
        for process, share in zip(self._processes, shares, strict=True):
            assert process.stdin is not None
            process.stdin.write(f"{share}\n")
            process.stdin.flush()
        for process in self._processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"a producer ended with exit code {process.wait()}; its error is above")


@contextmanager
def producers(place: Place) -> Iterator[Producers]:
    """Start producers that send to `place`; they end with the block."""
    environment = {**os.environ, **place.environment(), "DJANGO_SETTINGS_MODULE": "tests.integration.settings"}
    command = [sys.executable, "-m", "tests.soak.producer"]
    started: list[subprocess.Popen[str]] = []
    try:
        for _ in range(PRODUCERS):
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            started.append(subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **pipes))  # type: ignore[call-overload]
        yield Producers(started)
    finally:
        for process in started:
            process.kill()
            process.communicate()
