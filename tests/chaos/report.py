"""What came of a run: as data for the long form, and for a person to read."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.chaos.checker import Verdict
from tests.chaos.history import Event

MOST_PROBLEMS: Final = 25
#: The breaches that have a row of their own.
NAMED: Final = {"lost": ("lost", "unrun"), "stuck": ("stuck",), "unexplained": ("repeated",)}

Part = dict[str, Any]


def part(verdict: Verdict, chronicle: Iterable[Event], facts: Mapping[str, object]) -> Part:
    """Return what is kept of a run. `chronicle` holds its events missed and dead, `facts` the rest."""
    kinds = verdict.kinds
    by_name: defaultdict[str, list[Event]] = defaultdict(list)
    for event in chronicle:
        by_name[event["event"]].append(event)
    return {
        **facts,
        "passed": not verdict.problems,
        "tasks": verdict.promises["confirmed"],
        "promises": dict(sorted(verdict.promises.items())),
        "kinds": dict(sorted(verdict.tasks.items())),
        "executions": verdict.executions,
        "faults": dict(sorted(verdict.faults.items())),
        "missed": dict(sorted(Counter(event["kind"] for event in by_name["missed"]).items())),
        "moments": dict(sorted(verdict.moments.items())),
        "takeovers": verdict.takeovers,
        "explained": verdict.explained,
        "unrecognised": verdict.unrecognised,
        "postponed": verdict.postponed,
        "retried": verdict.retried,
        "deaths": verdict.deaths,
        "cut_short": verdict.cut_short,
        "dead": len(by_name["dead"]),
        **{name: sum(kinds[kind] for kind in those) for name, those in NAMED.items()},
        "breaches": dict(sorted(kinds.items())),
        "healed": {kind: [round(one, 3) for one in seconds] for kind, seconds in sorted(verdict.healing.items())},
        "problems": [str(problem) for problem in verdict.problems[:MOST_PROBLEMS]],
    }


def write(path: Path, found: Mapping[str, object]) -> None:
    """Write JSON as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def fault_line(event: Event, began: float) -> str:
    """Return one fault in words."""
    pids = ", ".join(map(str, event["victims"]))
    moment = f" ({event['moment']})" if event["moment"] else ""
    return f"{event['since'] - began:7.2f} s  {event['kind']}{moment}: pid {pids}: {event['proof']}"


def lines(found: Part) -> list[str]:
    """Return a run in words."""
    mutant = f", mutant {found['mutant']}" if found["mutant"] else ""
    breaches, problems = found["breaches"], found["problems"]
    others = {name: count for name, count in breaches.items() if not any(name in those for those in NAMED.values())}
    rows = {
        "tasks": f"{sum(found['promises'].values())} ({_counts(found['promises'])})",
        "executions": f"{found['executions']}",
        "faults": f"{sum(found['faults'].values())} ({_counts(found['faults'])})",
        "missed": _counts(found["missed"]),
        "moments": _counts(found["moments"]),
        "workers taken over": found["takeovers"],
        "run again, explained": found["explained"],
        "second copies run": found["unrecognised"],
        "put off by a clock": found["postponed"],
        "tried again": found["retried"],
        "killed by tasks": found["deaths"],
        "at most once, cut short": found["cut_short"],
        "kept as dead": found["dead"],
        "run again, unexplained": found["unexplained"],
        "lost": found["lost"],
        "stuck": found["stuck"],
        "other breaches": _counts(others),
    }
    more = sum(breaches.values()) - len(problems)
    return [
        f"chaos: {found['place']}, seed {found['seed']}{mutant}",
        *(f"  {name:24}{value or 0}" for name, value in rows.items()),
        *(f"  {problem}" for problem in problems),
        *([f"  ... and {more} more"] if more > 0 else []),
        f"  {'passed' if found['passed'] else 'FAILED'} after {found['seconds']} s",
    ]


def _counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counter.items()))
