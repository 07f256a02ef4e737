"""``celeryd --ping``: ask a worker on this machine whether it is alive, by its socket.

It imports neither Django nor the project, so that a health check costs next to nothing.
"""

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

VARIABLE: Final = "CELERYD_SOCKET"
ALIVE: Final = 0
NOT_ALIVE: Final = 1
#: Seconds: to wait for an answer; of the dispatcher's silence, as `celery.worker.health` has it; between two tries.
PATIENCE: Final = 5.0
LONGEST_SILENCE: Final = 30.0
PAUSE: Final = 0.05
LARGEST_ANSWER: Final = 1024 * 1024
#: A worker in these states ends by its own deadlines, whether its dispatcher still runs or not.
DRAINING: Final = ("reloading", "stopping")


class NotAlive(Exception):
    """The worker does not answer as it should; the text says why."""


def main(argv: Sequence[str]) -> int:
    """Print one line, and return the exit code. SystemExit with code 2 for a wrong command line."""
    asked = _parse(argv)
    try:
        answer = ask(asked.socket, asked.ping_timeout)
        line = judge(answer, max_silence=asked.max_silence, must_be_ready=asked.ready)
    except NotAlive as error:
        print(f"celeryd --ping: {error}", file=sys.stderr)  # noqa: T201 - the answer to a person or a log
        return NOT_ALIVE
    print(json.dumps(answer) if asked.json else line)  # noqa: T201 - the same
    return ALIVE


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only a ping has."""
    parser.add_argument("--ping", action="store_true", help="ask a running worker whether it is alive, and end")
    parser.add_argument("--ready", action="store_true", help="with --ping: also ask whether it takes messages")
    parser.add_argument("--json", action="store_true", help="with --ping: print all that it says, as JSON")
    parser.add_argument(
        "--ping-timeout",
        type=seconds,
        default=PATIENCE,
        metavar="SECONDS",
        help=f"with --ping: how long to wait for an answer ({PATIENCE:g})",
    )
    parser.add_argument(
        "--max-silence",
        type=seconds,
        default=LONGEST_SILENCE,
        metavar="SECONDS",
        help=f"with --ping: how long the dispatcher may have been silent ({LONGEST_SILENCE:g})",
    )


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="celeryd --ping",
        description="Ask a running worker whether it is alive. Exit code 0: it is; 1: it is not; 2: wrong options.",
    )
    parser.add_argument("--socket", default=os.environ.get(VARIABLE), metavar="PATH", help=f"its socket ({VARIABLE})")
    _add_arguments(parser)
    asked = parser.parse_args(argv)
    if not asked.socket:
        parser.error(f"which worker? Name its socket with --socket, or in {VARIABLE}.")
    return asked


def seconds(text: str) -> float:
    """Return a time to wait. Raises ValueError."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def ask(path: str, timeout: float = PATIENCE) -> dict[str, Any]:
    """Return what the worker at `path` says of itself. Raises NotAlive, after `timeout` seconds at the latest."""
    deadline = time.monotonic() + timeout
    try:
        with _connected(path, deadline) as caller:
            text = _read(caller, deadline)
    except TimeoutError:
        raise NotAlive(f"no answer at {path} within {timeout:g} s: the supervisor is stuck or stopped.") from None
    except FileNotFoundError:
        raise NotAlive(f"no such socket: {path}. The worker does not run, or was started without --socket.") from None
    except ConnectionRefusedError:
        raise NotAlive(f"nobody listens at {path}: the worker was killed.") from None
    except OSError as error:
        raise NotAlive(f"{path}: {error.strerror or error}.") from None
    return _read_facts(path, text)


def _connected(path: str, deadline: float) -> socket.socket:
    while True:
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            caller.settimeout(_left(deadline))
            caller.connect(path)
        except BlockingIOError:  # many others ask, too
            caller.close()
            time.sleep(min(PAUSE, _left(deadline)))
        except BaseException:
            caller.close()
            raise
        else:
            return caller


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _read(caller: socket.socket, deadline: float) -> bytes:
    text = b""
    while len(text) <= LARGEST_ANSWER:
        caller.settimeout(_left(deadline))
        part = caller.recv(65536)
        if not part:
            break
        text += part
    return text


def _read_facts(path: str, text: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(text)
        float(facts["silence"])
        "{name}{pid}{state}{status}".format(**facts)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise NotAlive(f"what answers at {path} is no celeryd.") from None
    return dict(facts)


def judge(facts: dict[str, Any], *, max_silence: float = LONGEST_SILENCE, must_be_ready: bool = False) -> str:
    """Return a line about a worker that is well. Raises NotAlive for one that is not."""
    who = f"{facts['name']} (pid {facts['pid']})"
    silence = float(facts["silence"])
    if silence > max_silence and facts["state"] not in DRAINING:
        raise NotAlive(f"{who}: the dispatcher is silent for {silence:.0f} s.")
    if must_be_ready and facts["state"] != "ready":
        raise NotAlive(f"{who} is alive but not ready: it is {facts['state']}.")
    return f"{who} is {facts['state']}: {facts['status']}"
