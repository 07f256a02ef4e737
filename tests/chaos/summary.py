"""What all parts of the long form came to: as data, for a person, and as a table for docs/reliability.rst."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from tests.chaos.place import PLACES
from tests.chaos.report import Part

COUNTS: Final = (
    *(
        "tasks",
        "executions",
        "takeovers",
        "explained",
        "unrecognised",
        "postponed",
        "retried",
        "deaths",
        "cut_short",
        "dead",
    ),
    *("unexplained", "lost", "stuck"),
)
COUNTERS: Final = ("promises", "kinds", "faults", "missed", "moments", "breaches")
#: Rows of the first table: what is counted, and its words.
ROWS: Final = {
    "parts": "parts",
    "tasks": "tasks, confirmed",
    "executions": "executions",
    "faults": "faults",
    "sorts": "kinds of faults",
    "takeovers": "workers taken over",
    "retried": "attempts after the first",
    "deaths": "processes ended by tasks",
    "explained": "run again, explained",
    "unrecognised": "second copies that ran",
    "postponed": "put off by a wrong clock",
    "unexplained": "run again, unexplained",
    "lost": "lost",
    "stuck": "stuck",
    "cut_short": "at most once, and cut short",
    "dead": "kept as dead, as expected",
    "others": "other breaches",
}

Summary = dict[str, Any]


def of(parts: Sequence[Part], *, seed: str) -> Summary:
    """Return the sums of each place, and of all."""
    by_place: defaultdict[str, list[Part]] = defaultdict(list)
    for part in parts:
        by_place[part["place"]].append(part)
    places = {name: _sums(its) for name, its in by_place.items()}
    total = _sums(parts)
    return {"seed": seed, "passed": bool(parts) and total["passed"], "total": total, "places": places}


def _sums(parts: Iterable[Part]) -> Summary:
    parts = list(parts)
    healed: defaultdict[str, list[float]] = defaultdict(list)
    for part in parts:
        for kind, seconds in part["healed"].items():
            healed[kind] += seconds
    return {
        "parts": len(parts),
        "passed": all(part["passed"] for part in parts),
        "seconds": round(sum(part["seconds"] for part in parts), 1),
        **{name: sum(part[name] for part in parts) for name in COUNTS},
        **{name: dict(sorted(_added(part[name] for part in parts).items())) for name in COUNTERS},
        "recovery": {kind: _span(seconds) for kind, seconds in sorted(healed.items())},
        "seeds": [part["seed"] for part in parts],
        "failed": [part["seed"] for part in parts if not part["passed"]],
        "versions": _versions(parts),
    }


def hits(parts: Iterable[Part]) -> dict[str, int]:
    """Return how often each kind of fault has hit in these parts."""
    return dict(sorted(_added(part["faults"] for part in parts).items()))


def _added(counters: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _span(seconds: Sequence[float]) -> dict[str, float]:
    return {"times": len(seconds), "min": min(seconds), "median": round(median(seconds), 3), "max": max(seconds)}


def _versions(parts: Iterable[Part]) -> dict[str, str]:
    """Return the versions; both, if a part of a resumed run had another one."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for part in parts:
        for name, version in part["versions"].items():
            if version not in found[name]:
                found[name].append(version)
    return {name: ", ".join(those) for name, those in found.items()}


def lines(found: Summary) -> list[str]:
    """Return the sums in words."""
    columns = {**found["places"], "all": found["total"]}
    width = max(map(len, [*columns, "1,000,000"])) + 2
    head = " " * 34 + "".join(name.rjust(width) for name in columns)
    rows = [
        f"  {text:32}" + "".join(_cell(its, key).rjust(width) for its in columns.values()) for key, text in ROWS.items()
    ]
    failed = [f"  failed: {seed}" for seed in found["total"]["failed"]]
    return [head, *rows, *failed, f"  {'passed' if found['passed'] else 'FAILED'}"]


def table(found: Summary) -> str:
    """Return tables in reStructuredText: the sums, the versions, and the seeds."""
    places = found["places"]
    titles = [PLACES[name].title for name in places]
    columns = [*places.values(), found["total"]]
    sums = [[text, *(_cell(its, key) for its in columns)] for key, text in ROWS.items()]
    versions = [[name, version] for name, version in found["total"]["versions"].items()]
    seeds = [[PLACES[name].title, f"{its['seeds'][0]} ... {its['seeds'][-1]}"] for name, its in places.items()]
    return _page(_rst(["", *titles, "all"], sums), _rst(["used", "version"], versions), _rst(["place", "seeds"], seeds))


def table_of_faults(found: Summary) -> str:
    """Return a table in reStructuredText: each kind of fault, how often it hit, and the seconds until all was well."""
    titles = [PLACES[name].title for name in found["places"]]
    kinds = [_kind(kind, found) for kind in found["total"]["faults"]]
    return _page(_rst(["fault", *titles, "healed after: least s", "median s", "most s"], kinds))


def _page(*tables: str) -> str:
    return "\n\n".join((".. Written by python -m tests.chaos --long; do not edit.", *tables)) + "\n"


def _kind(kind: str, found: Summary) -> list[str]:
    span = found["total"]["recovery"].get(kind)
    times = [f"{span[name]:.1f}" for name in ("min", "median", "max")] if span else [""] * 3
    return [kind, *(str(its["faults"].get(kind, 0)) for its in found["places"].values()), *times]


def _cell(its: Summary, key: str) -> str:
    match key:
        case "faults":
            value = sum(its["faults"].values())
        case "sorts":
            value = len(its["faults"])
        case "others":
            value = sum(its["breaches"].values()) - sum(its[name] for name in ("unexplained", "lost", "stuck"))
        case _:
            value = its[key]
    return f"{value:,}"


def _rst(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if number == 0 else ' '} - {cell}".rstrip() for number, cell in enumerate(row)]
    return "\n".join(lines)
