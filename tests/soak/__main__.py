"""Command line of the soak; see the package's own text.

Exit codes: 0 passed, 1 something grew, 2 bad input, 130 Ctrl-C.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import django
from django.utils.module_loading import import_string

PLACES = ("postgresql", "sqlite", "rabbitmq")
THOUSAND = 1000
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak at one place here; at all of them one after the other, each in a process of its own."""
    options = _parser().parse_args(arguments)
    if options.tasks % THOUSAND or options.tasks < 3 * THOUSAND:
        print("soak: --tasks takes thousands, three of them at least.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _soak(options) if options.place else max(_code_of(options, place) for place in PLACES)
    except KeyboardInterrupt:
        print("soak: interrupted; nothing is left running.", file=sys.stderr)
        return 130


def _soak(options: argparse.Namespace) -> int:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.integration.settings"
    django.setup()  # what follows imports models
    code: int = import_string("tests.soak.places.soak_at")(options.place, options.tasks, options.report)
    return code


def _code_of(options: argparse.Namespace, place: str) -> int:
    """Django is set up once a process, so each place gets one. If we are interrupted, let it clean up after itself."""
    command = [sys.executable, "-m", "tests.soak", f"--tasks={options.tasks}", f"--place={place}"]
    with subprocess.Popen([*command, f"--report={options.report}"]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Run a million tasks and see whether anything grows."
    )
    parser.add_argument("--tasks", type=int, default=1_000_000, metavar="N", help="so many at each place (1000000)")
    parser.add_argument("--place", choices=PLACES, default="", help="only this one (all)")
    parser.add_argument("--report", type=Path, default=RESULTS, metavar="FOLDER", help="where the reports go (results)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
