"""Command line of the chaos check; see the package's own text.

Exit codes: 0 passed, 1 a promise was broken, 2 bad input, 130 Ctrl-C.
"""

import argparse
import random
import signal
import subprocess
import sys
from collections.abc import Sequence

from tests.chaos import faults, mutants
from tests.chaos.place import PLACES
from tests.chaos.run import Plan, run

#: Where the short form runs.
SHORT = ("postgresql", "rabbitmq")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run on one broker here; on both, one after the other, each in a process of its own."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("chaos: interrupted; nothing is left running.", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    if len(options.place) > 1:
        return _run_each(options)
    plan = Plan(
        place=options.place[0],
        seconds=options.seconds,
        seed=options.seed,
        mutant=options.mutant,
        kinds=tuple(options.fault),
        keep=options.keep,
        verbose=options.verbose,
    )
    return run(plan)


def _run_each(options: argparse.Namespace) -> int:
    """Django is set up once a process, so each place gets one."""
    flags = [f"--{name}" for name in ("keep", "verbose") if getattr(options, name)]
    flags += [f"--mutant={options.mutant}"] if options.mutant else []
    flags += [f"--fault={name}" for name in options.fault]
    seconds = options.seconds / len(options.place)
    common = [sys.executable, "-m", "tests.chaos", f"--seconds={seconds}", f"--seed={options.seed}", *flags]
    return max(_code_of([*common, f"--place={place}"]) for place in options.place)


def _code_of(command: Sequence[str]) -> int:
    """Run a command; if we are interrupted, let it clean up after itself."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Kill workers at random and check the promises."
    )
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="about so long, in all (60)")
    parser.add_argument("--place", type=_places, default=list(SHORT), metavar="A,B", help=f"of {', '.join(PLACES)}")
    parser.add_argument("--fault", choices=faults.ALL, action="append", default=[], help="only this kind; repeatable")
    parser.add_argument("--seed", default=str(random.randrange(10**6)), metavar="N", help="repeats the same choices")
    parser.add_argument("--mutant", choices=mutants.NAMES, default="", help="plant this fault: the run must fail")
    parser.add_argument("--keep", action="store_true", help="keep history and logs also when all is well")
    parser.add_argument("--verbose", action="store_true", help="print one line a fault")
    return parser


def _places(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PLACES):
        raise argparse.ArgumentTypeError(f"no place is called {', '.join(sorted(unknown))}")
    return names


if __name__ == "__main__":
    sys.exit(main())
