"""Command line of the chaos check; see the package's own text.

Exit codes: 0 passed, 1 a promise was broken, 2 bad input, 130 Ctrl-C.
"""

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.chaos import faults, mutants
from tests.chaos.long import PACE, PART_SECONDS, Goal, LongForm, Shelf
from tests.chaos.place import PLACES
from tests.chaos.run import Plan, run

#: Where the short form runs, and the long one.
SHORT: Final = ("rabbitmq", "postgresql", "sqlite")
SECONDS: Final = 45.0
TASKS, FAULTS = 1_000_000, 500
#: Runs at a time: each keeps half a core busy, its servers included, and needs some air.
SIDE_BY_SIDE: Final = 3 if (os.cpu_count() or 1) > 2 else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run at one place here; at more, each in a process of its own."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("chaos: interrupted; nothing is left running.", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.long:
        return _run_long(options)
    options.seed = options.seed or str(random.randrange(10**6))
    if len(options.place) > 1:
        return _run_each(options)
    plan = Plan(
        place=options.place[0],
        seconds=options.seconds,
        seed=options.seed,
        mutant=options.mutant,
        kinds=tuple(options.fault),
        pace=options.pace,
        hits=options.hits,
        folder=options.folder,
        report=options.report,
        keep=options.keep,
        verbose=options.verbose,
    )
    return run(plan)


def _run_long(options: argparse.Namespace) -> int:
    shelf = Shelf(folder=options.long.resolve())
    try:
        seed = shelf.seed(options.seed)
    except ValueError as error:
        print(f"chaos: {error}.", file=sys.stderr)
        return 2
    goal = Goal(
        places=tuple(options.place),
        tasks=options.tasks,
        faults=options.faults,
        seed=seed,
        part_seconds=options.part_seconds,
        pace=options.pace or PACE,
    )
    print(f"chaos: {goal.tasks:,} tasks and {goal.faults} faults in {shelf.folder}, seed {goal.seed}", flush=True)
    return LongForm(goal=goal, shelf=shelf, side_by_side=options.side_by_side).run()


def _run_each(options: argparse.Namespace) -> int:
    """Django is set up once a process, so each place gets one."""
    rounds = math.ceil(len(options.place) / options.side_by_side)
    flags = [f"--{name}" for name in ("keep", "verbose") if getattr(options, name)]
    flags += [f"--mutant={options.mutant}"] if options.mutant else []
    flags += [f"--fault={name}" for name in options.fault]
    flags += [f"--seconds={options.seconds / rounds}", f"--seed={options.seed}", f"--pace={options.pace}"]
    commands = [[sys.executable, "-m", "tests.chaos", f"--place={place}", *flags] for place in options.place]
    starts = range(0, len(commands), options.side_by_side)
    return max(code for start in starts for code in _codes_of(commands[start : start + options.side_by_side]))


def _codes_of(commands: Sequence[Sequence[str]]) -> list[int]:
    """Run commands side by side; if we are interrupted, let them clean up after themselves."""
    processes = [subprocess.Popen(command, process_group=0) for command in commands]
    try:
        return [abs(process.wait()) for process in processes]
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break things at random and check the promises."
    )
    add = parser.add_argument
    add("--seconds", type=float, default=SECONDS, metavar="N", help=f"about so long, in all ({SECONDS:g})")
    add("--place", type=_places, default=list(SHORT), metavar="A,B", help=f"of {', '.join(PLACES)}")
    add("--fault", choices=faults.ALL, action="append", default=[], metavar="KIND", help="only this; repeatable")
    add("--seed", metavar="N", help="repeats the same choices")
    add("--pace", type=float, default=0.0, metavar="N", help="tasks a second, about, at each place")
    add("--mutant", choices=mutants.NAMES, default="", help="plant this fault: the run must fail")
    add("--side-by-side", type=_count, default=SIDE_BY_SIDE, metavar="N", help=f"places at a time ({SIDE_BY_SIDE})")
    add("--keep", action="store_true", help="keep history and logs also when all is well")
    add("--verbose", action="store_true", help="print one line a fault")
    add("--folder", type=Path, metavar="DIR", help="history and logs of a run at one place go here; it must not exist")
    add("--report", type=Path, metavar="FILE", help="write what came of a run at one place as JSON")
    add(
        "--hits",
        type=json.loads,
        default={},
        metavar="JSON",
        help="how often kinds have hit: the seldom ones come first",
    )
    long = parser.add_argument_group("the long form")
    add = long.add_argument
    add("--long", type=Path, metavar="FOLDER", help="run in parts until tasks and faults are reached; resumable")
    add("--tasks", type=_count, default=TASKS, metavar="N", help=f"in all ({TASKS})")
    add("--faults", type=_count, default=FAULTS, metavar="N", help=f"in all ({FAULTS})")
    add("--part-seconds", type=float, default=PART_SECONDS, metavar="N", help=f"of one part ({PART_SECONDS:g})")
    return parser


def _places(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PLACES):
        raise argparse.ArgumentTypeError(f"no place is called {', '.join(sorted(unknown))}")
    return names


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
