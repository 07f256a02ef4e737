"""One target under atheris: what a case reaches in our decoders decides which cases are changed further.

A program of its own, for libFuzzer ends the process: ``python -m tests.fuzz.guided TARGET CASES SEED FOLDER``. Two of
three cases are fresh valid ones, changed; the others descend from what has reached new branches. Without atheris all
are of the first kind.
"""

import atexit
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.shop.settings")

#: What is counted: everything of ours that reads, but nothing of the tests.
INSTRUMENTED = ("celery", "kombu.utils.json", "amqp.serialization")
LARGEST_CASE = 64 * 1024
#: Of 100 cases so many are fresh valid ones, changed.
FRESH = 66
SEEDS = 200
#: Megabytes and seconds at which libFuzzer ends the run: a case that small must not need so much.
MOST_MEMORY, MOST_SECONDS = 2048, 30


def atheris_if_any() -> ModuleType | None:
    """Return atheris, or None where it is not installed."""
    return import_module("atheris") if find_spec("atheris") else None


def main(name: str, cases: int, seed: int, folder: Path) -> None:
    """Check so many cases; write the tally into `folder`, and what reached new branches into its ``kept``."""
    atheris = atheris_if_any()
    instrumented: AbstractContextManager[Any] = (
        atheris.instrument_imports(include=list(INSTRUMENTED), enable_loader_override=False)
        if atheris
        else nullcontext()
    )
    with instrumented:
        import_module("django").setup()
        run = import_module("tests.fuzz.run")
    run.use_our_tasks()
    import_module("logging").disable()
    if atheris:
        _guide(atheris, run.TARGETS[name], cases, seed, folder)
        return
    tally = run.run(run.TARGETS[name], cases=cases, seed=seed)
    (folder / f"{name}.json").write_text(tally.as_json())


def _guide(atheris: Any, target: Any, cases: int, seed: int, folder: Path) -> None:
    run, mutator = import_module("tests.fuzz.run"), import_module("tests.fuzz.mutator")
    tally, name = run.Tally(target), target.name
    kept = folder / "kept" / name
    kept.mkdir(parents=True)
    chance = Random(f"{seed} {name}")
    for number in range(SEEDS):
        (kept / f"valid-{number}").write_bytes(mutator.joined(target.valid(chance)))
    origin = run.VALID

    def change(data: bytes, _largest: int, its_seed: int) -> bytes:
        nonlocal origin
        own = Random(its_seed)
        if own.randrange(100) < FRESH:
            origin = run.MUTATED
            return bytes(mutator.joined(mutator.mutated(target.valid(own), own))[:LARGEST_CASE])
        origin = run.EVOLVED
        return bytes(mutator.joined(mutator.mutated(mutator.parted(data), own))[:LARGEST_CASE])

    def check(data: bytes) -> None:
        nonlocal origin
        tally.note(mutator.parted(data), origin)
        origin = run.VALID

    def end() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)  # libFuzzer's alarm, which a Python that ends has no answer to any more
        (folder / f"{name}.json").write_text(tally.as_json())

    atexit.register(end)
    options = {
        "atheris_runs": cases,
        "seed": seed,
        "max_len": LARGEST_CASE,
        "mutate_depth": 1,
        "cross_over": 0,
        "rss_limit_mb": MOST_MEMORY,
        "timeout": MOST_SECONDS,
        "len_control": 0,
        "print_final_stats": 1,
        "reload": 0,
        "artifact_prefix": f"{folder}/",
    }
    arguments = [sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), str(kept)]
    atheris.Setup(arguments, check, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
