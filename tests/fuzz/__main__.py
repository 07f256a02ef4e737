"""The long form: a million hostile cases, and a report of what became of them.

``make fuzz``, or ``python -m tests.fuzz --cases 1000000 --seed 5``. Each target is a process of its own (`guided`), and
what it kept is checked once more for the branches that it reaches (`branches`). The exit code is 1 if there was a
finding. ``report.json`` and ``corpus.json`` stand beside this file.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REPORT, CORPUS = HERE / "report.json", HERE / "corpus.json"
#: The targets, and what each has of the cases; a test compares them with the table of targets, which needs Django.
SHARES = {
    "body": 0.16,
    "frames": 0.12,
    "redis": 0.09,
    "row": 0.07,
    "work": 0.04,
    "datagram": 0.05,
    "seal": 0.08,
    "exception": 0.14,
    "result": 0.1,
    "tyrant": 0.11,
    "pidfile": 0.035,
    "setting": 0.005,
}
#: Samples are kept of reasons that were met so often.
COMMON, OTHER = 3, "(other reasons)"
PACKAGES = ("Django", "kombu", "amqp", "PyYAML", "hypothesis", "coverage")


def main() -> int:
    """Run all targets; return the exit code."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="celery-fuzz-") as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            tallies = list(pool.map(lambda target: _run(target, options, folder), options.targets))
        branches = _branches(folder, options.seed)
    report = _report(options, tallies, branches)
    options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.corpus:
        _keep_samples(tallies)
    _print(report)
    return 1 if any(one["findings"] for one in report["targets"].values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Hostile input, a million cases of it.")
    parser.add_argument("--cases", type=int, default=1_000_000, help="cases of all targets together")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="for the same cases again")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--targets", nargs="*", default=list(SHARES), choices=list(SHARES), help="not all of them")
    parser.add_argument("--folder", type=Path, help="to go on with: targets that have ended there are not run again")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the report is written")
    parser.add_argument("--corpus", action="store_true", help="keep samples of what was refused beside the tests")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.cases:,} cases", flush=True)
    return options


def _run(target: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one target in a process of its own, and return its tally."""
    cases = round(options.cases * SHARES[target])
    path = folder / f"{target}.json"
    if path.exists():
        return _ended(path)
    shutil.rmtree(folder / "kept" / target, ignore_errors=True)
    with (folder / f"{target}.log").open("wb") as log:
        command = [sys.executable, "-m", "tests.fuzz.guided", target, str(cases), str(options.seed), str(folder)]
        ended = subprocess.run(command, cwd=ROOT, env=_environment(), stdout=log, stderr=log, check=False)
    if ended.returncode or not path.exists():
        words = (folder / f"{target}.log").read_text(errors="replace")[-4000:]
        print(f"{target}: ended with exit code {ended.returncode}\n{words}", flush=True)
        raise SystemExit(2)
    tally = _ended(path)
    print(f"{target}: {cases:,} cases in {tally['seconds']:.0f} s, {len(tally['findings'])} findings", flush=True)
    return tally


def _ended(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _environment() -> dict[str, str]:
    return {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.shop.settings"}


def _branches(folder: Path, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.fuzz.branches", str(folder), str(seed)]
    ended = subprocess.run(command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _report(options: argparse.Namespace, tallies: list[dict[str, Any]], branches: dict[str, Any]) -> dict[str, Any]:
    origins = {kind: sum(one["origins"].get(kind, 0) for one in tallies) for kind in ("valid", "mutated", "evolved")}
    return {
        "seed": options.seed,
        "cases": sum(origins.values()),
        "origins": origins,
        "mutations_of_valid_input": round(origins["mutated"] / max(1, sum(origins.values())), 3),
        "seconds": round(sum(one["seconds"] for one in tallies)),
        "versions": {"Python": platform.python_version(), "guided by": _guide(), **_versions()},
        "branches": {
            module: {
                **found,
                "share": round(found["branches_reached"] / found["branches"], 3) if found["branches"] else 1.0,
            }
            for module, found in branches.items()
        },
        "targets": {one["target"]: _of_target(one) for one in tallies},
    }


def _guide() -> str:
    return f"atheris {version('atheris')}" if find_spec("atheris") else "nothing"


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def _of_target(tally: dict[str, Any]) -> dict[str, Any]:
    reasons = dict(sorted(tally["reasons"].items(), key=lambda pair: -pair[1]))
    accepted = reasons.pop("accepted", 0)
    return {
        "cases": sum(tally["origins"].values()),
        "origins": tally["origins"],
        "accepted": accepted,
        "refused": sum(reasons.values()),
        "seconds": round(tally["seconds"], 1),
        "slowest_case_seconds": round(tally["slowest"], 3),
        "findings": tally["findings"],
        "reasons": reasons,
    }


def _keep_samples(tallies: list[dict[str, Any]]) -> None:
    corpus = {
        one["target"]: {
            reason: samples
            for reason, samples in sorted(one["samples"].items())
            if samples and one["reasons"][reason] >= COMMON and reason != OTHER
        }
        for one in tallies
    }
    CORPUS.write_text(json.dumps(corpus, indent=1) + "\n", encoding="utf-8")


def _print(report: dict[str, Any]) -> None:
    print(f"\n{'target':<12}{'cases':>10}{'accepted':>10}{'refused':>10}{'reasons':>9}{'findings':>9}{'seconds':>9}")
    for name, one in report["targets"].items():
        figures = (one["cases"], one["accepted"], one["refused"], len(one["reasons"]), len(one["findings"]))
        print(f"{name:<12}{figures[0]:>10,}{figures[1]:>10,}{figures[2]:>10,}{figures[3]:>9}{figures[4]:>9}", end="")
        print(f"{one['seconds']:>9.0f}")
    print(f"\n{'decoders of':<36}{'statements':>12}{'reached':>9}{'branches':>10}{'reached':>9}")
    for module, found in report["branches"].items():
        print(f"{module:<36}{found['statements']:>12}{found['statements_reached']:>9}", end="")
        print(f"{found['branches']:>10}{found['branches_reached']:>9}")
    for name, one in report["targets"].items():
        for key, finding in one["findings"].items():
            print(f"\nFINDING in {name}: {key}, {finding['count']} times\n{finding['text']}")
    print(f"\nseed {report['seed']}: {report['cases']:,} cases, {report['origins']}, {report['seconds']} s")


if __name__ == "__main__":
    sys.exit(main())
