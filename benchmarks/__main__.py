"""Command line of the benchmarks.

It uses the servers that CELERY_TEST_POSTGRES_URL and CELERY_TEST_AMQP_URL name, as `make bench` sets them, and starts
private ones where they are missing. Rounds of all contenders alternate. The exit code tells whether anything broke.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import facts, report
from benchmarks.contender import Broken
from benchmarks.plan import FULL, QUICK, SCENARIOS, Contenders, Sizes, contenders
from tests.servers import environment_of, running

POSTGRES, AMQP = "CELERY_TEST_POSTGRES_URL", "CELERY_TEST_AMQP_URL"


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    sizes = sizes_of(options)
    made = report.Report()
    with ExitStack() as stack:
        postgres, amqp = stack.enter_context(servers())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="celery-bench-"))
        they = stack.enter_context(contenders(postgres, amqp, Path(folder)))
        known = {"machine": facts.machine(), **facts.sides(they)}
        print("\n".join(report.flat(known)))
        broken = measure(they, sizes, options.scenario or list(SCENARIOS), made)
    report.show(made)
    path = report.write(
        facts.when(), {"facts": known, "sizes": vars(sizes), "broken": broken, "figures": made.as_data()}
    )
    print(f"Written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}")
    for reason in broken:
        print(f"BROKEN: {reason}", file=sys.stderr)
    return 1 if broken else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few tasks, one round: about a minute, rough figures")
    parser.add_argument(
        "--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be given again"
    )
    parser.add_argument("--tasks", type=int, metavar="N", help="tasks of a drain of our side; Celery gets a quarter")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each scenario")
    return parser.parse_args(argv)


def sizes_of(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else FULL
    if options.tasks:
        sizes = replace(sizes, drain=options.tasks, drain_celery=max(options.tasks // 4, 1))
    return replace(sizes, rounds=options.rounds) if options.rounds else sizes


def measure(they: Contenders, sizes: Sizes, names: Sequence[str], made: report.Report) -> list[str]:
    """Go through the rounds; what breaks is told, and the others go on."""
    broken = []
    for name in names:
        for number in range(1, sizes.rounds + 1):
            for step in SCENARIOS[name](they, sizes):
                try:
                    for figure in step():
                        made.add(number, figure)
                        print(
                            f"{name} {number}: {figure.contender}: {figure.measure} {figure.value:,.1f} {figure.unit}"
                        )
                except Broken as reason:
                    broken.append(f"{name}, round {number}: {reason}")
                    print(f"BROKEN: {broken[-1]}", file=sys.stderr)
    return broken


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """The addresses of PostgreSQL and RabbitMQ."""
    if POSTGRES in os.environ and AMQP in os.environ:
        yield os.environ[POSTGRES], os.environ[AMQP]
        return
    with running() as started:
        found = environment_of(started)
        yield found[POSTGRES], found[AMQP]


if __name__ == "__main__":
    sys.exit(main())
