"""Command line of the benchmarks.

It uses the servers that CELERY_TEST_POSTGRES_URL and CELERY_TEST_AMQP_URL name, as `make bench` sets them, and starts
private ones where one is missing; for some peers a private Redis, with its defaults, too. Within a round all contenders
of a scenario take turns; every other round goes backwards. Exit codes: 0, 1 something broke, 130 Ctrl-C or SIGTERM.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import facts, report
from benchmarks.contender import Product
from benchmarks.places_redis import OrdinaryRedis
from benchmarks.plan import FULL, QUICK, Contenders, Servers, Sizes, Step, contenders
from benchmarks.products import PEERS, peers
from benchmarks.record import Record
from benchmarks.scenarios import SCENARIOS, rounds
from tests.servers import environment_of, running

POSTGRES, AMQP = "CELERY_TEST_POSTGRES_URL", "CELERY_TEST_AMQP_URL"


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or workers and databases would be left behind
    with ExitStack() as stack:
        found = stack.enter_context(servers(options.peers))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="celery-bench-"))
        they = stack.enter_context(contenders(found, options.peers, Path(folder)))
        record = begun(they, options)
        try:
            measure(they, options.scenario or list(SCENARIOS), record)
        except KeyboardInterrupt:
            print("benchmarks: interrupted.", file=sys.stderr)
            code = 130
        else:
            code = 1 if record.broken else 0
        record.write()
    finish(record)
    return code


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few tasks, one round: some minutes, rough figures")
    parser.add_argument(
        "--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be given again"
    )
    parser.add_argument("--rounds", type=_count, metavar="N", help="rounds of each scenario (3; of some fewer)")
    parser.add_argument(
        "--peers", type=_peers, default=(), metavar="NAMES", help=f"who else takes part: {' '.join(PEERS)}"
    )
    parser.add_argument("--results", type=Path, default=report.RESULTS, metavar="FOLDER", help="where the JSON goes")
    return parser.parse_args(argv)


def sizes_of(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else FULL
    return replace(sizes, rounds=options.rounds) if options.rounds else sizes


def begun(they: Contenders, options: argparse.Namespace) -> Record:
    """Print what has to be known to read the figures."""
    known = {"machine": facts.machine(), **facts.sides(they)}
    print("\n".join(report.flat(known)), flush=True)
    return Record(path=options.results / f"{facts.when()}.json", facts=known, sizes=sizes_of(options))


def measure(they: Contenders, names: Sequence[str], record: Record) -> None:
    """Go through scenarios and rounds, and write down after each scenario what is known."""
    for name in names:
        scenario, began = SCENARIOS[name], time.monotonic()
        for number in range(1, rounds(name, record.sizes) + 1):
            for step in in_turns(scenario.steps(they, record.sizes), number):
                take(step, f"{name} {number}", number, record)
        record.write()
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def in_turns(steps: Sequence[Step], number: int) -> Sequence[Step]:
    """Rounds with an even number go backwards: nobody comes always after the same other."""
    return steps if number % 2 else steps[::-1]


def take(step: Step, where: str, number: int, record: Record) -> None:
    """Measure once. What breaks is told, and the others go on."""
    try:
        for figure in step():
            record.add(number, figure)
            print(f"{where}: {figure.contender}: {figure.measure} {figure.value:,.4g} {figure.unit}", flush=True)
    except Exception as reason:  # noqa: BLE001 - whatever it was, it is no reason to lose the others
        record.broken.append(f"{where}: {type(reason).__name__}: {reason}")
        print(f"BROKEN: {record.broken[-1]}", file=sys.stderr, flush=True)


def finish(record: Record) -> None:
    """Print the tables, and once more what broke."""
    report.show(record.rounds)
    print(f"Written to {record.name}")
    for reason in record.broken:
        print(f"BROKEN: {reason}", file=sys.stderr)


@contextmanager
def servers(others: Sequence[Product]) -> Iterator[Servers]:
    """The addresses of PostgreSQL, RabbitMQ and, if one of the others needs it, a Redis of our own."""
    with ExitStack() as stack:
        known: Mapping[str, str] = os.environ
        if POSTGRES not in known or AMQP not in known:
            known = environment_of(stack.enter_context(running(("postgresql", "rabbitmq"))))
        wants_redis = any("redis" in product.servers for product in others)
        redis = stack.enter_context(OrdinaryRedis.running()).url if wants_redis else ""
        yield Servers(postgres=known[POSTGRES], amqp=known[AMQP], redis=redis)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _peers(text: str) -> list[Product]:
    try:
        return peers(text.replace(",", " ").split())
    except ValueError as unknown:
        raise argparse.ArgumentTypeError(str(unknown)) from None


if __name__ == "__main__":
    sys.exit(main())
