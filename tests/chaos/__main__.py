"""Command line of the chaos check; see the package's own text.

Exit codes: 0 passed, 1 a promise was broken, 2 bad input, 130 Ctrl-C.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence

from tests.chaos import mutants
from tests.chaos.run import Plan, run


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
    postgres, amqp = os.environ.get("CELERY_TEST_POSTGRES_URL", ""), os.environ.get("CELERY_TEST_AMQP_URL", "")
    if options.broker == "both":
        return _run_both(options)
    if options.broker == "amqp" and not amqp:
        print("chaos: --broker amqp needs CELERY_TEST_AMQP_URL, as `make chaos` sets it.", file=sys.stderr)
        return 2
    plan = Plan(
        seconds=options.seconds,
        seed=options.seed,
        postgres=postgres,
        amqp=amqp if options.broker == "amqp" else "",
        mutant=options.mutant,
        keep=options.keep,
        verbose=options.verbose,
    )
    return run(plan)


def _run_both(options: argparse.Namespace) -> int:
    """Django is set up once a process, so each broker gets one."""
    flags = [f"--{name}" for name in ("keep", "verbose") if getattr(options, name)]
    flags += [f"--mutant={options.mutant}"] if options.mutant else []
    brokers = ["database", "amqp"] if os.environ.get("CELERY_TEST_AMQP_URL") else ["database"]
    seconds = options.seconds / len(brokers)
    common = [sys.executable, "-m", "tests.chaos", f"--seconds={seconds}", f"--seed={options.seed}", *flags]
    return max(_code_of([*common, f"--broker={broker}"]) for broker in brokers)


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
    parser.add_argument("--broker", choices=("database", "amqp", "both"), default="both", help="which broker (both)")
    parser.add_argument("--seed", default=str(random.randrange(10**6)), metavar="N", help="repeats the same choices")
    parser.add_argument("--mutant", choices=mutants.NAMES, default="", help="plant this fault: the run must fail")
    parser.add_argument("--keep", action="store_true", help="keep history and logs also when all is well")
    parser.add_argument("--verbose", action="store_true", help="print one line a fault")
    return parser


if __name__ == "__main__":
    sys.exit(main())
