"""Command line of the private servers.

    python -m tests.servers run [NAME ...] -- COMMAND ...        run a command beside the servers, exit with its code
    python -m tests.servers start --state FILE [NAME ...]        start them in the background, print their addresses
    python -m tests.servers env --state FILE                     print the addresses for a shell to eval
    python -m tests.servers stop --state FILE                    stop what `start` started
    python -m tests.servers install [NAME ...]                   only get the packages; "chromium" and "faketime" too
    python -m tests.servers clean                                remove what killed runs have left

Without names all kinds of servers are meant.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers import KINDS, environment_of, running, start_together
from tests.servers import folder as folders
from tests.servers.base import ServerError
from tests.servers.chromium import Chromium
from tests.servers.faketime import Faketime
from tests.servers.install import NotInstalledError, ensure_installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from tests.servers.install import Program

#: What can be installed.
PROGRAMS: dict[str, type[Program]] = {**KINDS, Chromium.name: Chromium, Faketime.name: Faketime}


def main(arguments: list[str]) -> int:
    """Do what the command line says and return the exit code."""
    own, command = _split(arguments)
    options = _parser().parse_args(own)
    names: list[str] = getattr(options, "names", None) or list(KINDS)
    try:
        match options.action:
            case "run":
                return _run(names, command)
            case "start":
                _start(names, options.state)
            case "env":
                _print_environment(options.state)
            case "stop":
                _stop(options.state)
            case "install":
                ensure_installed([PROGRAMS[name] for name in names])
            case "clean":
                _clean()
    except (NotInstalledError, ServerError) as failure:
        print(f"tests.servers: {failure}", file=sys.stderr)
        return 1
    return 0


def _run(names: list[str], command: list[str]) -> int:
    if not command:
        print("tests.servers: run needs a command after --", file=sys.stderr)
        return 2
    folders.sweep()
    with _ending_on_signals(), running(names) as servers:
        own_end_is_its_end = ("setpriv", "--pdeathsig", "TERM", "--")
        child = subprocess.Popen([*own_end_is_its_end, *command], env=os.environ | environment_of(servers))
        try:
            code = _wait(child)
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    return code if code >= 0 else 128 - code


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the command, which gets a Ctrl-C from the terminal too and decides itself what it means."""
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Let TERM and HUP end us in order, as an exception."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(names: list[str], state: Path) -> None:
    if state.exists():
        message = f"{state} exists: stop those servers first"
        raise ServerError(message)
    folders.sweep()
    kinds = [KINDS[name] for name in names]
    ensure_installed(kinds)
    servers = [kind(detached=True) for kind in kinds]
    try:
        start_together(servers)
        environment = environment_of(servers)
        text = {"environment": environment, "folders": [str(server.folder) for server in servers]}
        state.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    except BaseException:
        for server in servers:
            server.discard()
        raise
    _print_what_is_next(environment, state)


def _print_what_is_next(environment: Mapping[str, str], state: Path) -> None:
    for name, address in environment.items():
        print(f"{name}={address}")
    command, file = f"{shlex.quote(sys.executable)} -m tests.servers", shlex.quote(str(state))
    print(f'For this shell:  eval "$({command} env --state {file})"')
    print(f"To stop them:    {command} stop --state {file}")


def _print_environment(state: Path) -> None:
    for name, value in _read(state)["environment"].items():
        print(f"export {name}={shlex.quote(value)}")


def _stop(state: Path) -> None:
    for folder in _read(state)["folders"]:
        folders.remove(Path(folder))
    state.unlink()


def _clean() -> None:
    for folder in folders.sweep():
        print(f"removed {folder}")


def _read(state: Path) -> dict[str, Any]:
    try:
        text: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = f"{state} does not exist: nothing was started with it"
        raise ServerError(message) from None
    return text


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.servers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("run", "start", "env", "stop", "install", "clean"):
        sub = actions.add_parser(action)
        if action in {"run", "start", "install"}:
            known = PROGRAMS if action == "install" else KINDS
            sub.add_argument("names", nargs="*", choices=[[], *known], metavar="NAME", help=", ".join(known))
        if action in {"start", "env", "stop"}:
            sub.add_argument("--state", type=Path, required=True, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
