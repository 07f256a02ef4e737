"""Which branches of the decoders the cases have reached: those that were kept, checked once more under coverage.

A program of its own: ``python -m tests.fuzz.branches FOLDER SEED``. What libFuzzer keeps has reached all that any case
has; coverage.py on a million of them would take hours.
"""

import ast
import json
import logging
import os
import sys
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import coverage

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.shop.settings")
#: Cases of each target beside those that were kept.
MORE = 2000

#: What reads, module by module. The rest of a module writes, waits or connects, and has tests of its own.
DECODERS: dict[str, tuple[str, ...]] = {
    "celery.message": (
        *("unpack_headers", "from_json", "_object_hook", "decode", "_loaded", "_call_of", "_typed", "_named"),
        *("_counter", "_text", "sane", "is_name", "name_in", "_moment"),
    ),
    "celery.broker.amqp.frames": ("Inbox", "read_deliver"),
    "celery.broker.amqp.properties": ("delivery_of", "task_id_of", "packed", "_is_json"),
    "celery.broker.redis.envelope": ("read", "_arrival", "_text", "_priority", "_body"),
    "celery.broker.store.statements": ("as_bytes",),
    "celery.broker.store.base": ("deliveries", "_packed", "_rank", "relayed_message"),
    "celery.worker.job": ("unpack", "unpack_answers", "consequences", "_unknown", "_dead", "_again", "as_message"),
    "celery.task.callables": ("check",),
    "celery.backends.exceptions": (
        *("load", "_rebuilt", "_stand_in", "_imported_class", "_contents", "_is_class", "_is_exception", "_made"),
        *("_is_place", "create_exception_cls"),
    ),
    "celery.backends.records": ("from_text", "_is_sound"),
    "celery.backends.tyrant.protocol": ("Answers", "_succeeded", "_value", "_size", "_values", "_elements", "_lines"),
    "celery.backends.tyrant": ("_keys", "_is_over", "_head", "_read", "_first_minute"),
    "celery.platform": ("get_pid", "_refuse_what_is_no_pid_file", "umask_of"),
    "celery.conf.setting": ("Setting", "_number"),
    "celery.conf.project": ("_classic_broker_url", "_quoted", "_text", "_shown"),
    "celery.checks.values": ("sound", "has_type", "shown", "shown_of", "broker_url"),
}


def main(folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Return statements and branches of each module that a target names, and how many were reached."""
    measured = coverage.Coverage(branch=True, source_pkgs=["celery"], data_file=None, config_file=False)
    measured.start()
    import_module("django").setup()
    run = import_module("tests.fuzz.run")
    run.use_our_tasks()
    logging.disable()
    for target in run.TARGETS.values():
        tally = run.run(target, cases=MORE // 20 if target.share < 0.02 else MORE, seed=seed)
        for path in sorted((folder / "kept" / target.name).glob("*")):
            tally.note(import_module("tests.fuzz.mutator").parted(path.read_bytes()), run.EVOLVED)
    measured.stop()
    return {name: _figures(measured, name) for name in DECODERS}


def _figures(measured: coverage.Coverage, module: str) -> dict[str, Any]:
    path = Path(str(sys.modules[module].__file__))
    lines = _lines(path, DECODERS[module])
    analysis = measured._analyze(str(path))
    branches = {line: counts for line, counts in analysis.branch_stats().items() if line in lines}
    statements = analysis.statements & lines
    return {
        "statements": len(statements),
        "statements_reached": len(statements - analysis.missing),
        "branches": sum(total for total, _ in branches.values()),
        "branches_reached": sum(taken for _, taken in branches.values()),
        "missing_lines": sorted({line for line, (total, taken) in branches.items() if taken < total}),
    }


def _lines(path: Path, names: Collection[str]) -> set[int]:
    """Return the lines of the functions and classes called so; each name has to be there."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds) and node.name in names]
    if missing := set(names) - {node.name for node in found}:
        raise LookupError(f"{path.name} has no {sorted(missing)} any more: say what reads there now")
    return {line for node in found for line in range(node.lineno, int(node.end_lineno or 0) + 1)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
